"""Paired differences beside the claims."""

import numpy as np
from scipy import stats

from experiments.lifelong_editing.report import comparison_lines
from modeledit_jax.editors.editor import Cost
from modeledit_jax.report.table import Row

SCORES = {"rledit": [0.5, 0.7, 0.6], "mend": [0.2, 0.3, 0.1], "ft-m": [0.4, 0.7, 0.8]}


def rows():
    return [
        Row(name, "world", seed, {"overall": score}, Cost(seconds=0.0))
        for name, scores in SCORES.items()
        for seed, score in enumerate(scores)
    ]


def test_differences_are_paired_with_t_intervals_and_claims_are_not_repeated():
    lines = comparison_lines(rows(), [], "overall", {("rledit", "mend", "overall")})
    assert not any("mend" in line for line in lines)
    (line,) = [line for line in lines if "ft-m" in line]
    differences = 100 * np.subtract(SCORES["rledit"], SCORES["ft-m"])
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
    mean = differences.mean()
    cell = f"−{-mean:.1f} [−{half - mean:.1f}, +{half + mean:.1f}]"
    assert line == f"| rledit − ft-m | overall | {cell} |"


def test_nothing_is_said_where_all_is_claimed():
    claimed = {("rledit", other, "overall") for other in ("mend", "ft-m")}
    assert comparison_lines(rows(), [], "overall", claimed) == []
