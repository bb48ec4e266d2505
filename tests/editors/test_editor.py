"""What every editor is and returns."""

from dataclasses import FrozenInstanceError, dataclass

import jax
import pytest

from modeledit_jax.editors.editor import Cost, Editor, EditResult
from modeledit_jax.editors.search.evolution import SNES
from modeledit_jax.editors.unlearning.references import Original
from modeledit_jax.run.edit_many import edit_many
from tests import tiny


@dataclass(frozen=True)
class _Nothing:
    def edit(self, task, key):
        return EditResult(task.subject.params)


def test_whatever_can_edit_is_an_editor():
    assert isinstance(_Nothing(), Editor) and isinstance(SNES(), Editor)
    assert not isinstance(object(), Editor)


def test_a_result_costs_nothing_and_has_no_trace_unless_said_otherwise():
    task = tiny.task()
    result = _Nothing().edit(task, jax.random.key(0))
    assert result.params is task.subject.params
    assert result.cost == Cost() == Original().edit(task, jax.random.key(0)).cost
    assert (result.cost.reward_evaluations, result.cost.gradient_steps) == (0, 0)
    assert result.cost.seconds == 0.0 and result.trace is None
    with pytest.raises(FrozenInstanceError):
        result.cost = Cost(1)


@dataclass(frozen=True)
class _Cuts:
    rows: int

    def edit(self, task, key):
        kernel = task.subject.params["fc2"]["kernel"][: self.rows]
        return EditResult({**task.subject.params, "fc2": {"kernel": kernel}})


def test_parameters_that_the_network_does_not_take_are_refused():
    task = tiny.task(0)
    with pytest.raises(
        ValueError, match=r"'forget-0' does not take what .* in their shapes"
    ) as info:
        edit_many(_Cuts(2), [task], jax.random.key(0))
    assert "\n" not in str(info.value)
