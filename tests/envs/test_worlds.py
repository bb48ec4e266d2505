import chex
import gymnax
import pytest

from modeledit_jax.edits.operator import mask, shift
from modeledit_jax.edits.parametrization import PerColumn
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld, make, register_worlds
from tests import tiny

WORLDS = [("MaskWorld-v0", MaskWorld, mask), ("ShiftWorld-v0", ShiftWorld, shift)]


@pytest.mark.parametrize(("name", "kind", "operator"), WORLDS)
def test_worlds_are_made_by_name_here_and_through_gymnax(name, kind, operator):
    register_worlds()
    register_worlds()  # a second call does nothing
    options = {"horizon": 2, "parametrization": PerColumn()}
    own, own_params = make(name, tiny.task(), **options)
    theirs, their_params = gymnax.make(name, task=tiny.task(), **options)
    assert type(own) is type(theirs) is kind
    assert own.edit.operator is theirs.edit.operator is operator
    assert own.horizon == theirs.horizon == 2 and own.num_actions == 4
    chex.assert_trees_all_equal(own_params, their_params)
    assert own.name == kind.__name__


def test_unknown_world_names_the_known_ones():
    with pytest.raises(ValueError, match="'World-v0'; choose one of mask, shift, MaskWorld-v0"):
        make("World-v0", tiny.task())
