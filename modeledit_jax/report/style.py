"""How figures look: one fixed style for each method, labels, fonts, files.

Built on `matplotlib.figure.Figure` alone: no pyplot, so no backend is chosen, no global state is
touched and a headless machine draws the same picture. Every method has one style in every figure,
that of its preset, with marker and line besides the color so that figures also read in gray. Colors
are of Okabe and Ito's palette, safe for the common forms of color blindness; mask and shift of one
search share a hue family and a marker and differ in line style.
"""

import dataclasses
import io
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modeledit_jax.presets.preset import Style, load_preset, preset_families, preset_names
from modeledit_jax.run.files import atomic_write_bytes

DPI = 150
FONT = 11
"""Points of axis labels, from which the other sizes follow."""

_OTHER_COLORS = ("#332288", "#999933", "#661100", "#A6D854", "#AA4499", "#B3A5D6")
_OTHER_MARKERS = ("D", "p", "h", "<", ">")


def method_style(name: str, styles: Mapping[str, Style] | None = None) -> Style:
    """The style of a method.

    Args:
      name: of the method, or what stands for it in a legend.
      styles: of names that no preset of the project has.

    Returns:
      That of ``styles``, or of its preset, or else one from a hash of the name.
    """
    return (styles or {}).get(name) or _known_style(name)


@cache
def _known_style(name: str) -> Style:
    for family in preset_families():
        if name in preset_names(family) and (style := load_preset(name, family).style):
            return style
    code = zlib.crc32(name.encode())
    color = _OTHER_COLORS[code % len(_OTHER_COLORS)]
    marker = _OTHER_MARKERS[code // len(_OTHER_COLORS) % len(_OTHER_MARKERS)]
    return Style(color, marker, "-.")


def dotted(style: Style) -> Style:
    """The same, with a dotted line: a method that starts elsewhere, say."""
    return dataclasses.replace(style, line=":")


def dress(axes: Axes, xlabel: str, ylabel: str, title: str, grid: bool = True) -> None:
    """Labels, readable tick size, a light grid behind the data and no box."""
    axes.set_xlabel(xlabel, fontsize=FONT)
    axes.set_ylabel(ylabel, fontsize=FONT)
    axes.set_title(title, fontsize=FONT + 1)
    axes.tick_params(labelsize=FONT - 1)
    if grid:
        axes.grid(color="#DDDDDD", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: str | Path) -> Figure:
    """Renders to memory, then writes the PNG in one step; returns the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    atomic_write_bytes(path, buffer.getvalue())
    return figure
