import matplotlib
import numpy as np

from modeledit_jax.report.curves import learning_curves
from modeledit_jax.report.matrices import edit_heatmap
from modeledit_jax.report.style import dotted, method_style

METHODS = [
    *("original", "retrain", "retrain-2", "logit-mask"),
    *(f"{search}-{operator}" for search in ("ppo", "openes", "snes", "random-search")
      for operator in ("mask", "shift")),
]  # fmt: skip


def test_every_method_of_a_figure_has_its_own_fixed_color():
    assert len({method_style(name).color for name in METHODS}) == len(METHODS)
    elsewhere = dotted(method_style("ppo-shift"))
    assert elsewhere.color == method_style("ppo-shift").color
    assert elsewhere.line == ":" != method_style("ppo-shift").line
    other = method_style("never-heard-of")
    assert other == method_style("never-heard-of")
    assert other.color not in {method_style(name).color for name in METHODS}


def test_figures_touch_no_global_state(tmp_path, rng):
    before = dict(matplotlib.rcParams)
    edit_heatmap({"a": rng.normal(size=(4, 4))}, tmp_path / "a.png")
    learning_curves({"ft": rng.uniform(size=(3, 3))}, {"ft": np.arange(1, 4)}, "y", tmp_path / "b")
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "b").read_bytes().startswith(b"\x89PNG")
