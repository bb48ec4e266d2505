"""The figure of the comparison with peers, drawn from the contents of its JSON file."""

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from modeledit_jax.report.style import DPI
from modeledit_jax.run.files import atomic_write_bytes

_NAMES = {
    "ppo": "PPO (ours)",
    "openes": "OpenES (ours)",
    "evosax_openes": "OpenES (evosax)",
    "torch_loop": "PyTorch loop, no learning",
    "sb3_cached": "PPO (SB3), cached features",
    "sb3_full": "PPO (SB3), full forward",
    "own": "PPO (ours)",
    "rejax": "PPO (rejax)",
}
_OWN, _PEER = "#0072B2", "#D55E00"


def draw(results: dict[str, Any], path: str | Path) -> Figure:
    """Writes a panel for every section as PNG: rates with quartiles, ours in blue."""
    sections = [("reward evaluations", f"{size} images", section)
                for size, section in results["searches"].items()]  # fmt: skip
    sections += [("steps of CartPole", f"{size} environments", section)
                 for size, section in results["control"].items()]  # fmt: skip
    figure = Figure(figsize=(5.2 * len(sections), 3.6), layout="constrained")
    panels = figure.subplots(1, len(sections), squeeze=False)[0]
    for axes, (unit, title, section) in zip(panels, sections, strict=True):
        _bars(axes, section["per_second"])
        axes.set_xlabel(f"{unit} per second")
        axes.set_title(title)
    device = results["device"]
    figure.suptitle(f"{device['name']} ({device['cpu_model']}): medians with quartiles of "
                    f"{results['settings']['rounds']} rounds")  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    atomic_write_bytes(path, buffer.getvalue())
    return figure


def _bars(axes: Axes, rates: dict[str, dict[str, float]]) -> None:
    shown = sorted((name for name in rates if name in _NAMES), key=lambda n: rates[n]["median"])
    middle = [rates[name]["median"] for name in shown]
    below = [rates[name]["median"] - rates[name]["low"] for name in shown]
    above = [rates[name]["high"] - rates[name]["median"] for name in shown]
    colors = [_OWN if "ours" in _NAMES[name] else _PEER for name in shown]
    axes.barh([_NAMES[n] for n in shown], middle, xerr=(below, above), color=colors, capsize=3)
    if max(middle) > 5 * min(middle):
        axes.set_xscale("log")
        axes.set_xlim(min(middle) / 3, 8 * max(middle))
    else:
        axes.set_xlim(0, 1.5 * max(middle))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for row, value in enumerate(middle):
        text = f"{value:,.0f}"
        axes.annotate(text, (value, row), (22, 0), textcoords="offset points", va="center")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
