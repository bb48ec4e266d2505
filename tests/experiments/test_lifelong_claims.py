from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from experiments.lifelong_editing.claims import (
    Claim,
    Term,
    claim_lines,
    of_ours,
    of_papers,
    verdict,
)
from modeledit_jax.evaluation.statistics import Interval
from modeledit_jax.presets.preset import preset_names

EDITS = np.array([10, 20, 50, 100, 1000])


def run_of(*overall, retention=None):
    """What the claims read of a run."""
    curves = {"overall": np.array(overall, float)}
    curves["retention"] = np.array(overall if retention is None else retention, float)
    return SimpleNamespace(edits=EDITS, curves=curves)


def streams(ends, early=0.5, **curves):
    """A run for every seed, with what is scored early and at the end."""
    return {seed: run_of(0, 0, 0, early, end, **curves) for seed, end in enumerate(ends)}


def test_early_is_after_a_tenth_of_the_edits():
    runs = {"memit": streams([0.1, 0.2], early=0.7)}
    assert Term("memit", early=True).values(runs, "overall") == {0: 0.7, 1: 0.7}
    assert Term("memit").values(runs, "overall") == {0: 0.1, 1: 0.2}
    assert Term("rledit").values(runs, "overall") == {}
    few = SimpleNamespace(edits=np.array([5, 10]), curves={"overall": np.array([0.3, 0.4])})
    assert Term("memit", early=True).values({"memit": {0: few}}, "overall") == {0: 0.3}


def test_differences_are_of_the_same_streams():
    runs = {"a": streams([0.5, 0.7, 0.9]), "b": {2: run_of(0, 0, 0, 0, 0.4), 0: run_of(*5 * [0.1])}}
    found = Claim("", "", Term("a"), Term("b")).differences(runs, "overall")
    np.testing.assert_allclose(found, [0.4, 0.5])


@pytest.mark.parametrize(
    ("low", "high", "bound", "expected"),
    [
        (0.01, 0.03, 0.0, "holds"),
        (-0.02, -0.01, 0.0, "does not hold"),
        (-0.01, 0.03, 0.0, "open"),
        (0.001, 0.03, 0.005, "open"),
        (-0.005, 0.001, -0.01, "holds"),
        (np.nan, np.nan, 0.0, "one stream"),
    ],
)
def test_verdicts(low, high, bound, expected):
    assert verdict(Interval(0.0, low, high), bound) == expected


def test_lines_of_what_was_run():
    ends = np.array([0.60, 0.62, 0.61])
    runs = {"rledit": streams(ends), "mend": streams([0.50, 0.51, 0.49])}
    _, _, head, _, line, _, note, _ = claim_lines(runs, of_papers(), "overall")
    difference = 100 * (ends - [0.50, 0.51, 0.49])
    low, high = stats.t.interval(0.95, 2, difference.mean(), stats.sem(difference))
    cell = f"+{difference.mean():.1f} [+{low:.1f}, +{high:.1f}]"
    assert line == f"| RLEdit above MEND | RLEdit | `overall`: rledit − mend > 0 | {cell} | holds |"
    assert head.startswith("| claim |") and "10% of the edits" in note
    assert claim_lines({"rledit": streams(ends)}, of_papers(), "overall") == []


def test_margins_and_other_metrics():
    kept = [0, 0, 0, 0, 0.8]
    runs = {
        "hiedit": streams([0.6, 0.6, 0.61], retention=kept),
        "random-k": streams([0.6, 0.6, 0.6], retention=kept),
        "rledit": streams([0.605, 0.605, 0.615]),
    }
    lines = claim_lines(runs, of_papers(), "overall")
    keeps = next(line for line in lines if "random one" in line)
    half = next(line for line in lines if "half of the layers" in line)
    assert "`retention`: hiedit − random-k > 0.5 | +0.0 [+0.0, +0.0] | does not hold" in keeps
    assert "`overall`: hiedit − rledit > -1 | −0.5 [−0.5, −0.5] | holds" in half


def test_ours_beside_every_published_one():
    claims = of_ours(["memit-joint"], ["alphaedit", "memit"])
    assert [claim.text for claim in claims] == [
        "memit-joint above alphaedit",
        "memit-joint above memit",
    ]


def test_claims_name_presets():
    named = {term.method for claim in of_papers() for term in (claim.one, claim.other)}
    assert named <= set(preset_names("lifelong"))
