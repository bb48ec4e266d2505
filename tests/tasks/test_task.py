import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.edits.site import get_leaves
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.tasks.task import ROLES, find_site
from tests import tiny

SUBJECT = Subject(
    {"layer": {"kernel": jnp.ones((3, 2)), "scale": jnp.float32(1.0)}, "steps": jnp.arange(3)},
    apply=lambda params, x: x,
)


def test_a_site_is_given_by_patterns_and_returned_as_exact_paths():
    assert find_site(tiny.subject(), "fc*/kernel") == ("fc1/kernel", "fc2/kernel")
    assert find_site(SUBJECT, "kernel") == ("layer/kernel",)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("steps", r"'steps' has dtype int32 and shape \(3,\); only float arrays"),
        ("scale", r"'layer/scale' has dtype float32 and shape \(\); only float arrays"),
        ("*", "choose another site"),
        ("nothing", "the leaves are: layer/kernel, layer/scale, steps"),
    ],
)
def test_leaves_that_cannot_be_edited_are_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        find_site(SUBJECT, pattern)


def test_leaves_of_a_task_are_the_unedited_leaves_of_its_site():
    task = tiny.task(site=("fc1/bias", "fc2/kernel"))
    assert list(task.leaves) == ["fc1/bias", "fc2/kernel"]
    for path, leaf in get_leaves(task.subject.params, task.site).items():
        assert task.leaves[path] is leaf


def test_a_task_has_the_four_roles_with_one_batch_for_all_sets():
    task = tiny.task()
    assert set(task.roles) == set(ROLES)
    for role, size in tiny.SIZES.items():
        sets = task.roles[role]
        assert len(sets.x) == len(sets.targets) == size
        assert all(np.shape(weights) == (size,) for weights in sets.weights.values())


@pytest.mark.parametrize("leaf", [True, 3, 1.5, "relu", np.arange(3)])
def test_leaves_that_are_no_float_arrays_are_refused_by_name(leaf, unchecked_annotations):
    subject = Subject({"w": jnp.ones(2), "extra": leaf}, apply=lambda params, x: x)
    with pytest.raises(ValueError, match=r"the leaf 'extra' has dtype .*choose another site"):
        find_site(subject, "*")
