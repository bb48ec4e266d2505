"""Every value of every option of transfer to classifiers, run to its report; see `option_rows`."""

import pytest

from experiments.bias_mitigation.config import REWARDS
from experiments.transfer_bias.__main__ import command
from experiments.transfer_bias.config import Config
from tests.data.published_files import write_comments
from tests.experiments.option_rows import FLAG, run_row, small_corpus, untried
from tests.lifelong.folders import write_folder

SMALL = {
    "seeds": "1", "training_networks": "1", "updates": "1", "epochs": "1", "budget": "20",
    "worlds": "shift",
}  # fmt: skip
ROWS = [
    {
        "dataset": "jigsaw",
        "contexts": "swapped",
        "subject": "cnn",
        "size": "400",
        "reward": "rates",
    },
    {"dataset": "wikipedia_toxicity", "contexts": "swapped", "worlds": "mask"},
    {"dataset": "civil_comments", "reward": "fped", "memory": "2GB"},
    {"cues": "0.5", "worlds": "mask shift", "reward": "fairness"},
    {"dataset": "jigsaw", "contexts": "real", "subject": "boe", "balanced": FLAG, "folds": "0 2"},
    {
        "dataset": "jigsaw",
        "subject": "hidden",
        "model": "tiny",
        "layer": "1",
        "pooling": "last",
        "folds": "1",
        "reward": "fidelity",
    },
]


def test_every_value_is_in_a_row():
    assert untried(Config, [SMALL | row for row in ROWS], reward=REWARDS) == set()
    assert ("worlds", "mask") in untried(Config, [SMALL])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: next(iter(row.values())))
def test_it_runs_to_the_report(row, tmp_path, monkeypatch):
    small_corpus(monkeypatch)
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    if "dataset" in row:
        write_comments(monkeypatch, tmp_path / "data", row["dataset"])
    if "model" in row:
        row = row | {"model": str(write_folder(tmp_path / "tiny"))}
    run = run_row(command, SMALL | row, tmp_path, tmp_path / "cache")
    report = (run / "report.md").read_text(encoding="utf-8")
    assert all(f"policy-{world}" in report for world in (SMALL | row)["worlds"].split())
    real = "## Verdicts" in report
    assert real == (row.get("contexts") == "real" or row.get("subject") == "hidden")
    folds = [f"-fold-{fold}" for fold in row["folds"].split()] if real else [""]
    policies = [f"{world}{fold}" for world in (SMALL | row)["worlds"].split() for fold in folds]
    assert {path.stem for path in (run / "policies").glob("*.toml")} == set(policies)
