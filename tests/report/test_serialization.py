import json
import math

import numpy as np
import pytest

from modeledit_jax.editors.editor import Cost
from modeledit_jax.report.serialization import as_plain, cached_rows, row_from_plain
from modeledit_jax.report.table import Row

ROW = Row(
    "policy-shift", "forget-4", 1, {"tow": 1 / 3, "evaluations_to_target": math.nan},
    Cost(10, 0, math.nan), {"network": "mlp-64x16", "seen": True},
    {"reward_evaluations": np.array([5, 10]), "forget": np.array([0.1, np.nan], np.float32)},
)  # fmt: skip


def test_a_row_survives_json_with_every_digit():
    text = json.dumps(as_plain(ROW), allow_nan=False)
    back = row_from_plain(json.loads(text))
    assert back.factors == ROW.factors and type(back.factors["seen"]) is bool
    assert back.metrics["tow"] == 1 / 3 and math.isnan(back.metrics["evaluations_to_target"])
    assert back.cost.reward_evaluations == 10 and math.isnan(back.cost.seconds)
    assert back.curves["reward_evaluations"] == (5, 10)
    assert back.curves["forget"][0] == float(np.float32(0.1)) and math.isnan(
        back.curves["forget"][1]
    )


def test_a_finished_part_is_not_built_again(tmp_path):
    path = tmp_path / "parts" / "cost.json"
    built = []

    def build():
        built.append(1)
        return [ROW, ROW]

    first = cached_rows(path, build)
    again = cached_rows(path, build)
    assert len(built) == 1 and len(first) == len(again) == 2
    np.testing.assert_equal(as_plain(first), as_plain(again))
    np.testing.assert_equal(as_plain(first[0]), as_plain(ROW))


def test_a_part_that_fails_leaves_no_file(tmp_path):
    def build():
        raise ValueError("no such network")

    with pytest.raises(ValueError, match="no such network"):
        cached_rows(tmp_path / "cost.json", build)
    assert list(tmp_path.iterdir()) == []
