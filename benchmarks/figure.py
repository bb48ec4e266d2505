"""The figure of the throughput benchmark, drawn from the contents of its JSON file."""

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from modeledit_jax.report.style import DPI
from modeledit_jax.run.files import atomic_write_bytes

_WORLDS = {"shift": ("ShiftWorld", "#0072B2", "o"), "mask": ("MaskWorld", "#56B4E9", "s")}
_BASELINES = {
    "full_forward": ("full forward pass per candidate", "#D55E00"),
    "torch_loop": ("PyTorch loop over candidates", "#8C564B"),
}


def draw(results: dict[str, Any], path: str | Path) -> Figure:
    """Writes three panels as PNG: number of candidates, depth of the prefix, share of PPO."""
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    candidates, depth, ppo = figure.subplots(1, 3, width_ratios=(1.5, 1.0, 1.0))
    _draw_candidates(candidates, results)
    _draw_depth(depth, results)
    _draw_ppo(ppo, results)
    device = results["device"]
    figure.suptitle(
        f"Reward evaluations on {device['name']} ({device['cpu_model']}), "
        f"jax {results['software']['jax']}: medians with quartiles of "
        f"{results['settings']['rounds']} rounds"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    atomic_write_bytes(path, buffer.getvalue())
    return figure


def _draw_candidates(axes: Axes, results: dict[str, Any]) -> None:
    section, settings = results["candidates"], results["settings"]
    rates, ratios = section["evaluations_per_second"], section["ratios"]
    numbers = list(settings["candidates"])
    for world, (label, color, marker) in _WORLDS.items():
        points = [rates[f"{world}-{number}"] for number in numbers]
        share = ratios[f"peak_fraction_{world}"]["median"]
        label = f"{label}: {share:.0%} of peak at {settings['headline']:,}"
        _line(axes, numbers, points, label, color, marker)
    axes.plot(
        settings["headline"],
        rates["soft_reward"]["median"],
        "*",
        color="#0072B2",
        markersize=11,
        zorder=3,
        markeredgecolor="white",
        label="ShiftWorld, soft reward",
    )
    peak = section["peak_flops_per_second"]["median"] / section["flops_per_evaluation"]
    axes.axhline(peak, color="#000000", label="peak of products, the layer multiplied out")
    axes.axhline(peak / 2, color="#000000", linestyle=":", label="half of it")
    for name, (label, color) in _BASELINES.items():
        if name in rates:
            factor = ratios[f"speedup_over_{name}"]["median"]
            axes.axhline(
                rates[name]["median"],
                color=color,
                linestyle="--",
                label=f"{label} (1/{factor:.0f})",
            )
    axes.set_yscale("log")
    lowest, highest = axes.get_ylim()
    axes.set_ylim(lowest, highest * 1.5)
    _candidate_ticks(axes, numbers)
    axes.set_xlabel("candidate edits in one call")
    axes.set_ylabel("evaluations per second")
    axes.set_title(f"128×32 layer, {settings['examples']:,} images, rank 4")
    axes.legend(fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.42))


def _draw_depth(axes: Axes, results: dict[str, Any]) -> None:
    rates, depths = results["depth"]["evaluations_per_second"], results["settings"]["depths"]
    for name, label, color, marker in (
        ("environment", "environment step (cached prefix)", "#0072B2", "o"),
        ("full_forward", "full forward pass", "#D55E00", "D"),
    ):
        first = rates[f"{name}-{depths[0]}"]["median"]
        points = [
            {key: value / first for key, value in rates[f"{name}-{depth}"].items()}
            for depth in depths
        ]
        _line(axes, list(depths), points, label, color, marker)
    axes.axhspan(0.9, 1.1, color="#0072B2", alpha=0.12, linewidth=0, label="within 10 %")
    axes.set_ylim(0, 1.45)
    _candidate_ticks(axes, depths)
    axes.set_xlabel("depth of the convolutional prefix (multiple)")
    axes.set_ylabel("evaluations per second, relative")
    axes.set_title("A deeper prefix costs nothing")
    axes.legend(fontsize=8, loc="upper right")


def _draw_ppo(axes: Axes, results: dict[str, Any]) -> None:
    section = results["ppo"]
    per_update, rates = section["evaluations_per_update"], section["evaluations_per_second"]
    bars = {"weights\nobserved": "weights", "time alone\nobserved": "time"}
    totals = [1e3 * per_update / rates[f"training_{name}"]["median"] for name in bars.values()]
    shares = [section["ratios"][f"ppo_share_{name}"]["median"] for name in bars.values()]
    rest = [total * (1 - share) for total, share in zip(totals, shares, strict=True)]
    learning = [total * share for total, share in zip(totals, shares, strict=True)]
    axes.bar(list(bars), rest, 0.55, color="#0072B2", label="environment")
    axes.bar(list(bars), learning, 0.55, bottom=rest, color="#E69F00", label="PPO's own work")
    for index, (total, share) in enumerate(zip(totals, shares, strict=True)):
        axes.text(index, total, f"{share:.0%}", ha="center", va="bottom")
    axes.set_ylim(0, 1.35 * max(totals))
    axes.set_ylabel("milliseconds per update")
    examples = results["settings"]["ppo_examples"]
    axes.set_title(f"PPO's share of an update:\n{per_update:.0f} edits on {examples:,} images")
    axes.legend(fontsize=8, loc="upper right")


def _line(
    axes: Axes, x: list[int], points: list[dict[str, float]], label: str, color: str, marker: str
) -> None:
    """Medians with quartiles as error bars."""
    middle = [point["median"] for point in points]
    below = [point["median"] - point["low"] for point in points]
    above = [point["high"] - point["median"] for point in points]
    axes.errorbar(x, middle, (below, above), label=label, color=color, marker=marker, capsize=3)


def _candidate_ticks(axes: Axes, numbers: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
