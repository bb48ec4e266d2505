"""What the tests of all figures look at: the file, its legend, and what is drawn."""

import numpy as np
from matplotlib.collections import LineCollection, PathCollection
from PIL import Image


def assert_png(path, figure):
    """A readable PNG of the figure's size that is not blank, with nothing left beside it."""
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        np.testing.assert_allclose(image.size, figure.get_size_inches() * 150, atol=1)
        assert min(image.size) > 400 and max(image.size) < 4000
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def dots(axes):
    """Offsets of every scatter, in the order drawn."""
    return [np.asarray(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)]


def segments(axes):
    """``[rows, 2, 2]`` of every call of ``hlines``."""
    lines = [c for c in axes.collections if isinstance(c, LineCollection)]
    return [np.asarray(c.get_segments()) for c in lines]


def assert_legend_within(figure):
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    page = figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
