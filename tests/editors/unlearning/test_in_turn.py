"""One request after another."""

from dataclasses import dataclass, field

import jax
import numpy as np
import pytest

from modeledit_jax.editors.editor import Cost, EditResult
from modeledit_jax.editors.unlearning.closed_form import RidgeEditor
from modeledit_jax.editors.unlearning.in_turn import InTurn
from modeledit_jax.edits.site import get_leaves, set_leaves
from tests import tiny


@dataclass(frozen=True)
class Recorder:
    """Adds one to the site; notes every task that it sees."""

    seen: list = field(default_factory=list)

    def edit(self, task, key):
        self.seen.append((task, jax.random.key_data(key)))
        leaves = {path: leaf + 1 for path, leaf in task.leaves.items()}
        return EditResult(set_leaves(task.subject.params, leaves), Cost(10, 3, 0.1))


def task():
    return tiny.task((2, 0))


def test_every_request_starts_from_the_network_before_and_keeps_what_was_asked():
    recorder = Recorder()
    found = InTurn(recorder, (2, 0)).edit(task(), jax.random.key(0))
    (first, one), (second, other) = recorder.seen
    assert (first.forget_classes, second.forget_classes) == ((2,), (2, 0))
    assert not np.array_equal(one, other)
    for request in (first, second):
        for sets in request.roles.values():
            forget = np.isin(sets.label, request.forget_classes)
            np.testing.assert_array_equal(sets.weights["forget"], forget)
            np.testing.assert_array_equal(sets.weights["retain"], ~forget)
    for path, leaf in task().leaves.items():
        np.testing.assert_allclose(first.leaves[path], leaf)
        np.testing.assert_allclose(second.leaves[path], leaf + 1)
        np.testing.assert_allclose(get_leaves(found.params, [path])[path], leaf + 2, rtol=1e-6)
        np.testing.assert_allclose(get_leaves(found.trace[0], [path])[path], leaf + 1)
    assert (found.cost.reward_evaluations, found.cost.gradient_steps) == (20, 6)


def test_one_request_is_that_of_the_editor():
    single = tiny.task(1)
    found = InTurn(RidgeEditor(), (1,)).edit(single, jax.random.key(0))
    expected = RidgeEditor().edit(single, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)


@pytest.mark.parametrize("order", [(2,), (2, 1), (2, 0, 1)])
def test_the_order_is_of_the_classes_of_the_task(order):
    with pytest.raises(ValueError, match="name each of its classes once"):
        InTurn(Recorder(), order).edit(task(), jax.random.key(0))
