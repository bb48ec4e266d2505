"""Every value of every option of the benchmark, run to its report; see `option_rows`.

Options that it shares with the unlearning experiment are tried there in their combinations.
"""

import numpy as np
import pytest

from experiments.unlearning.config import REWARDS
from experiments.unlearning_benchmark.__main__ import command
from experiments.unlearning_benchmark.config import BenchmarkConfig
from modeledit_jax.report.summary import read_summary
from tests.data.published_files import write_images
from tests.experiments.option_rows import FLAG, run_row, untried

SMALL = {
    "dataset": "digits",
    "forget_class": "7",
    "seeds": "1",
    "epochs": "1",
    "retrains": "2",
    "budget": "20",
    "methods": "ppo-shift",
}
ROWS = [
    {
        "dataset": "mnist",
        "parametrization": "per-weight",
        "observation": "time",
        "precision": "tf32",
        "scenario": "backdoor",
    },
    {
        "dataset": "fashion_mnist",
        "subject": "cnn",
        "reward": "accuracy",
        "observation": "weights",
        "parametrization": "per-row",
        "precision": "bfloat16",
        "scenario": "sub-class",
    },
    {
        "dataset": "npz",
        "npz_path": "own.npz",
        "parametrization": "per-column",
        "tensorboard": FLAG,
        "scenario": "confusion",
        "forget_class": "1,2",
    },
    {"dataset": "cifar10", "subject": "resnet", "methods": "ppo-shift scrub"},
    {"dataset": "shapes", "methods": "ridge eu"},
    {"dataset": "textures", "methods": "ridge eu"},
    {"subject": "resnet-batchnorm", "methods": "ppo-mask eu"},
    {
        "methods": "ft ssd cf-1",
        "scope": "network",
        "forget_class": "all",
        "seeds": "2",
        "relearning_repeats": "2",
    },
    {
        "scenario": "in-turn",
        "forget_class": "7,3",
        "methods": "random-search-shift ridge",
        "site": "fc1/kernel fc2/kernel",
        "sites_chosen": "1",
        "sites_drawn": FLAG,
        "toward_retrain": FLAG,
    },
]
RANDOM = {key: value for key, value in SMALL.items() if key != "forget_class"}
RANDOM |= {"scenario": "random", "reward": "unseen", "methods": "l1-sparse"}


def test_every_value_is_in_a_row():
    rows = [*(SMALL | row for row in ROWS), RANDOM]
    named = {"reward": REWARDS, "forget_class": ("all",)}
    assert untried(BenchmarkConfig, rows, **named) == set()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "row",
    [*(SMALL | row for row in ROWS), RANDOM],
    ids=lambda row: row.get("scenario", "classes"),
)
def test_it_runs_to_the_report(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    for name in ("mnist", "fashion_mnist", "cifar10"):
        write_images(monkeypatch, tmp_path / "data", name)
    rng = np.random.default_rng(0)
    np.savez("own.npz", x=rng.random((300, 6, 5)).astype(np.float32), y=np.arange(300) % 4)
    run = run_row(command, row, tmp_path, tmp_path / "cache")
    found = {entry.method for entry in read_summary(run).rows}
    assert found >= {*row["methods"].split(), "original", "retrain-2"}
