import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.edits.parametrization import PerWeight
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.tasks.reward import EditedWeights, SetOutputs, WeightedSum
from modeledit_jax.tasks.task import ROLES
from modeledit_jax.tasks.unlearning import (
    forget_classes,
    forget_in_turn,
    forget_samples,
    unlearning_reward,
)
from tests import tiny


def _weights(task, role):
    sets = task.roles[role]
    return np.asarray(sets.weights["retain"]), np.asarray(sets.weights["forget"])


@pytest.mark.parametrize(
    ("classes", "expected", "name"),
    [(2, (2,), "forget-2"), ([2, 0], (0, 2), "forget-0-2"), ((1, 1), (1,), "forget-1")],
)
def test_classes_are_forgotten_and_every_other_example_is_retained(classes, expected, name):
    task = forget_classes(tiny.subject(), tiny.splits(), classes)
    assert task.forget_classes == expected and task.name == name
    for role in ROLES:
        examples = getattr(tiny.splits(), role)
        retain, forget = _weights(task, role)
        np.testing.assert_array_equal(forget, [float(y in expected) for y in examples.y])
        np.testing.assert_array_equal(retain + forget, 1.0)
        assert retain.dtype == forget.dtype == np.float32
        np.testing.assert_array_equal(task.roles[role].x, examples.x)
        np.testing.assert_array_equal(task.roles[role].targets, examples.y)


@pytest.mark.parametrize("classes", [3, -1, [0, 5], [], [0, 1, 2]])
def test_classes_out_of_range_none_or_all_are_refused(classes):
    with pytest.raises(ValueError, match="at least one and not all of the classes 0 to 2"):
        forget_classes(tiny.subject(), tiny.splits(), classes)


def test_samples_are_the_forget_set_of_every_role():
    rows = [7, 3, 7, 59]
    task = forget_samples(tiny.subject(), tiny.splits(), rows)
    train = tiny.splits().train
    assert task.name == "forget-3-samples" and task.forget_classes == ()
    for role in ROLES:
        retain, forget = _weights(task, role)
        chosen = forget.astype(bool)
        np.testing.assert_array_equal(retain + forget, 1.0)
        np.testing.assert_array_equal(task.roles[role].x[chosen], train.x[[3, 7, 59]])
        np.testing.assert_array_equal(task.roles[role].targets[chosen], train.y[[3, 7, 59]])
        kept = task.roles[role].x[~chosen]
        if role == "train":
            np.testing.assert_array_equal(kept, np.delete(train.x, rows, axis=0))
        else:
            np.testing.assert_array_equal(kept, getattr(tiny.splits(), role).x)


@pytest.mark.parametrize("indices", [[], [-1], [60], [0, 1000]])
def test_samples_outside_the_training_set_are_refused(indices):
    with pytest.raises(ValueError, match=r"must be in 0 … 59"):
        forget_samples(tiny.subject(), tiny.splits(), indices)


def test_site_and_head_bias_are_exact_paths():
    task = tiny.task(site=["fc*/kernel"], head_bias="h*/bias")
    assert task.site == ("fc1/kernel", "fc2/kernel") and task.head_bias == "head/bias"
    assert tiny.task(head_bias=None).head_bias is None


@pytest.mark.parametrize("option", ["site", "head_bias"])
def test_unknown_leaves_are_refused_with_those_there_are(option):
    with pytest.raises(ValueError, match="'fc9/kernel'; the leaves are: fc1/bias"):
        tiny.task(**{option: "fc9/kernel"})


def test_a_function_serves_as_reward():
    task = tiny.task(reward=lambda sets, edit: sets["retain"].accuracy())
    assert float(task.reward.minimum) == -1.0
    assert isinstance(tiny.task().reward, WeightedSum)  # the default


@pytest.fixture(scope="module")
def situation():
    """Six examples of which four are retained: 3 of those are right, 1 of the other two."""
    targets = jnp.array([0, 1, 2, 0, 1, 1])
    outputs = 3.0 * jax.nn.one_hot(jnp.array([0, 1, 2, 1, 1, 0]), 3)
    forget = jnp.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    sets = {
        "retain": SetOutputs(outputs, outputs, targets, 1.0 - forget),
        "forget": SetOutputs(outputs, outputs, targets, forget),
    }
    return sets, EditedWeights({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([1.0, 1.0])})


