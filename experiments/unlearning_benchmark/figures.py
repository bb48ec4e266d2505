"""The figure of the benchmark: how far every method is from retraining, outside and inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.unlearning_benchmark.statistics import RATIOS, Statistics
from modeledit_jax.evaluation.statistics import Interval
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.floor_plot import Panel, Scale, floor_plot
from modeledit_jax.report.table import Row

PANELS: dict[str, tuple[str, Scale]] = {
    "tow": ("1 − Tug-of-War", "log"),
    "total_variation_forget_test": ("total variation\non forget", "linear"),
    "prototype_gap_1_layer_1": ("1-shot prototype gap,\nlast layer", "linear"),
    "relearn_index_fresh": ("relearn index,\nfresh last layer", "log"),
}


def draw_distances(
    folder: Path, rows: Sequence[Row], found: Sequence[Statistics], styles: Mapping[str, Style]
) -> None:
    """Draws ``distances.png``: the best of the first panel on top."""
    by_metric: dict[str, dict[str, Statistics]] = {}
    for one in found:
        by_metric.setdefault(one.metric, {})[one.method] = one
    names = sorted(by_metric["tow"], key=lambda name: -by_metric["tow"][name].hierarchical.point)
    panels = [
        _panel(metric, title, scale, by_metric[metric])
        for metric, (title, scale) in PANELS.items()
        if metric in by_metric
    ]
    cells = len({(row.task, row.seed) for row in rows})
    title = f"How far from retraining: interquartile means of {cells} cells, 95% intervals"
    floor_plot(names, panels, folder / "distances.png", title=title, styles=styles)


def _panel(metric: str, title: str, scale: Scale, own: Mapping[str, Statistics]) -> Panel:
    margin = next(iter(own.values())).margin
    if metric == "tow":
        flipped = {
            name: Interval(
                *(1 - value for value in (one.hierarchical[0], *one.hierarchical[:0:-1]))
            )
            for name, one in own.items()
        }
        return Panel(title, flipped, (0.0, margin), scale)
    intervals = {name: one.hierarchical for name, one in own.items()}
    low = 0.0 if metric.startswith("total_variation") else -margin
    floor = (2.0**-margin, 2.0**margin) if metric.startswith(RATIOS) else (low, margin)
    return Panel(title, intervals, floor, scale)
