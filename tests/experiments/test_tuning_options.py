"""Every value of every option of the tuning commands, run to its end; see `option_rows`.

The grids are cut to a trial each: what a trial is, other tests say.
"""

import json

import numpy as np
import pytest

from experiments.bias_mitigation.config import FIDELITY_WEIGHTS, REWARDS
from experiments.common.options import SEARCHES
from experiments.lifelong_editing.config import CORPORA
from experiments.tuning.bias_mitigation import run as debiasing
from experiments.tuning.bias_mitigation.__main__ import command as tune_debiasing
from experiments.tuning.bias_reward.__main__ import command as tune_reward
from experiments.tuning.lifelong_editing import grids as lifelong
from experiments.tuning.lifelong_editing.__main__ import command as tune_lifelong
from experiments.tuning.unlearning import run as unlearning
from experiments.tuning.unlearning.__main__ import command as tune_unlearning
from experiments.unlearning.config import REWARDS as FORGETTING
from modeledit_jax.presets.preset import load_preset, preset_names
from tests.data.comment_files import FURTHER
from tests.data.published_files import write_comments, write_images
from tests.experiments.collections_of_facts import write_collections
from tests.experiments.option_rows import FLAG, Row, run_row, small_corpus, untried
from tests.lifelong.folders import write_folder

SMALL = {"seeds": "1", "epochs": "1", "budget": "20", "methods": "openes-shift"}
OTHERS = [
    name for name in preset_names("unlearning")
    if name not in SEARCHES and load_preset(name, "unlearning").kind.__name__ in unlearning.GRIDS
]  # fmt: skip
FORGET = [
    {"methods": " ".join(SEARCHES), "budget": "40", "forget_class": "7",
     "site": "fc1/kernel fc2/kernel", "sites_chosen": "1", "sites_drawn": FLAG},
    {"dataset": "mnist", "parametrization": "per-weight", "observation": "time",
     "methods": "ppo-mask", "forget_class": "3"},
    {"dataset": "fashion_mnist", "parametrization": "per-row", "subject": "cnn",
     "precision": "tf32", "reward": "unseen"},
    {"dataset": "npz", "npz_path": "own.npz", "parametrization": "per-column",
     "observation": "weights", "methods": "ppo-shift", "precision": "bfloat16"},
    {"forget_class": "all", "reward": "accuracy", "subject": "resnet"},
    {"dataset": "cifar10", "subject": "resnet-batchnorm", "forget_class": "3"},
    {"dataset": "shapes", "forget_class": "3"},
    {"dataset": "textures", "forget_class": "3"},
    {"methods": " ".join(OTHERS), "forget_class": "7", "budget": "160"},
]  # fmt: skip
MITIGATE = [
    {"methods": " ".join(SEARCHES), "budget": "40",
     "site": "fc1/kernel fc2/kernel", "sites_chosen": "1", "sites_drawn": FLAG},
    {"dataset": "jigsaw", "contexts": "swapped", "subject": "cnn", "size": "400",
     "parametrization": "per-weight", "precision": "bfloat16"},
    {"dataset": "wikipedia_toxicity", "contexts": "swapped", "reward": "rates",
     "parametrization": "per-row", "observation": "time", "methods": "ppo-mask"},
    {"dataset": "jigsaw", "contexts": "real", "subject": "boe", "balanced": FLAG, "folds": "0",
     "methods": "ppo-shift reward-gradient"},
    {"dataset": "jigsaw", "subject": "hidden", "model": "tiny", "layer": "1", "pooling": "last",
     "folds": "0", "reward": "fairness", "methods": "ppo-mask"},
    {"dataset": "jigsaw", "model": "tiny", "layer": "1", "folds": "1", "reward": "fidelity",
     "methods": "reward-gradient"},
    {"dataset": "civil_comments", "reward": "fped", "parametrization": "per-column",
     "observation": "weights", "methods": "ppo-mask", "precision": "tf32"},
]  # fmt: skip
WEIGHTS = [
    {"methods": "reward-gradient ppo-shift", "dataset": "jigsaw", "contexts": "real",
     "subject": "boe", "balanced": FLAG, "folds": "0 1", "try_pairing": "1 3",
     "try_term_rates": "0", "try_block_mean": "1 5", "reward": "fidelity"},
    {"methods": "ppo-shift ppo-mask openes-mask openes-shift snes-mask snes-shift "
     "random-search-mask random-search-shift", "dataset": "wikipedia_toxicity",
     "subject": "hidden", "model": "tiny", "layer": "1", "pooling": "last", "folds": "2",
     "parametrization": "per-weight", "observation": "time", "try_pairing": "2"},
    {"methods": "ppo-shift", "subject": "cnn", "folds": "0", "try_pairing": "1",
     "parametrization": "per-row", "observation": "weights", "precision": "bfloat16",
     "site": "fc1/kernel fc2/kernel", "sites_chosen": "1", "sites_drawn": FLAG},
    {"methods": "ppo-shift", "subject": "boe", "folds": "0", "try_pairing": "1",
     "parametrization": "per-column", "precision": "tf32"},
]  # fmt: skip
TINY = {
    "edits": "3", "batch_size": "3", "train_edits": "3", "modules": "layers/1/mlp/down",
    "width": "16", "mlp_width": "32", "steps": "20", "plain": "20",
}  # fmt: skip
LIFELONG = [
    {
        "methods": "ft-l ft-m ultraedit mend malmen rledit",
        "meta_updates": "1",
        "judged_batches": "1",
    },
    {"corpus": "counterfact", "methods": "ft-m"},
    {"corpus": "zsre", "methods": "ultraedit", "first": "2", "memory": "2GB"},
]
GIVEN = {"model": "gpt2", "corpus": "counterfact", "edits": "3", "batch_size": "3",
         "train_edits": "6", "methods": "memit memit-seq emmet alphaedit nas memit-amortized "
         "alphaedit-amortized memit-joint alphaedit-joint ultraedit ultraedit-text"}  # fmt: skip
