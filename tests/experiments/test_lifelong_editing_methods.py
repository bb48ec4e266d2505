"""From names to editors: what each is, and that the controls differ in one thing."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.lifelong_editing.config import ALL_METHODS, Config
from experiments.lifelong_editing.methods import METHODS, TUNED, Builder, Unedited
from experiments.lifelong_editing.stream_run import points
from experiments.tuning.lifelong_editing.run import STEPS, trials
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import pad_batch
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.stream import StreamEditor

CONFIG = Config(memory=3, meta_updates=7, fraction=0.5)


@pytest.fixture(scope="module")
def methods():
    rows = jax.tree.map(
        lambda leaf: leaf[None], pad_batch([[1, 2, 3], [1, 2]], [[4], [5, 6]], length=8)
    )
    stream = FactBatch(rows, rows, rows, None, None, None, np.zeros((1, 2), np.int32))
    builder = Builder(CONFIG, 9, (stream,), TUNED)
    return {name: build(builder) for name, build in METHODS.items()}


def test_every_name_has_a_method(methods):
    assert tuple(methods) == ALL_METHODS
    for method in methods.values():
        assert isinstance(method.editor, StreamEditor)
        hash(method.editor), hash(method.training)  # both are static under jit


def test_which_are_trained_and_how(methods):
    trained = {name for name, own in methods.items() if own.training is not None}
    assert trained == set(ALL_METHODS) - {"original", "ft-l", "ft-m", "ultraedit"}
    for name in trained:
        training = methods[name].training
        alone = name in ("mend", "malmen")
        assert training.updates == 7
        assert training.keep_edits != alone
        assert training.objective.memory == (1 if alone else 3)
    assert isinstance(methods["original"].editor, Unedited)
    assert isinstance(methods["ft-l"].editor, FineTune)
    assert methods["ft-l"].editor.loss == "last" and methods["ft-m"].editor.loss == "teacher"


def test_rows_have_room_for_the_tokens_that_count(methods):
    assert methods["rledit"].editor.rows == 8  # answers of one and two tokens: three, in eights
    assert methods["mend"].editor.rows == 8  # all positions: six


def test_controls_are_rledit_but_for_the_routing(methods):
    rledit = methods["rledit"]
    for name in ("hiedit", "hiedit-ste", "random-k", "fixed-k", "top-norm-k"):
        own = methods[name]
        assert isinstance(own.editor, HypernetworkEditor)
        assert replace(own.editor, routing=None) == rledit.editor
        assert own.training == rledit.training
        assert own.editor.routing.fraction == 0.5
    assert methods["hiedit"].editor.routing.gradient == "reinforce"
    assert methods["hiedit-ste"].editor.routing.gradient == "ste"
    assert methods["fixed-k"].editor.routing.fixed == (5, 6, 7, 8)


def test_every_method_is_tuned_with_as_many_trials():
    assert STEPS.keys() == TUNED.keys()
    for name, settings in TUNED.items():
        found = trials(name)
        assert len(found) == 4
        assert all(trial.keys() == settings.keys() for trial in found)


@pytest.mark.parametrize("total", [1, 2, 10, 11, 37, 100])
def test_points_cover_the_stream(total):
    bounds = points(total)
    assert bounds[0] == 0 and bounds[-1] == total and len(bounds) == min(10, total) + 1
    assert len(set(np.diff(bounds))) <= 2
