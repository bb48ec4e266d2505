"""Bars of a run of several parts."""

import numpy as np

from modeledit_jax.run.progress import Progress


def test_parts_follow_one_another(capsys):
    with Progress("editing", 2, ("loss",)) as bars:
        report = bars.reporter("first: training")
        report(5, 20, {"loss": np.full(5, 0.25), "other": np.zeros(5)})
        assert bars._part.postfix == "loss=0.250"
        report(20, 20, {"loss": np.full(15, 0.125)})
        assert bars._part.n == 20
        bars.one_done()
        bars.reporter("second: editing")(1, 3, {})
        bars.one_done()
    shown = capsys.readouterr().err
    assert "2/2" in shown and "first: training" in shown and "second: editing" in shown


def test_only_what_is_to_be_shown_is(capsys):
    with Progress("editing", 1) as bars:
        bars.reporter("part")(3, 4, {"loss": np.ones(3)})
        assert not bars._part.postfix and bars._part.total == 4