def test_accuracy_reward_is_utility_plus_forgetting(situation):
    score, parts = unlearning_reward("accuracy", utility=2.0, forgetting=0.5)(*situation)
    assert {name: float(part) for name, part in parts.items()} == {
        "utility": 0.75,
        "forgetting": 0.5,
    }
    assert float(score) == 2.0 * 0.75 + 0.5 * 0.5


def test_soft_reward_takes_probabilities_and_the_edit_size_its_share(situation):
    right = np.exp(3.0) / (np.exp(3.0) + 2.0)
    wrong = 1.0 / (np.exp(3.0) + 2.0)
    score, parts = unlearning_reward("soft", edit_size=0.1)(*situation)
    np.testing.assert_allclose(parts["utility"], (3 * right + wrong) / 4, rtol=1e-6)
    np.testing.assert_allclose(parts["forgetting"], 1 - (right + wrong) / 2, rtol=1e-6)
    np.testing.assert_allclose(parts["edit_size"], -np.sqrt(0.5), rtol=1e-6)
    total = parts["utility"] + parts["forgetting"] + 0.1 * parts["edit_size"]
    np.testing.assert_allclose(score, total, rtol=1e-6)


def test_soft_reward_has_a_gradient_where_accuracy_has_none(situation):
    sets, edit = situation

    def score(outputs, kind):
        changed = {name: value.replace(outputs=outputs) for name, value in sets.items()}
        return unlearning_reward(kind)(changed, edit)[0]

    gradient = jax.grad(score)
    assert not np.any(gradient(sets["retain"].outputs, "accuracy"))
    soft = np.asarray(gradient(sets["retain"].outputs, "soft"))
    own = soft[np.arange(6), np.asarray(sets["retain"].targets)]
    assert np.all(own[:4] > 0) and np.all(own[4:] < 0)  # keep the former, lose the latter


def test_unknown_reward_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown reward 'hard'; choose one of accuracy, soft"):
        unlearning_reward("hard")


@pytest.mark.parametrize("size", [0.0, 1.0, 9.9, 10.1, 1e6, 1e30])
def test_no_network_scores_below_the_minimum(situation, size):
    sets, _ = situation
    worst = {  # every retained example wrong, every other right
        name: value.replace(
            outputs=100.0 * jax.nn.one_hot((value.targets + (name == "retain")) % 3, 3)
        )
        for name, value in sets.items()
    }
    edit = EditedWeights({"w": jnp.array([3.0 * (1 + size), 4.0])}, {"w": jnp.array([3.0, 4.0])})
    reward = unlearning_reward("accuracy", utility=2.0, forgetting=0.5, edit_size=0.3)
    score, parts = reward(worst, edit)
    np.testing.assert_allclose(parts["edit_size"], -min(0.6 * size, 10.0), rtol=1e-5)
    np.testing.assert_allclose(reward.minimum, -3.0)
    assert float(score) >= float(reward.minimum)
    assert (float(score) == float(reward.minimum)) == (0.6 * size > 10)  # a true minimum
    assert float(unlearning_reward("accuracy")(worst, edit)[0]) == 0.0
    assert str(float(unlearning_reward("accuracy").minimum)) == "0.0"  # and not -0.0


def test_a_broken_network_earns_no_more_than_a_working_one():
    reward = unlearning_reward("soft", edit_size=2.0)
    env = ShiftWorld(tiny.task(reward=reward), parametrization=PerWeight())
    params = env.default_params
    score = jax.jit(
        lambda action: env.evaluate(env.apply_plan(action[None], params.original), params)
    )
    broken, _, invalid = score(jnp.full(env.num_actions, jnp.inf))
    assert float(broken) == -20.0 and not bool(invalid)
    rng = np.random.default_rng(0)
    for scale in (1.0, 100.0, 1e10):
        action = jnp.asarray(scale * rng.normal(size=env.num_actions), jnp.float32)
        assert float(score(action)[0]) >= float(broken)


@pytest.mark.parametrize("name", ["utility", "forgetting", "edit_size"])
@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_weights_without_a_minimum_are_refused(name, weight):
    with pytest.raises(ValueError, match=f"the weight {name} must be finite and at least 0, got"):
        unlearning_reward(**{name: weight})


