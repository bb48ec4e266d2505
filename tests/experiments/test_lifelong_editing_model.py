"""Facts edited into a given Hugging Face folder, from the shell to a folder for transformers."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lifelong_editing.__main__ import command
from experiments.lifelong_editing.config import Config
from modeledit_jax.report.summary import read_summary
from tests.experiments.command_line import error_of
from tests.language import huggingface_networks as huggingface
from tests.lifelong.folders import write_facts, write_folder

pytestmark = pytest.mark.timeout(900)  # most of it compiling, minutes on a busy machine


FINE_TUNE = 'class = "modeledit_jax.lifelong.methods.fine_tuning:FineTune"\n[settings]\n'


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    bold = folder / "bold.toml"  # long steps, for the network is random
    bold.write_text(FINE_TUNE + "learning_rate = 1e-2\nsteps = 40\n")
    return Config(
        corpus=str(write_facts(folder / "own-facts.json", 9)),
        model=write_folder(folder / "gpt2", "gpt2"),
        methods=("original", str(bold)),
        edits=6,
        batch_size=3,
        train_edits=0,
        modules=("layers/1/mlp/down",),
        run_dir=folder / "run",
    )


@pytest.fixture(autouse=True)
def no_data(tmp_path, monkeypatch):
    """Nothing is asked about facts of collections that happen to be at hand."""
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "none"))


@pytest.mark.slow
def test_the_edited_network_is_what_transformers_loads(config):
    assert command.main(config) == 0
    original, edited = read_summary(config.run_dir).rows
    assert original.task == edited.task == "own-facts"
    assert edited.metrics["efficacy"] > original.metrics["efficacy"]
    report = (config.run_dir / "report.md").read_text()
    assert f"from `{config.model}`" in report and "the row original says" in report
    assert "no multiple choice: no pararel" in report and "known recall %" not in report
    networks = config.run_dir / "networks"
    assert [path.name for path in networks.iterdir()] == ["bold-seed-0"]
    before, after = huggingface.load(config.model), huggingface.load(networks / "bold-seed-0")
    tokens = np.arange(8)[None]
    one, other = (
        huggingface.logits(model, tokens, np.ones(tokens.shape)) for model in (before, after)
    )
    assert np.abs(one - other).max() > 1e-3
    assert command.main(replace(config, resume=True)) == 0  # the network is there already


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"train_edits": 9}, ["9 facts asked for", "has 3"]),
        ({"width": 64}, ["--width", "leave it out with --model"]),
        ({"methods": ("rledit",)}, ["learns from facts"]),
        ({"corpus": "zsre", "train_edits": 0}, ["--train-edits"]),
        ({"modules": ("layers/9/*",)}, ["layers/9/*", "layers/1/mlp/down"]),
    ],
)
def test_mistakes_name_their_cure(config, tmp_path, capsys, changes, parts):
    message = error_of(command.main, replace(config, run_dir=tmp_path / "run", **changes), capsys)
    assert all(part in message for part in parts), message


@pytest.mark.slow
def test_a_network_that_was_ruined_is_reported_and_not_saved(config, tmp_path):
    ruin = tmp_path / "ruin.toml"
    ruin.write_text(FINE_TUNE + "learning_rate = inf\nsteps = 2\n")
    changes = {"methods": (str(ruin),), "run_dir": tmp_path / "run", "save": tmp_path / "saved"}
    ruined = replace(config, **changes)
    assert command.main(ruined) == 0
    assert "hold values that are not finite" in (ruined.run_dir / "report.md").read_text()
    assert not (tmp_path / "saved").exists()


@pytest.mark.slow
def test_bfloat16_and_a_collection_by_a_learned_method(config, tmp_path, monkeypatch):
    """ZsRE in a network of half precision: everything from the folder's own tokenizer."""
    import json

    from tests.data.facts.test_fact_file import ZSRE

    (tmp_path / "zsre").mkdir()
    for name, offset in (("zsre_mend_eval.json", 0), ("zsre_mend_train.json", 10)):
        text = json.dumps(ZSRE)
        records = [json.loads(text.replace("Mu", f"Mu{offset + i}")) for i in range(10)]
        (tmp_path / "zsre" / name).write_text(json.dumps(records))
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path))
    changed = replace(
        config,
        model=write_folder(tmp_path / "half", dtype=jnp.bfloat16),
        corpus="zsre",
        methods=("rledit",),
        meta_updates=2,
        judged_batches=1,
        train_edits=6,
        run_dir=tmp_path / "run",
        save=tmp_path / "saved",
    )
    assert command.main(changed) == 0
    (row,) = read_summary(changed.run_dir).rows
    assert row.task == "zsre" and row.cost.gradient_steps == 2
    assert 0 < row.metrics["weight_shift"] < np.inf
    huggingface.load(tmp_path / "saved" / "rledit-seed-0")
