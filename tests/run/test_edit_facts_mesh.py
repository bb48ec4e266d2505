"""A language model on several devices: the edits of one up to the order of sums, resumed on any."""

import jax
import numpy as np
import pytest

from modeledit_jax.data.facts.choices import ChoiceQuestion
from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.data.facts.records import Probe
from modeledit_jax.lifelong.fact_task import encode_task, spread_task
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.mesh import make_mesh
from modeledit_jax.presets.preset import preset
from modeledit_jax.run import resumable
from modeledit_jax.run.edit_facts import edit_facts
from tests.lifelong.folders import write_facts, write_folder

KEY = jax.random.key(3)
METHODS = {
    "ft-m": lambda: FineTune(learning_rate=1e-2, steps=10),
    "rledit": lambda: preset("lifelong/rledit", meta_updates=6, judged_batches=2),
    "hiedit": lambda: preset("lifelong/hiedit", meta_updates=4, judged_batches=1),
    "ultraedit": lambda: preset("lifelong/ultraedit"),
    "prune": lambda: preset("lifelong/prune", contexts=0),
    "alphaedit": lambda: preset("lifelong/alphaedit", contexts=0),
    "memit-joint": lambda: preset("lifelong/memit-joint", contexts=0),
}
SHARES = ("efficacy", "generalization", "specificity", "retention")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    path = write_facts(tmp_path_factory.mktemp("facts") / "own.json", 16)
    return load_facts(path, edits=8, train=8)


def on(folder, data, model):
    mesh = None if data * model == 1 else make_mesh({"data": data, "model": model})
    return read_language_model(folder, "layers/*/mlp/down", mesh=mesh)


def edit(name, model, facts, **options):
    edits, train = facts
    return edit_facts(METHODS[name](), model, edits, train=train, key=KEY, batch_size=4, **options)


def assert_close(found, expected):
    for name, kernel in expected.kernels.items():
        np.testing.assert_allclose(found.kernels[name], kernel, rtol=1e-3, atol=1e-4)
    for name in SHARES:  # shares of few tokens, of which a tie may fall to either side
        np.testing.assert_allclose(found.curves[name], expected.curves[name], atol=0.1)
    assert set(found.metrics) == set(expected.metrics)


def test_facts_lie_along_data_and_parameters_along_model(folder, facts):
    model = on(folder, 4, 2)
    known = [Probe("The dog slept by", "the door")] * 8
    choices = [ChoiceQuestion("She closed the", "window", ("door",))] * 8
    encoded = encode_task(model, *facts, batch_size=4, known=known, choices=choices)
    task = spread_task(encoded)
    tokens = task.edits.edit.tokens
    assert tokens.sharding.shard_shape(tokens.shape) == (tokens.shape[0], 1, tokens.shape[2])
    for tokens, rows in ((task.known.tokens, 100), (task.choices.tokens, 8)):
        shape = (*tokens.shape[:-2], rows // 4, tokens.shape[-1])
        assert tokens.sharding.shard_shape(tokens.shape) == shape
    kernel = model.editable.kernels()["layers/1/mlp/down"]
    assert kernel.sharding.shard_shape(kernel.shape) == (kernel.shape[0] // 2, kernel.shape[1])
    alone = encode_task(on(folder, 1, 1), *facts, batch_size=4)
    assert spread_task(alone) is alone


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", METHODS)
def test_eight_devices_edit_as_one_does(name, folder, facts):
    expected = edit(name, on(folder, 1, 1), facts)
    for data, model in ((4, 2), (1, 8)):
        assert_close(edit(name, on(folder, data, model), facts), expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("then", [(1, 1), (2, 2)], ids=str)
def test_a_run_on_eight_devices_goes_on_on_others(then, folder, facts, tmp_path, monkeypatch):
    """Stopped in the training, and again in the stream."""
    expected = edit("rledit", on(folder, 1, 1), facts)
    real, saves = resumable.Checkpoints.save, []

    def save_and_stop(self, step, tree):
        real(self, step, tree)
        saves.append(step)
        if len(saves) in (1, 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(resumable.Checkpoints, "save", save_and_stop)
    monkeypatch.setattr(resumable, "SAVE_EVERY", 0.0)
    for devices in ((4, 2), then):
        with pytest.raises(KeyboardInterrupt):
            edit("rledit", on(folder, *devices), facts, folder=tmp_path / "run")
    assert_close(edit("rledit", on(folder, 4, 2), facts, folder=tmp_path / "run"), expected)
    assert len(saves) == 3  # the training, and the stream at its two points