def test_classes_are_forgotten_one_after_another():
    """Whoever was forgotten stays so; the last request is that of all classes at once."""
    task = forget_in_turn(tiny.subject(), tiny.splits(), (2, 0), site="fc*/kernel")
    assert task.name == "forget-in-turn-2-0" and task.forget_classes == (0, 2)
    assert task.requests == 2 and task.site == ("fc1/kernel", "fc2/kernel")
    last = forget_classes(tiny.subject(), tiny.splits(), (0, 2))
    for role in ROLES:
        y = getattr(tiny.splits(), role).y
        retain, forget = _weights(task, role)
        np.testing.assert_array_equal(forget, [y == 2, (y == 2) | (y == 0)])
        np.testing.assert_array_equal(retain, [y != 2, y == 1])
        assert retain.dtype == forget.dtype == np.float32
        np.testing.assert_array_equal((retain[-1], forget[-1]), _weights(last, role))
        np.testing.assert_array_equal(task.roles[role].x, getattr(tiny.splits(), role).x)
        np.testing.assert_array_equal(task.roles[role].targets, y)


def test_one_class_in_turn_is_one_request():
    task = forget_in_turn(tiny.subject(), tiny.splits(), [1], head_bias=None)
    assert task.requests == 1 and task.name == "forget-in-turn-1" and task.head_bias is None
    assert _weights(task, "reward")[0].shape == (1, tiny.SIZES["reward"])
    assert tiny.task(1).requests == 1  # sets that never change


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((1, 0, 1), "a class can be forgotten once; got 1, 0, 1"),
        ((0, 1, 2), "at least one and not all of the classes 0 to 2"),
        ((0, 3), "cannot forget class 3: choose"),
        ((), "cannot forget class none"),
    ],
)
def test_classes_that_cannot_be_forgotten_in_turn_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        forget_in_turn(tiny.subject(), tiny.splits(), classes)


@pytest.mark.parametrize(
    "classes", [np.int32(2), jnp.int32(2), jnp.array([2]), np.array(2), [np.int64(2)], {2}]
)
def test_a_class_is_an_integer_of_any_library(classes, unchecked_annotations):
    assert forget_classes(tiny.subject(), tiny.splits(), classes).forget_classes == (2,)


@pytest.mark.parametrize("classes", [2.0, [1.5], True, [False], "2", None, np.arange(3) == 1])
def test_other_classes_are_refused(classes, unchecked_annotations):
    for make in (forget_classes, forget_in_turn):
        with pytest.raises(ValueError, match="classes must be"):
            make(tiny.subject(), tiny.splits(), classes)


def test_samples_may_be_given_by_a_mask_or_as_one_number(unchecked_annotations):
    mask = tiny.splits().train.y == 1
    task = forget_samples(tiny.subject(), tiny.splits(), mask)
    np.testing.assert_array_equal(_weights(task, "train")[1], mask)
    assert forget_samples(tiny.subject(), tiny.splits(), 5).name == "forget-1-samples"
    with pytest.raises(ValueError, match="one boolean for each of 60 rows"):
        forget_samples(tiny.subject(), tiny.splits(), mask[:-1])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_without_examples_of_a_class_is_named(role):
    examples = getattr(tiny.splits(), role)
    rest, alone = examples.y != 1, examples.y == 1
    for kept, message in ((rest, "no example of class 1"), (alone, "of a class to retain")):
        part = type(examples)(examples.x[kept], examples.y[kept])
        splits = tiny.splits().replace(**{role: part})
        with pytest.raises(ValueError, match=f"the role {role} has {message}|{message}"):
            forget_classes(tiny.subject(), splits, 1)
    with pytest.raises(ValueError, match=f"the role {role} has no example of class 1"):
        forget_in_turn(tiny.subject(), tiny.splits().replace(**{role: type(examples)(
            examples.x[rest], examples.y[rest])}), [0, 1])  # fmt: skip


@pytest.mark.parametrize(
    ("head_bias", "message"),
    [
        (
            "out/bias",
            "no parameter matches head_bias 'out/bias'; .* head_bias=None if there is none",
        ),
        ("fc1/bias", r"matches fc1/bias \(5,\), of which 0 have one entry for each output"),
        (3, "head_bias must be text"),
    ],
)
def test_the_head_bias_is_named_where_it_is_wrong(head_bias, message, unchecked_annotations):
    with pytest.raises(ValueError, match=message):
        forget_classes(tiny.subject(), tiny.splits(), 1, head_bias=head_bias)
    assert forget_classes(tiny.subject(), tiny.splits(), 1, head_bias="*/bias").head_bias == (
        "head/bias"
    )


@pytest.mark.parametrize("splits", [{"train": 1}, (1, 2), None, []])
def test_splits_of_another_type_are_refused(splits, unchecked_annotations):
    for make in (forget_classes, forget_in_turn, forget_samples):
        with pytest.raises(ValueError, match=r"without train, .*: pass Splits"):
            make(tiny.subject(), splits, [1])
