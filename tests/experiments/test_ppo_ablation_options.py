"""Every value of every option of the ablation of PPO, run to its report; see `option_rows`."""

import numpy as np
import pytest

from experiments.ppo_ablation import run as ablation
from experiments.ppo_ablation.__main__ import command
from experiments.ppo_ablation.config import AblationConfig
from experiments.unlearning.config import REWARDS
from tests.data.published_files import write_images
from tests.experiments.option_rows import run_row, untried

SMALL = {
    "seeds": "1",
    "epochs": "1",
    "budget": "20",
    "forget_class": "1",
    "worlds": "shift",
    "questions": "episode",
}
ROWS = [
    {"dataset": "mnist", "parametrization": "per-weight", "worlds": "mask shift"},
    {
        "dataset": "fashion_mnist",
        "parametrization": "per-row",
        "subject": "cnn",
        "reward": "unseen",
    },
    {"dataset": "npz", "npz_path": "own.npz", "parametrization": "per-column"},
    {"dataset": "cifar10", "subject": "resnet"},
    {"dataset": "shapes", "questions": "reward examples"},
    {"dataset": "textures", "questions": "ppo action"},
    {"forget_class": "all", "reward": "accuracy", "subject": "resnet-batchnorm", "worlds": "mask"},
]


def test_every_value_is_in_a_row():
    rows = [SMALL | row for row in ROWS]
    assert untried(AblationConfig, rows, reward=REWARDS, forget_class=("all",)) == set()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: next(iter(row.values())))
def test_it_runs_to_the_report(row, tmp_path, monkeypatch):
    asked = (SMALL | row)["questions"].split()
    few = {question: dict(list(ablation.QUESTIONS[question].items())[-1:]) for question in asked}
    monkeypatch.setattr(ablation, "QUESTIONS", few)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    for name in ("mnist", "fashion_mnist", "cifar10"):
        write_images(monkeypatch, tmp_path / "data", name)
    np.savez("own.npz", x=np.random.default_rng(0).random((200, 30)), y=np.arange(200) % 4)
    run = run_row(command, SMALL | row, tmp_path, tmp_path / "cache")
    text = (run / "report.md").read_text(encoding="utf-8")
    for world in (SMALL | row)["worlds"].split():
        assert all(f"### {world}: {question}" in text for question in asked)
    assert all(f"| {name} |" in text for own in few.values() for name in ("default", *own))
