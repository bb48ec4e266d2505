"""The unlearning command: a small run from end to end, and every mistake as one clear line."""

import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.unlearning.__main__ import command
from experiments.unlearning.config import Config
from modeledit_jax.report.summary import read_summary
from modeledit_jax.run.checkpoint import load_params
from modeledit_jax.subjects.image_classifiers import make_classifier
from tests.experiments.command_line import error_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def small(cache):
    return Config(
        seeds=1,
        budget=40,
        epochs=2,
        methods=("ppo-shift",),
        retrains=1,
        cache_dir=cache,
    )


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    config = replace(small, run_dir=run_dir)
    assert command.main(config) == 0
    return config


def test_the_run_folder_holds_what_is_promised(finished):
    summary = read_summary(finished.run_dir)
    editors = {row.method for row in summary.rows}
    assert editors == {
        "original",
        "logit-mask",
        "retrain",
        "ppo-shift",
    }
    by_name = {row.method: row for row in summary.rows}
    assert by_name["logit-mask"].metrics["forget_accuracy_test"] == 0
    assert by_name["original"].metrics["retain_drop_test"] == 0
    assert by_name["retrain"].metrics["tow"] == 1
    assert by_name["ppo-shift"].metrics["edit_rank"] <= 4
    assert by_name["ppo-shift"].cost.reward_evaluations == 40
    figures = {path.name for path in (finished.run_dir / "figures").iterdir()}
    assert {"learning_curves.png", "forget_retain.png", "edit.png"} <= figures
    assert len((finished.run_dir / "metrics.csv").read_text().splitlines()) > 4


@pytest.mark.slow
def test_every_method_that_is_named_has_its_row(small, tmp_path):
    methods = ("ppo-mask", "ppo-shift", "snes-shift")
    config = replace(small, run_dir=tmp_path / "run", methods=methods)
    assert command.main(config) == 0
    rows = {row.method: row for row in read_summary(config.run_dir).rows}
    assert set(rows) == {"original", "logit-mask", "retrain", *methods}
    assert all(0 < rows[name].cost.reward_evaluations <= 40 for name in methods)


def test_the_report_says_how_to_load_the_weights(finished):
    report = (finished.run_dir / "report.md").read_text()
    snippet = report.split("```python\n")[1].split("```")[0]
    names = {"x": jnp.ones((3, 8, 8, 1))}
    exec(snippet, names)
    saved = load_params(finished.run_dir / "weights" / "ppo-shift" / "forget-7-seed-0")
    expected = make_classifier("mlp", 10).apply({"params": saved}, names["x"])
    np.testing.assert_array_equal(names["logits"], expected)


@pytest.mark.slow
def test_a_finished_run_resumes_to_the_same_report(finished):
    before = (finished.run_dir / "metrics.csv").read_bytes()
    assert command.main(replace(finished, resume=True)) == 0
    assert (finished.run_dir / "metrics.csv").read_bytes() == before


def test_another_configuration_is_not_resumed(finished, capsys):
    message = error_of(command.main, replace(finished, resume=True, budget=80), capsys)
    assert "budget was 40, now 80" in message and "--run-dir" in message


