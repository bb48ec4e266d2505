"""Closed-form editors against NumPy: QR, least squares and finite differences."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from modeledit_jax.editors.editor import Editor
from modeledit_jax.editors.unlearning.closed_form import (
    ProjectionEditor,
    PrototypeProjection,
    RidgeEditor,
    class_means,
    lead_steps,
    residual_basis,
    ridge_update,
)
from modeledit_jax.edits.site import get_leaves, leaf_paths, set_leaves
from modeledit_jax.evaluation.accuracy import margins
from modeledit_jax.subjects.image_classifiers import CNN, MLP, unfold
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.subjects.training import TrainingConfig, train_classifier
from modeledit_jax.tasks.unlearning import forget_classes, forget_samples
from modeledit_jax.types import Examples
from tests import tiny

KEY = jax.random.key(0)
SITE = "fc2/kernel"
EDITORS = [ProjectionEditor(), RidgeEditor()]


def _leaf(params, path=SITE):
    return np.asarray(get_leaves(params, [path])[path], np.float64)


def _edited(editor, task, path=SITE):
    """The kernel afterwards; every leaf outside of the site is the same object."""
    params, before = editor.edit(task, KEY).params, jax.tree.leaves(task.subject.params)
    leaves = zip(leaf_paths(params), before, jax.tree.leaves(params), strict=True)
    assert {path for path, old, new in leaves if old is not new} == set(task.site)
    return _leaf(params, path)


def _inputs(task):
    """What fc2 reads on the reward role ``[N, D]``, and the labels."""
    params, reward = task.subject.params, tiny.splits().reward
    return np.maximum(
        reward.x @ _leaf(params, "fc1/kernel") + _leaf(params, "fc1/bias"), 0
    ), reward.y


def _leads(task, z, label):
    """Leads of the true class where fc2 puts out ``z + bias``."""
    bias, kernel, offset = (
        _leaf(task.subject.params, path) for path in ("fc2/bias", "head/kernel", "head/bias")
    )
    logits = np.maximum(z + bias, 0.0) @ kernel + offset
    rivals = [np.delete(row, own) for row, own in zip(logits, label, strict=True)]
    return logits[np.arange(len(label)), label] - logsumexp(rivals, axis=1)


@lru_cache
def _trained():
    module, train = MLP(tiny.CLASSES, (8, 6)), tiny.splits().train
    examples = Examples(jnp.asarray(train.x), jnp.asarray(train.y))
    params = train_classifier(module, examples, TrainingConfig(40, 20, learning_rate=0.02), KEY)
    return Subject(params, flax_apply(module))


def test_class_means_weigh_examples_and_average_positions():
    h = np.array([[[1.0, 0.0], [3.0, 2.0]], [[4.0, 4.0], [4.0, 4.0]], [[9.0, 9.0], [9.0, 9.0]]])
    found = class_means(h, np.array([5, 5, 2]), np.array([3.0, 1.0, 0.0]))
    np.testing.assert_allclose(found, [[(3 * 2 + 4) / 4, (3 * 1 + 4) / 4]])  # class 2 has no weight
    found = class_means(h, np.array([5, 2, 2]), np.ones(3))
    np.testing.assert_allclose(found, [[6.5, 6.5], [2.0, 1.0]])


def test_bases_are_orthonormal_and_span_all_residuals(rng):
    forget, retain = rng.normal(size=(2, 6)) * [[1.0], [1e3]], rng.normal(size=(3, 6))
    basis = residual_basis(forget, retain)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(retain @ basis, 0.0, atol=1e-12)
    q, _ = np.linalg.qr(retain.T)
    residual = forget - forget @ q @ q.T
    np.testing.assert_allclose(residual @ basis @ basis.T, residual, rtol=1e-9, atol=1e-9)
    # A residual that repeats another adds nothing; that of one class is normalized.
    assert residual_basis(np.stack([forget[0], 2 * forget[0] + retain[0]]), retain).shape == (6, 1)
    one = residual_basis(np.array([[7.0, 3.0, 4.0]]), np.array([[2.0, 0.0, 0.0], [4.0, 0.0, 0.0]]))
    np.testing.assert_allclose(np.abs(one[:, 0]), [0.0, 0.6, 0.8], atol=1e-12)


@pytest.mark.parametrize("forget", [[3.0, -2.0, 1e-7], [0.0, 0.0, 0.0]])
def test_a_class_without_a_direction_of_its_own_is_an_error(forget):
    with pytest.raises(ValueError, match="choose RidgeEditor, or a layer with more inputs"):
        residual_basis(np.array([forget]), np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))


@pytest.mark.parametrize("classes", [0, 2, (0, 1)])
@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_projection_scales_the_residual_and_keeps_retained_prototypes(classes, strength):
    task = tiny.task(classes)
    h, label = _inputs(task)
    means = np.stack([h[label == c].mean(axis=0) for c in range(tiny.CLASSES)])
    forgotten = list(task.forget_classes)
    retain = np.delete(means, forgotten, axis=0)
    q, _ = np.linalg.qr(retain.T)
    residual = means[forgotten] - means[forgotten] @ q @ q.T
    before, after = _leaf(task.subject.params), _edited(ProjectionEditor(strength), task)
    np.testing.assert_allclose(residual @ after, (1 - strength) * residual @ before, atol=2e-6)
    np.testing.assert_allclose(retain @ after, retain @ before, atol=2e-6)
    assert np.linalg.matrix_rank(after - before, tol=1e-5) == len(forgotten)
    assert np.abs(after - before).max() > 0.05


def test_steps_take_the_lead_to_minus_the_margin_to_first_order(rng):
    slope, lead = rng.normal(size=(6, 3)), np.array([2.0, -1.0, -9.0, 4.0, 1.0, 3.0])
    label, weights = np.array([0, 0, 0, 1, 1, 0]), np.array([1.0, 1.0, 2.0, 1.0, 1.0, 0.0])
    steps = lead_steps(lead, slope, label, weights, 1.5)
    means = [(slope[0] + slope[1] + 2 * slope[2]) / 4, slope[3:5].mean(axis=0)]
    for row, c in enumerate(label[:5]):
        np.testing.assert_allclose(lead[row] + steps[row] @ means[c], min(lead[row], -1.5))
        np.testing.assert_allclose(np.cross(steps[row], means[c]), 0.0, atol=1e-12)  # no detour
    np.testing.assert_array_equal(steps[[2, 5]], 0.0)  # far behind as it is; not to be forgotten
    with pytest.raises(ValueError, match="does not influence class 0: choose another site"):
        lead_steps(lead, np.zeros((6, 3)), label, weights, 1.5)


def test_the_ridge_update_is_the_least_squares_of_the_stacked_system(rng):
    h, steps, first = rng.normal(size=(9, 2, 4)), rng.normal(size=(9, 3)), np.arange(9) < 4
    forget, retain = (rng.uniform(0.5, 2.0, 9) * own for own in (first, ~first))
    share = np.repeat(retain / retain.sum() + 3.0 * forget / forget.sum(), 2) / 2
    rows, targets = h.reshape(18, 4), np.repeat(steps * first[:, None], 2, axis=0)
    rho = 0.2 * np.mean(share @ rows**2)
    root = np.sqrt(share)[:, None]
    system = np.concatenate([root * rows, np.sqrt(rho) * np.eye(4)])
    wanted = np.concatenate([root * targets, np.zeros((4, 3))])
    expected = np.linalg.lstsq(system, wanted, rcond=None)[0]
    found = ridge_update(h, steps, retain, forget, 3.0, 0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(system.T @ (system @ found - wanted), 0.0, atol=1e-12)
    # The number of retained examples and the unit of the inputs play no part.
    kept = np.concatenate([np.arange(9), *[np.arange(4, 9)] * 3])
    more = ridge_update(10 * h[kept], steps[kept], retain[kept], forget[kept], 3.0, 0.2)
    np.testing.assert_allclose(more, expected / 10)
    dead = np.concatenate([h, np.zeros((9, 2, 1))], axis=2)
    np.testing.assert_array_equal(ridge_update(dead, steps, retain, forget, 3.0, 0.2)[4], 0.0)


@pytest.mark.parametrize("classes", [1, (0, 2)])
def test_the_ridge_editor_equals_numpy_with_finite_differences(classes):
    task = tiny.task(classes)
    h, label = _inputs(task)
    z = h @ _leaf(task.subject.params)
    nudges = 1e-6 * np.eye(z.shape[1])
    pairs = [(_leads(task, z + e, label), _leads(task, z - e, label)) for e in nudges]
    slope = np.stack([(up - down) / 2e-6 for up, down in pairs], axis=1)
    lead, steps = _leads(task, z, label), np.zeros_like(z)
    for c in task.forget_classes:
        mean = slope[label == c].mean(axis=0)
        steps[label == c] = -np.maximum(lead[label == c, None] + 2.0, 0.0) * mean / (mean @ mean)
    forget = np.isin(label, task.forget_classes)
    f, r = h[forget], h[~forget]
    moment = r.T @ r / len(r) + 1.7 * f.T @ f / len(f)
    moment += 0.05 * np.mean(np.diag(moment)) * np.eye(5)
    change = np.linalg.inv(moment) @ (1.7 * f.T @ steps[forget] / len(f))
    found = _edited(RidgeEditor(1.7, 0.05, 2.0), task) - _leaf(task.subject.params)
    np.testing.assert_allclose(found, change, rtol=1e-4, atol=1e-5)
    assert np.abs(change).max() > 0.1


@pytest.mark.parametrize(("editor", "part"), [(ProjectionEditor(0.7), 1.0), (RidgeEditor(), 0.5)])
def test_several_kernels_are_edited_from_the_original_activations(editor, part):
    sites = (SITE, "head/kernel")
    task = tiny.task(1, site=sites)
    for path in sites:
        before = _leaf(task.subject.params, path)
        alone = _edited(editor, tiny.task(1, site=path), path) - before
        np.testing.assert_allclose(
            _edited(editor, task, path) - before, part * alone, rtol=1e-4, atol=1e-6
        )


@pytest.mark.slow
def test_positions_of_a_convolution_count_as_inputs():
    splits, path = tiny.splits(), "conv2/kernel"
    rng, centers = np.random.default_rng(0), np.random.default_rng(1).normal(size=(3, 6, 5, 2))

    def as_images(part):
        noise = rng.normal(size=(len(part), 6, 5, 2))
        return Examples((noise + centers[part.y]).astype(np.float32), part.y)

    roles = {role: as_images(getattr(splits, role)) for role in tiny.SIZES}
    label, images = splits.reward.y, jnp.asarray(roles["reward"].x)
    module = CNN(3, channels=(4, 4), hidden=(6,))
    params = jax.jit(module.init)(KEY, images)["params"]
    subject = Subject(params, flax_apply(module))
    task = forget_classes(subject, replace(splits, **roles), 1, site=path)
    first = unfold(images, size=3, stride=2) @ params["conv1"]["kernel"]
    read = np.asarray(unfold(jax.nn.relu(first), size=3, stride=2)).reshape(len(label), -1, 36)
    means = np.stack([read[label == c].mean(axis=(0, 1)) for c in range(3)])
    change = _edited(ProjectionEditor(1.0), task, path) - _leaf(params, path)
    np.testing.assert_allclose(means[[0, 2]] @ change, 0.0, atol=1e-6)
    assert np.abs(means[1] @ change).max() > 0.01

    def lead(bias):  # one bias acts at every position, as the wanted change does
        own = set_leaves(params, {"conv2/bias": bias})
        return margins(task.subject.apply(own, images), jnp.asarray(label))

    bias = params["conv2"]["bias"]
    leads, slope = (np.asarray(a) for a in (lead(bias), jax.jacobian(lead)(bias)))
    forget = (label == 1).astype(np.float32)
    steps = lead_steps(leads, slope, label, forget, 1.0)
    expected = ridge_update(read, steps, 1 - forget, forget, 3.0, 0.01)
    found = _edited(RidgeEditor(3.0, 0.01, 1.0), task, path) - _leaf(params, path)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("classes", [0, 1, 2, (0, 2)])
@pytest.mark.parametrize("editor", EDITORS)
def test_a_trained_network_forgets_and_keeps(editor, classes):
    task = tiny.task(classes, base=_trained())
    select = tiny.splits().select
    forget = np.isin(select.y, task.forget_classes)

    def outcome(params):
        p = np.asarray(jax.nn.softmax(task.subject.apply(params, jnp.asarray(select.x))))
        own, hit = p[np.arange(len(p)), select.y], p.argmax(axis=1) == select.y
        return own[forget].mean(), hit[forget].mean(), hit[~forget].mean()

    result = editor.edit(task, KEY)
    before, after = outcome(task.subject.params), outcome(result.params)
    assert min(before) > 0.8 and max(after[:2]) < 0.3 and after[2] > before[2] - 0.15
    assert isinstance(editor, Editor) and result.cost.seconds > 0
    assert result.cost.reward_evaluations == result.cost.gradient_steps == 0
    alone = replace(task, roles={"reward": task.roles["reward"]})  # nothing else is read
    again = editor.edit(alone, jax.random.key(1)).params
    jax.tree.map(np.testing.assert_array_equal, result.params, again)


@pytest.mark.slow
@pytest.mark.parametrize("editor", EDITORS)
def test_low_precision_and_single_samples_are_served(editor):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), _trained().params)
    kernels = {name: layer["kernel"] for name, layer in params.items()}

    def apply(w, x):
        return jax.nn.relu(jax.nn.relu(x.astype(jnp.bfloat16) @ w["fc1"]) @ w["fc2"]) @ w["head"]

    task = tiny.task(0, base=Subject(kernels, apply), site="fc2", head_bias=None)
    assert np.isfinite(_edited(editor, task, "fc2")).all()
    assert editor.edit(task, KEY).params["fc2"].dtype == jnp.bfloat16
    _edited(editor, forget_samples(_trained(), tiny.splits(), [3]))


@pytest.mark.parametrize("editor", EDITORS)
def test_bad_tasks_name_the_cure(editor):
    task = tiny.task(0)
    sets = task.roles["reward"]
    for weights in ({"comments": sets.weights["retain"]}, {**sets.weights, "forget": np.zeros(40)}):
        other = replace(task, roles={"reward": replace(sets, weights=weights)})
        with pytest.raises(ValueError, match="takes a task of forget_classes or forget_samples"):
            editor.edit(other, KEY)
    with pytest.raises(ValueError, match=r"fc2/bias once, as x @ W.*choose another site"):
        editor.edit(tiny.task(0, site="fc2/*"), KEY)
    params = set_leaves(task.subject.params, {"head/bias": jnp.full(3, jnp.nan)})
    with pytest.raises(ValueError, match=r"weights that are not finite .* in 'head/bias'"):
        editor.edit(tiny.task(0, base=replace(task.subject, params=params)), KEY)


@pytest.mark.parametrize(
    ("editor", "message"),
    [
        (ProjectionEditor(float("inf")), "all settings must be finite"),
        (RidgeEditor(margin=float("nan")), "all settings must be finite"),
        (RidgeEditor(weight=0.0), "weight and ridge must be above 0"),
        (RidgeEditor(ridge=-0.1), "weight and ridge must be above 0"),
    ],
)
def test_bad_settings_name_the_cure(editor, message):
    with pytest.raises(ValueError, match=message):
        editor.edit(tiny.task(0), KEY)


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_a_prototype_projection_takes_the_class_out_of_the_outputs(strength):
    task = tiny.task(1, site="fc1/kernel")
    sets = task.roles["reward"]
    kernel, x = np.asarray(task.leaves["fc1/kernel"], np.float64), np.asarray(sets.x, np.float64)
    means = np.stack([(x[sets.targets == c] @ kernel).mean(axis=0) for c in range(3)])
    center = (means[0] + means[2]) / 2
    forget, between = means[1] - center, means[0] - center
    residual = forget - between * (forget @ between) / (between @ between)
    unit = residual / np.linalg.norm(residual)
    found = PrototypeProjection(strength).edit(task, KEY).params["fc1"]["kernel"]
    expected = kernel - strength * np.outer(kernel @ unit, unit)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    after = np.stack([(x[sets.targets == c] @ found).mean(axis=0) for c in range(3)])
    np.testing.assert_allclose(after[0] - after[2], means[0] - means[2], rtol=1e-3, atol=1e-5)
    apart = (after[1] - (after[0] + after[2]) / 2) @ unit
    np.testing.assert_allclose(
        apart, (1 - strength) * np.linalg.norm(residual), rtol=1e-3, atol=1e-5
    )
