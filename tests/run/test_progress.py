"""Bars of a run of several parts."""

import numpy as np

from modeledit_jax.run.progress import Progress


def test_parts_follow_one_another(capsys):
    with Progress("editing", 2, ("loss",)) as bars:
        report = bars.reporter("first: training")
        report(5, 20, {"loss": np.full(5, 0.25), "other": np.zeros(5)})
        report(20, 20, {"loss": np.full(15, 0.125)})
        bars.one_done()
        bars.reporter("second: editing")(1, 3, {})
        bars.one_done()
    shown = capsys.readouterr().err
    assert "2/2" in shown and "first: training" in shown and "second: editing" in shown
    assert "loss=0.250" in shown and "other" not in shown


def test_what_reports_nothing_shows_its_name_alone(capsys):
    with Progress("editing", 1) as bars:
        bars.reporter("part")(3, 4, {"loss": np.ones(3)})
    assert "loss" not in capsys.readouterr().err