WITH_TEXT = GIVEN | {"methods": "memit", "statistics": "plain.txt"}
TAUGHT = [*(TINY | row for row in LIFELONG), GIVEN, WITH_TEXT]


def test_every_value_is_in_a_row():
    named = {"reward": FORGETTING, "forget_class": ("all",), "methods": (*SEARCHES, *OTHERS)}
    assert untried(tune_unlearning.options, [SMALL | row for row in FORGET], **named) == set()
    named = {"reward": REWARDS, "methods": SEARCHES}
    assert untried(tune_debiasing.options, [SMALL | row for row in MITIGATE], **named) == set()
    rows = [SMALL | row for row in WEIGHTS]
    named = {"reward": ("fidelity",), "methods": SEARCHES}
    assert untried(tune_reward.options, rows, **named) == set()
    assert untried(tune_lifelong.options, TAUGHT, corpus=CORPORA) == set()


def tuned(command, row: Row, folder) -> None:
    """Runs a row; every method has a trial with a score, and a preset."""
    run = run_row(command, row, folder, folder / "cache", report="tuning.json")
    trials = json.loads((run / "tuning.json").read_text(encoding="utf-8"))["trials"]
    assert set(trials) == set(row["methods"].split())
    assert all(np.isfinite(trial["score"]) for (trial,) in trials.values())
    assert all((run / "presets" / f"{name}.toml").exists() for name in trials)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", FORGET, ids=lambda row: next(iter(row.values())).split()[0])
def test_unlearning(row, tmp_path, monkeypatch):
    cut = {name: {key: each[:1] for key, each in grid.items()}
           for name, grid in unlearning.GRIDS.items()}  # fmt: skip
    monkeypatch.setattr(unlearning, "GRIDS", cut)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    for name in ("mnist", "fashion_mnist", "cifar10"):
        write_images(monkeypatch, tmp_path / "data", name)
    np.savez("own.npz", x=np.random.default_rng(0).random((200, 30)), y=np.arange(200) % 4)
    tuned(tune_unlearning, SMALL | row, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", MITIGATE, ids=lambda row: "-".join(row.values()).replace(" ", "-"))
def test_bias_mitigation(row, tmp_path, monkeypatch):
    monkeypatch.setattr(debiasing, "RATES", {k: v[:1] for k, v in debiasing.RATES.items()})
    monkeypatch.setattr(debiasing, "POPULATIONS", (10,))
    monkeypatch.setattr(debiasing, "SPREADS", (0.3,))
    real = {name: rates[:1] for name, rates in debiasing.REAL_RATES.items()}
    monkeypatch.setattr(debiasing, "REAL_RATES", real)
    monkeypatch.setattr(debiasing, "REAL_SPREADS", (0.3,))
    monkeypatch.setattr(debiasing, "STEPS", (20,))
    monkeypatch.setattr(debiasing, "STEP_SIZES", (0.01,))
    small_corpus(monkeypatch)
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    if "dataset" in row:
        write_comments(monkeypatch, tmp_path / "data", row["dataset"])
    if row.get("model"):
        row = row | {"model": str(write_folder(tmp_path / "tiny"))}
    tuned(tune_debiasing, SMALL | row, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", WEIGHTS, ids=lambda row: row["methods"].split()[0] + row["subject"])
def test_bias_reward(row, tmp_path, monkeypatch):
    """Every method has a trial for every combination of weights."""
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    write_comments(monkeypatch, tmp_path / "data", row.get("dataset", "jigsaw"), further=FURTHER)
    if row.get("model"):
        row = row | {"model": str(write_folder(tmp_path / "tiny"))}
    run = run_row(tune_reward, SMALL | row, tmp_path, tmp_path / "cache", report="report.md")
    trials = json.loads((run / "tuning.json").read_text(encoding="utf-8"))["trials"]
    tried = [len(row.get(f"try_{name}", "1").split()) for name in FIDELITY_WEIGHTS]
    assert len(trials) == len(row["methods"].split()) * np.prod(tried)
    assert all(np.isfinite(trial["score"]) for trial in trials)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "row",
    TAUGHT,
    ids=lambda row: "-".join(map(str, map(row.get, ("model", "corpus", "statistics")))),
)
def test_lifelong_editing(row, tmp_path, monkeypatch):
    for name in ("STEPS", "PRETRAINED"):
        grids = getattr(lifelong, name)
        cut = {n: {key: each[:1] for key, each in grid.items()} for n, grid in grids.items()}
        monkeypatch.setattr(lifelong, name, cut)
    monkeypatch.chdir(tmp_path)
    write_collections(tmp_path / "data")
    write_folder(tmp_path / "gpt2", "gpt2")
    (tmp_path / "plain.txt").write_text("Many thanks for what you wrote there.\n" * 300)
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    tuned(tune_lifelong, row, tmp_path)
    if "model" in row:
        found = load_preset(next(tmp_path.rglob("presets/memit.toml")))
        assert found.pretrained.settings["weight"] == lifelong.PRETRAINED["memit"]["weight"][0]
        assert "1 trials" in found.pretrained.tuned and "released" in found.tuned
