"""What is found ahead of a stream is what the stream would find, and is found once."""

import itertools
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.lifelong.edit_values import ValueSearch
from modeledit_jax.lifelong.fact_task import encode_task
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.methods.restraint import Rect
from modeledit_jax.lifelong.methods.unedited import Unedited
from modeledit_jax.run import found_ahead, resumable
from modeledit_jax.run.fact_run import run_fact_task
from modeledit_jax.run.found_ahead import with_found_ahead
from tests.lifelong.folders import write_facts, write_folder

KEY = jax.random.key(3)
METHOD = ClosedForm(
    "nothing", history=True, contexts=0, source="unedited", size_penalty=0.1,
    values=ValueSearch(steps=4),
)  # fmt: skip


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    model = read_language_model(write_folder(folder / "llama"), "layers/0/mlp/down")
    edits, train = load_facts(write_facts(folder / "own.json", 9), edits=6, train=3)
    return encode_task(model, edits, train, batch_size=3)


@pytest.fixture(scope="module")
def method(task):
    return METHOD.sized_for(task.model, task.streams)


def counted(monkeypatch):
    """Batches that are looked at, in a list; not those whose memory is planned alone."""
    looked, find = [], found_ahead._find

    def found(method, model, batch):
        if not isinstance(batch.real, jax.core.Tracer):
            looked.append(1)
        return find(method, model, batch)

    monkeypatch.setattr(found_ahead, "_find", found)
    return looked


@pytest.mark.slow
def test_a_stream_with_values_is_the_stream_that_searches_them(task, method, tmp_path):
    ahead = with_found_ahead(method, task, tmp_path)
    assert ahead.edits.values.shape == (2, 3, task.model.config.width)
    assert np.abs(ahead.edits.values).max() > 1e-2
    one, other = (run_fact_task(method, given, KEY) for given in (task, ahead))
    for name, kernel in one.kernels.items():
        np.testing.assert_allclose(kernel, other.kernels[name], rtol=1e-5, atol=1e-7)
    assert ahead.seconds_ahead > 0
    assert other.metrics["ms_per_edit"] * 6 > 1e3 * ahead.seconds_ahead


@pytest.mark.slow
def test_values_are_those_of_the_unedited_network(task, method, tmp_path):
    """Whatever was edited before; a method that follows the edits finds others."""
    ahead = with_found_ahead(method, task, tmp_path)
    second = jax.tree.map(lambda leaf: leaf[1], task.edits)
    moved = {name: 1.5 * kernel for name, kernel in task.model.kernels().items()}
    search = jax.jit(ClosedForm._searched, static_argnums=0)
    same = search(method, task.model, task.model.kernels(), second, None)
    others = search(method, task.model, moved, second, None)
    np.testing.assert_allclose(ahead.edits.values[1], same, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(others) - same).max() > 1e-2


@pytest.mark.slow
def test_facts_of_like_length_are_searched_side_by_side(task, tmp_path, monkeypatch):
    """In another order, with other neighbors and less padding, and put back in their places."""
    lengths = np.asarray(task.edits.edit.attention.sum(-1))
    assert len(np.unique(lengths)) > 1
    whole = with_found_ahead(METHOD, task, tmp_path / "whole").edits.values
    monkeypatch.setattr(found_ahead, "FEWEST", 1)
    looked = counted(monkeypatch)
    groups = with_found_ahead(METHOD, task, tmp_path / "groups").edits.values
    np.testing.assert_allclose(groups, whole, rtol=1e-3, atol=1e-4)
    assert len(looked) == 2


@pytest.mark.parametrize(
    ("count", "fewest", "sizes"), [(10, 1, [1] * 4), (10, 9, [4]), (2, 1, [1])]
)
def test_groups_hold_all_facts_by_length(task, monkeypatch, count, fewest, sizes):
    monkeypatch.setattr(found_ahead, "FEWEST", fewest)
    edits = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), task.edits)
    facts = jax.tree.map(lambda leaf: jnp.resize(leaf, (count, *leaf.shape[1:])), edits)
    groups = found_ahead._by_length(facts, 3)
    assert [len(group) for group in groups] == sizes
    placed = [np.unique(group) for group in groups]
    assert sorted(np.concatenate(placed)) == list(range(count))
    labels = np.asarray(facts.edit.scored)
    reach = [row.nonzero()[0].max() - last for row, last in
             zip(labels, np.asarray(facts.subject_last), strict=True)]  # fmt: skip
    for shorter, longer in itertools.pairwise(placed):
        assert max(reach[i] for i in shorter) <= min(reach[i] for i in longer)


@pytest.mark.slow
def test_found_once_for_all_methods_that_want_the_same(task, method, tmp_path, monkeypatch):
    looked = counted(monkeypatch)
    first = with_found_ahead(method, task, tmp_path)
    begun = len(looked)
    others = (method, replace(method, sharing="least", size_penalty=3.0), Rect(method, 0.5))
    for other in others:
        found = with_found_ahead(other, task, tmp_path)
        np.testing.assert_array_equal(found.edits.values, first.edits.values)
        assert found.seconds_ahead == first.seconds_ahead
    assert len(looked) == begun
    further = replace(method, values=ValueSearch(steps=3))
    assert not np.allclose(with_found_ahead(further, task, tmp_path).edits.values,
                           first.edits.values)  # fmt: skip
    assert len(looked) > begun


@pytest.mark.slow
def test_a_flipped_bit_is_noticed(task, method, tmp_path):
    first = with_found_ahead(method, task, tmp_path).edits.values
    (file,) = [
        path for path in (tmp_path / "found-ahead").rglob("*")
        if path.is_file() and path.stat().st_size > 400
    ][:1]  # fmt: skip
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        again = with_found_ahead(method, task, tmp_path).edits.values
    np.testing.assert_array_equal(again, first)
    assert any("it is made again" in str(one.message) for one in said)


@pytest.mark.slow
def test_stopped_on_the_way_it_goes_on(task, method, tmp_path, monkeypatch):
    whole = with_found_ahead(method, task, tmp_path / "whole").edits.values
    monkeypatch.setattr(resumable, "SAVE_EVERY", 0.0)
    save = resumable.Checkpoints.save

    def save_and_stop(self, step, tree):
        save(self, step, tree)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(resumable.Checkpoints, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            with_found_ahead(method, task, tmp_path / "pieces")
    looked = counted(monkeypatch)
    pieces = with_found_ahead(method, task, tmp_path / "pieces")
    np.testing.assert_array_equal(pieces.edits.values, whole)
    assert len(looked) == 1  # the second of two batches
    assert not any((tmp_path / "pieces" / "found-ahead" / "unfinished").iterdir())


@pytest.mark.slow
def test_another_process_and_a_cache_that_cannot_be_written_cost_no_values(task, method, tmp_path):
    whole = with_found_ahead(method, task, tmp_path / "whole").edits.values
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be written"):
        found = with_found_ahead(method, task, tmp_path / "file").edits.values
    np.testing.assert_array_equal(found, whole)
    with found_ahead._held(tmp_path / "held") as place:
        assert place == tmp_path / "held"
        with found_ahead._held(tmp_path / "held") as second:
            assert second is None


def test_methods_that_find_nothing_get_their_task_back(task, tmp_path):
    for method in (Unedited(), replace(METHOD, source="current")):
        assert with_found_ahead(method, task, tmp_path) is task
    assert not list(tmp_path.iterdir())
    with pytest.raises(NotImplementedError, match="Unedited finds nothing ahead"):
        Unedited().find_ahead(task.model, task.edits)