def test_a_run_is_not_overwritten(finished, capsys):
    assert "--resume" in error_of(command.main, finished, capsys)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"site": ("nothing/here",)}, ["nothing/here", "fc2/kernel", "head/bias"]),
        ({"forget_class": "12"}, ["12", "0 to 9"]),
        ({"forget_class": "seven"}, ["seven", "--forget-class"]),
        ({"forget_samples": (10**6,)}, ["sample indices"]),
        ({"budget": 0}, ["--budget", "at least 1"]),
        ({"budget": 3}, ["budget of 3", "population"]),
        ({"rank": 0}, ["rank must be at least 1"]),
        ({"edit_size_penalty": -1.0}, ["--edit-size-penalty", "at least 0, got -1.0"]),
        ({"horizon": 2, "methods": ("snes-shift",)}, ["--horizon 2: snes-shift edits in one step"]),
        ({"horizon": 0}, ["--horizon must be at least 1 edit"]),
        ({"sites_chosen": 0}, ["--sites-chosen must be at least 1"]),
        ({"sites_drawn": True}, ["--sites-drawn: say how many leaves to draw"]),
        (
            {"sites_chosen": 1, "methods": ("ridge",)},
            ["--sites-chosen 1 is about edits of searches: name one in --methods"],
        ),
        ({"methods": ()}, ["--methods must name at least one"]),
        ({"methods": ("ppo",)}, ["unknown method 'ppo'; choose one of", "ppo-shift", "TOML file"]),
        ({"methods": ("leace",)}, ["unknown method 'leace'"]),
        ({"methods": ("mine.toml",)}, ["no method file mine.toml"]),
        ({"methods": ("ridge", "ridge")}, ["--methods names ridge twice: name it once"]),
        ({"retrains": 0}, ["--retrains must be at least 1"]),
        ({"epochs": 0}, ["--epochs must be at least 1"]),
        ({"seeds": 0}, ["--seeds must be at least 1"]),
        ({"dataset": "npz"}, ["--dataset npz and --npz-path go together"]),
        ({"resume": True}, ["no run to resume"]),
        ({"reward": "nothing.here:f"}, ["nothing.here"]),
        ({"reward": "other"}, ["--reward", "soft"]),
        ({"scenario": "poison"}, ["--scenario must be one of classes, random"]),
        ({"scenario": "random", "forget_class": "3"}, ["random draws from all classes"]),
        ({"scenario": "random", "forget_share": 1.0}, ["--forget-share must lie between 0 and 1"]),
        ({"scenario": "random", "forget_share": 1e-9}, ["a share of 1e-09", "between 0 and 1"]),
        ({"scenario": "random", "forget_samples": (1,)}, ["leave out --forget-samples"]),
        ({"scenario": "random", "prototype_penalty": 1.0}, ["are about classes"]),
        ({"toward_retrain": True}, ["--retrains 1: edits are measured against the first"]),
        (
            {"toward_retrain": True, "retrains": 2, "reward": "accuracy"},
            ["--toward-retrain is a reward of its own: leave out --reward"],
        ),
        ({"forget_share": 0.1}, ["--forget-share is about the scenarios random, backdoor"]),
        ({"scenario": "sub-class", "forget_class": "2,3"}, ["choose one label of a pair"]),
        ({"scenario": "backdoor", "forget_class": "1,2"}, ["is about 1 class(es)", "got", "1,2"]),
        ({"scenario": "backdoor", "forget_class": "all"}, ["is about 1 class(es)", "all"]),
        ({"scenario": "confusion", "forget_class": "3"}, ["is about 2 class(es)"]),
        ({"scenario": "in-turn", "forget_class": "3"}, ["is about 2 or more classes"]),
        (
            {"scenario": "in-turn", "horizon": 2, "methods": ("ppo-shift",)},
            ["edits once for each class: leave out --horizon"],
        ),
    ],
)  # fmt: skip
def test_mistakes_name_their_cure_and_leave_no_run_behind(small, tmp_path, capsys, changes, parts):
    message = error_of(command.main, replace(small, run_dir=tmp_path / "run", **changes), capsys)
    assert all(part in message for part in parts), message
    assert not (tmp_path / "run").exists()  # so that the corrected command may name it again


def test_a_folder_without_a_run_is_not_resumed(small, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    message = error_of(command.main, replace(small, run_dir=tmp_path, resume=True), capsys)
    assert f"no run to resume in {tmp_path}: leave out --resume" in message
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_mistake_when_resuming_keeps_the_run(finished, capsys, monkeypatch):
    def fail(*_, **__):
        raise OSError("the disk is gone")

    monkeypatch.setattr("experiments.unlearning.run.load_images", fail)
    assert "the disk is gone" in error_of(command.main, replace(finished, resume=True), capsys)
    assert (finished.run_dir / "config.json").exists()


def test_a_run_folder_that_cannot_be_written(small, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    message = error_of(command.main, replace(small, run_dir=tmp_path / "file" / "run"), capsys)
    assert "cannot write to the run folder" in message


def test_data_files_missing_or_corrupt(small, tmp_path, capsys, monkeypatch):
    config = replace(small, dataset="npz", npz_path=tmp_path / "none.npz", run_dir=tmp_path / "a")
    assert "none.npz" in error_of(command.main, config, capsys)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    config = replace(config, npz_path=tmp_path / "bad.npz", run_dir=tmp_path / "b")
    assert "bad.npz" in error_of(command.main, config, capsys)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(b"not MNIST"))
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    config = replace(small, dataset="mnist", cache_dir=tmp_path / "cache", run_dir=tmp_path / "c")
    message = error_of(command.main, config, capsys)
    assert "SHA-256" in message or "sha256" in message.lower() or "checksum" in message.lower()


@pytest.mark.parametrize("when", ["at once", pytest.param("later", marks=pytest.mark.slow)])
def test_a_reward_that_is_not_a_number(small, tmp_path, capsys, monkeypatch, when):
    value = "jnp.nan" if when == "at once" else "jnp.where(edit.size() > 0, jnp.nan, 0.0)"
    (tmp_path / f"bad_{when[:2]}.py").write_text(
        f"import jax.numpy as jnp\ndef reward(sets, edit):\n    return {value}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = replace(small, run_dir=tmp_path / "run", reward=f"bad_{when[:2]}:reward")
    assert "not finite" in error_of(command.main, config, capsys)
    assert not config.run_dir.exists()


@pytest.mark.slow
def test_a_reward_of_ones_own_and_samples_to_forget(small, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def reward(sets, edit):\n    return 1 - sets['forget'].accuracy(), {}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = replace(
        small, run_dir=tmp_path / "run", reward="mine:reward", forget_samples=(0, 5, 9),
        tensorboard=True,
    )  # fmt: skip
    assert command.main(config) == 0
    assert {row.task for row in read_summary(config.run_dir).rows} == {"forget-3-samples"}
    assert list((config.run_dir / "tensorboard").iterdir())


def test_unknown_data_set_stops_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.unlearning", "--dataset", "imagenet"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "digits" in done.stdout + done.stderr
