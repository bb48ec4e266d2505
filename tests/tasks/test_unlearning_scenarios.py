"""What networks are trained on in every scenario, and what they should forget of it."""

import numpy as np
import pytest

from modeledit_jax.data.images.splits import Splits
from modeledit_jax.tasks.unlearning import forget_samples
from modeledit_jax.tasks.unlearning_scenarios import (
    PATCH,
    backdoor,
    confused_labels,
    random_samples,
    stamped,
    sub_class,
)
from modeledit_jax.types import Examples
from tests import tiny

HELD_OUT = ("reward", "select", "test")


@pytest.fixture(scope="module")
def images():
    """Six classes of images of noise."""
    rng = np.random.default_rng(0)

    def role(size):
        y = rng.permutation(np.arange(size) % 6).astype(np.int32)
        return Examples(rng.random((size, 6, 5, 1)).astype(np.float32), y)

    sizes = {"train": 120, "reward": 36, "select": 30, "test": 42}
    return Splits(**{name: role(size) for name, size in sizes.items()}, num_classes=6)


def marked(sets, name):
    return np.asarray(sets.weights[name]) > 0


def check_complementary(scenario):
    for role, sets in scenario.roles.items():
        assert np.all(marked(sets, "retain") ^ marked(sets, "forget")), role
        assert len(sets.x) == len(sets.label)
    train = scenario.roles["train"]
    np.testing.assert_array_equal(train.x, scenario.splits.train.x)
    np.testing.assert_array_equal(train.label, scenario.splits.train.y)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_random_samples_are_a_share_of_the_training_set(images, share):
    found = random_samples(images, share)
    check_complementary(found)
    assert found.splits is images and not found.data
    forget = marked(found.roles["train"], "forget")
    assert forget.sum() == share * 120
    again, other = random_samples(images, share), random_samples(images, share, seed=1)
    np.testing.assert_array_equal(forget, marked(again.roles["train"], "forget"))
    assert np.any(forget != marked(other.roles["train"], "forget"))
    for role in HELD_OUT:
        sets = found.roles[role]
        np.testing.assert_array_equal(sets.x[marked(sets, "retain")], getattr(images, role).x)
        np.testing.assert_array_equal(sets.x[marked(sets, "forget")], images.train.x[forget])


def test_its_task_is_that_of_the_same_samples():
    splits = tiny.splits()
    found = random_samples(splits, 0.2)
    rows = np.flatnonzero(marked(found.roles["train"], "forget"))
    task = found.task(tiny.subject())
    same = forget_samples(tiny.subject(), splits, rows)
    for role, sets in same.roles.items():
        np.testing.assert_array_equal(sets.x, task.roles[role].x)
        np.testing.assert_array_equal(sets.weights["forget"], task.roles[role].weights["forget"])
    assert task.name == "forget-random-0.2" and task.forget_classes == ()
    assert task.samples and same.samples and not tiny.task(1).samples
    assert not sub_class(splits, [0]).samples


def test_a_sub_class_is_one_label_of_a_pair(images):
    found = sub_class(images, [3])
    check_complementary(found)
    assert found.splits.num_classes == 3 and found.data == "pairs"
    for role, sets in found.roles.items():
        label = getattr(images, role).y
        np.testing.assert_array_equal(sets.label, label // 2)
        np.testing.assert_array_equal(marked(sets, "forget"), label == 3)


@pytest.mark.parametrize("classes", [[], [2, 3], [6], [-1], [0, 5, 4]])
def test_a_whole_pair_is_no_part_of_a_class(images, classes):
    with pytest.raises(ValueError, match="choose one label of a pair"):
        sub_class(images, classes)


def test_a_label_without_its_pair_is_no_part_of_a_class():
    assert tiny.splits().num_classes == 3
    with pytest.raises(ValueError, match="cannot forget 2 as part of a class"):
        sub_class(tiny.splits(), [2])
    assert sub_class(tiny.splits(), [0]).splits.num_classes == 2


def test_a_backdoor_is_in_the_training_set_and_its_success_is_what_is_forgotten(images):
    found = backdoor(images, 2, 0.2)
    check_complementary(found)
    train, clean = found.splits.train, images.train
    forget = marked(found.roles["train"], "forget")
    assert forget.sum() == round(0.2 * (clean.y != 2).sum())
    assert np.all(clean.y[forget] != 2) and np.all(train.y[forget] == 2)
    np.testing.assert_array_equal(train.y[~forget], clean.y[~forget])
    np.testing.assert_array_equal(train.x[~forget], clean.x[~forget])
    inside = np.zeros((6, 5), bool)
    inside[-PATCH:, -PATCH:] = True
    assert np.all(train.x[forget][:, inside] == clean.x.max())
    np.testing.assert_array_equal(train.x[forget][:, ~inside], clean.x[forget][:, ~inside])
    for role in HELD_OUT:
        sets, own = found.roles[role], getattr(images, role)
        attacked = marked(sets, "forget")
        assert attacked.sum() == (own.y != 2).sum() and np.all(sets.label[attacked] == 2)
        np.testing.assert_array_equal(
            sets.x[attacked], stamped(own.x[own.y != 2], float(clean.x.max()))
        )
        np.testing.assert_array_equal(sets.label[~attacked], own.y)
        np.testing.assert_array_equal(getattr(found.splits, role).x, own.x)


def test_labels_of_two_classes_are_confused(images):
    found = confused_labels(images, (1, 4), 0.3)
    check_complementary(found)
    clean, forget = images.train.y, marked(found.roles["train"], "forget")
    assert [np.sum(forget & (clean == label)) for label in range(6)] == [0, 6, 0, 0, 6, 0]
    np.testing.assert_array_equal(found.splits.train.y[forget], np.where(clean == 1, 4, 1)[forget])
    np.testing.assert_array_equal(found.splits.train.y[~forget], clean[~forget])
    for role in HELD_OUT:
        sets, own = found.roles[role], getattr(images, role)
        wrong = marked(sets, "forget")
        np.testing.assert_array_equal(sets.label[~wrong], own.y)
        ours = own.y[np.isin(own.y, (1, 4))]
        np.testing.assert_array_equal(sets.label[wrong], np.where(ours == 1, 4, 1))
        np.testing.assert_array_equal(sets.x[wrong], own.x[np.isin(own.y, (1, 4))])


@pytest.mark.parametrize("share", [0.0, 1.0, 0.001, -0.5, float("nan")])
def test_a_share_leaves_something_on_either_side(images, share):
    for build in (
        lambda: random_samples(images, share),
        lambda: backdoor(images, 0, share),
        lambda: confused_labels(images, (0, 1), share),
    ):
        with pytest.raises(ValueError, match="choose one between 0 and 1"):
            build()


def test_classes_have_to_be_there(images):
    with pytest.raises(ValueError, match="class 6: the classes are 0 to 5"):
        backdoor(images, 6, 0.1)
    with pytest.raises(ValueError, match="class 9"):
        confused_labels(images, (0, 9), 0.1)
    for pair in ((1,), (1, 1), (0, 1, 2)):
        with pytest.raises(ValueError, match="labels of two classes"):
            confused_labels(images, pair, 0.1)


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 9, 1)])
def test_a_trigger_needs_room(shape):
    with pytest.raises(ValueError, match="a trigger is put into images"):
        stamped(np.zeros(shape, np.float32), 1.0)
