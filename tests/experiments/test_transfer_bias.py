"""The learned editor on toxicity classifiers: options, and a tiny run."""

import numpy as np
import pytest

from experiments.transfer_bias.__main__ import command
from experiments.transfer_bias.config import Config
from modeledit_jax.report.summary import read_summary
from modeledit_jax.report.table import group_by, select


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"updates": 0}, "--updates"),
        ({"training_networks": 0}, "--training-networks"),
        ({"size": 10}, "--size"),
        ({"budget": 0}, "--budget"),
    ],
)
def test_mistakes_are_found_before_work_starts(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        command.resolve(Config(run_dir=tmp_path, **options))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_policies_edit_classifiers_they_never_saw(tmp_path):
    config = Config(
        run_dir=tmp_path / "run",
        cache_dir=tmp_path / "cache",
        worlds=("shift",),
        training_networks=2,
        seeds=2,
        updates=3,
        budget=20,
        epochs=1,
    )
    assert command.main(config) == 0
    summary = read_summary(tmp_path / "run")
    assert set(group_by(summary.rows, "method", "budget")) == {
        ("original", None), ("policy-shift", 0), ("policy-shift", 20),
    }  # fmt: skip
    by_policy = select(summary.rows, method="policy-shift", budget=0)
    assert all(row.cost.reward_evaluations == 0 for row in by_policy)
    assert all(np.isfinite(row.metrics["fped_held_out"]) for row in by_policy)
    assert "| policy-shift | 20 |" in (tmp_path / "run" / "report.md").read_text()
