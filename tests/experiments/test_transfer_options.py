"""Every value of every option of the transfer experiment, run to its report; see `option_rows`."""

import pytest

from experiments.transfer.__main__ import command
from experiments.transfer.config import Config
from modeledit_jax.report.summary import read_summary
from tests.data.published_files import write_images
from tests.experiments.option_rows import run_row, untried

SMALL = {
    "seeds": "1", "training_networks": "1", "updates": "1", "sequence_updates": "1",
    "budgets": "10", "search_budget": "20", "held_out": "4", "networks": "mlp-16x8-1ep",
    "other_networks": "mlp-8x4-1ep", "worlds": "shift",
}  # fmt: skip
ROWS = [
    {"dataset": "digits", "parts": "zero-shot", "other_data": "mnist fashion_mnist cifar10"},
    {"dataset": "mnist", "parts": "adaptation", "worlds": "mask", "seeds": "2"},
    {"dataset": "fashion_mnist", "parts": "zero-shot sequence cost", "other_data": "digits",
     "networks": "cnn-16x8-tanh-1ep", "pairs": "2"},
    {"dataset": "cifar10", "parts": "adaptation", "networks": "resnet-16x8-1ep"},
    {"dataset": "textures", "parts": "cost", "training_data": "digits mnist fashion_mnist cifar10"},
    {"dataset": "shapes", "parts": "zero-shot sequence", "other_data": "textures"},
    {"parts": "zero-shot cost", "prototype_penalty": "1", "pairs": "2"},
    {"dataset": "digits", "parts": "zero-shot", "training_data": "shapes textures",
     "other_data": "shapes"},
    {"held_out": "all", "parts": "cost", "networks": "mlp-16x8-gelu-1ep", "pairs": "45"},
    {"mesh": "tasks=4,population=2", "parts": "adaptation sequence", "training_networks": "2"},
    {"mesh": "tasks=8", "parts": "zero-shot adaptation sequence cost", "training_networks": "2",
     "memory": "2GB"},
]  # fmt: skip


def test_every_value_is_in_a_row():
    rows = [SMALL | row for row in ROWS]
    assert untried(Config, rows, held_out=("all",)) == set()
    assert ("other_data", "fashion_mnist") in untried(Config, [SMALL])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row.values()))
def test_it_runs_to_the_report(row, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    for name in ("mnist", "fashion_mnist", "cifar10"):
        write_images(monkeypatch, tmp_path / "data", name)
    run = run_row(command, SMALL | row, tmp_path, tmp_path / "cache")
    rows = read_summary(run).rows
    assert {entry.factors["part"] for entry in rows} == set(row["parts"].split())
    data = {entry.factors["data"] for entry in rows}
    assert data == {row.get("dataset", "digits"), *row.get("other_data", "").split()}
