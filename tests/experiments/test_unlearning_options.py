"""Every value of every option of the unlearning experiment, run to its report; see `option_rows`.

Its ablation and its tuning, which share most options, are in modules beside this one.
"""

import numpy as np
import pytest

from experiments.unlearning.__main__ import command
from experiments.unlearning.config import REWARDS, Config
from modeledit_jax.presets.preset import preset_names
from modeledit_jax.report.summary import read_summary
from tests.data.published_files import write_images
from tests.experiments.option_rows import FLAG, run_row, untried

SMALL = {"seeds": "1", "epochs": "1", "retrains": "1", "budget": "20", "methods": "ppo-shift"}
IMAGES = ("mnist", "fashion_mnist", "cifar10")
ALL = " ".join(preset_names("unlearning"))
ROWS = [
    {"methods": ALL, "forget_class": "7", "retrains": "2", "budget": "160"},
    {
        "dataset": "mnist",
        "parametrization": "per-weight",
        "observation": "time",
        "precision": "tf32",
    },
    {
        "dataset": "fashion_mnist",
        "subject": "cnn",
        "reward": "accuracy",
        "observation": "weights",
        "parametrization": "per-row",
    },
    {"dataset": "shapes", "methods": "ridge"},
    {"dataset": "textures", "methods": "ridge"},
    {
        "dataset": "npz",
        "npz_path": "own.npz",
        "parametrization": "per-column",
        "tensorboard": FLAG,
        "precision": "bfloat16",
    },
    {
        "dataset": "cifar10",
        "subject": "resnet",
        "methods": "ppo-mask ridge",
        "site": "stage3_block1/conv2/kernel",
    },
    {"subject": "resnet-batchnorm", "methods": "ssd fisher ppo-shift", "scope": "network"},
    {"forget_class": "all", "methods": "ridge original logit-mask", "edit_size_penalty": "0.1"},
    {
        "prototype_penalty": "1",
        "relearning_penalty": "0.5",
        "methods": "ppo-shift snes-shift",
        "forget_class": "3,5",
    },
    {
        "methods": "ft ssd cf-1 influence",
        "scope": "network",
        "forget_samples": "1 2",
        "deep_metrics": FLAG,
    },
    {"forget_class": "3,5", "horizon": "2", "methods": "ppo-mask", "site": "fc1/kernel head/bias"},
    {
        "forget_samples": "0 5",
        "reward": "own_reward_of_unlearning:reward",
        "rank": "2",
        "seed": "7",
    },
    {
        "mesh": "tasks=4,population=2",
        "forget_class": "all",
        "methods": "ppo-shift snes-mask openes-shift ridge",
        "retrains": "2",
    },
    {"scenario": "random", "forget_share": "0.2", "reward": "unseen", "methods": "ppo-shift ft"},
    {
        "scenario": "sub-class",
        "methods": "ridge snes-shift",
        "toward_retrain": FLAG,
        "retrains": "2",
    },
    {"scenario": "backdoor", "methods": "snes-shift neggrad-plus", "deep_metrics": FLAG},
    {"scenario": "confusion", "methods": "ppo-shift influence"},
    {"scenario": "in-turn", "forget_class": "3,5", "methods": "ppo-shift ridge"},
    {
        "site": "fc1/kernel fc2/kernel head/kernel",
        "sites_chosen": "2",
        "sites_drawn": FLAG,
        "methods": "ppo-shift random-search-mask ridge",
        "prototype_penalty": "0.1",
        "penalized_layers": "2",
    },
    {"site": "fc1/kernel head/kernel", "sites_chosen": "1", "methods": "snes-mask", "horizon": "1"},
    {"mesh": "population=8", "methods": "ppo-mask random-search-shift", "memory": "5MB"},
]


def test_every_value_is_in_a_row():
    rows = [SMALL | row for row in ROWS]
    rewards = (*REWARDS, "own_reward_of_unlearning:reward")
    named = {"reward": rewards, "methods": preset_names("unlearning"), "forget_class": ("all",)}
    assert untried(Config, rows, **named) == set()
    assert ("subject", "cnn") in untried(Config, [SMALL])  # so that it can fail


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: next(iter(row.values())).split()[0])
def test_it_runs_to_the_report(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    for name in IMAGES:
        write_images(monkeypatch, tmp_path / "data", name)
    rng = np.random.default_rng(0)
    np.savez("own.npz", x=rng.random((300, 6, 5)).astype(np.float32), y=np.arange(300) % 4)
    (tmp_path / "own_reward_of_unlearning.py").write_text(
        "def reward(sets, edit):\n    return 1 - sets['forget'].accuracy() - 0.1 * edit.size()\n"
    )
    if row.get("dataset") == "npz":
        row = row | {"forget_class": "2"}
    run = run_row(command, SMALL | row, tmp_path, tmp_path / "cache")
    found = {entry.method for entry in read_summary(run).rows}
    asked = set((SMALL | row)["methods"].split())
    assert found >= (asked - {"retrain-2"}) and "original" in found
