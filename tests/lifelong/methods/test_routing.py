"""Which modules are changed, and how a router learns it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.methods.router import RouterConfig
from modeledit_jax.lifelong.methods.routing import Routing, masked
from modeledit_jax.lifelong.model import squared_norms
from tests.lifelong.test_model import random_changes

KEY = jax.random.key(0)
ROUTER = RouterConfig(hidden_size=4)
WORTH = jnp.array([1.0, -2.0, 0.5])  # how much each of three modules lowers the loss below


@pytest.fixture(scope="module")
def case(model, stream):
    """A router, the rows of a batch and changes of all modules."""
    routing = Routing(fraction=0.34, router=ROUTER, entropy=0.0)  # one module of three
    editor = HypernetworkEditor("ultraedit", rows=6, routing=routing)
    state = editor.init(model, KEY)
    batch = jax.tree.map(lambda leaf: leaf[0], stream)
    rows, state = editor.observe(model, model.kernels(), state, batch)
    return routing, state, rows, random_changes(model)


def worth(model):
    """A loss that is linear in the mask."""

    def loss(changes):
        masks = [changes[name].mask for name in model.modules]
        return -sum(
            w * (1.0 if m is None else m) for w, m in zip(WORTH, masks, strict=True)
        ) * jnp.float32(1)

    return loss


def choose(routing, model, case, key=KEY, router=None):
    _, state, rows, changes = case
    return routing.choose(router, model, state.statistics, rows, changes, key)


@pytest.mark.parametrize(
    ("how", "expected"), [("dense", [1, 1, 1]), ("fixed", [0, 1, 0]), ("norm", None)]
)
def test_rules_without_learning(model, case, how, expected):
    routing = Routing(how, fraction=0.34, fixed=(1,))
    mask = choose(routing, model, case)
    if how == "norm":
        norms = squared_norms(case[3])
        best = np.argmax([norms[name] for name in model.modules])
        expected = np.eye(3)[best]
    np.testing.assert_array_equal(mask, expected)


def test_random_choices_have_the_right_number_and_differ(model, case):
    masks = [
        choose(Routing("random", fraction=0.67), model, case, key)
        for key in jax.random.split(KEY, 20)
    ]
    assert {int(mask.sum()) for mask in masks} == {2}
    assert len({tuple(np.asarray(mask)) for mask in masks}) == 3


def test_masks_go_to_their_modules(model, case):
    chosen = masked(case[3], model, jnp.array([0.0, 1.0, 0.5]))
    assert [float(chosen[name].mask) for name in model.modules] == [0.0, 1.0, 0.5]


def gradient(routing, model, case, keys):
    """Mean gradient of the training loss with respect to the gate's bias, which shifts scores."""
    _, state, rows, changes = case
    router = state.learned.router

    def loss(bias, key):
        own = router.replace(gate=router.gate.replace(bias=bias))
        value, _, metrics = routing.training_loss(
            own, model, state.statistics, rows, changes, key, worth(model)
        )
        return value, metrics

    found, metrics = jax.vmap(jax.grad(loss, has_aux=True), in_axes=(None, 0))(
        router.gate.bias, keys
    )
    return found, metrics


@pytest.mark.slow
def test_reinforce_follows_the_expected_reward(model, case):
    """One module of three: the expectation over choices is a sum."""
    routing, state, rows, _ = case
    policy = routing.policy(state.learned.router, model, state.statistics, rows)
    p = jax.nn.softmax(policy.logits)
    # d/dz Σ p_i · (−worth_i): the baseline, the loss of the dense change, drops out.
    expected = -(p * (WORTH - (p * WORTH).sum()))
    found, metrics = gradient(routing, model, case, jax.random.split(jax.random.key(5), 4_000))
    error = np.asarray(found).std(0) / np.sqrt(len(found))
    np.testing.assert_array_less(np.abs(found.mean(0) - expected), 4 * error + 1e-4)
    # The advantage is r(ω) − r(1): worth of the one that was drawn, less the worth of all.
    assert set(np.round(np.asarray(metrics["advantage"]), 4)) == {1.5, -1.5, 1.0}


def test_straight_through_passes_the_gradient_of_the_mask(model, case):
    routing = replace(case[0], gradient="ste")
    found, metrics = gradient(routing, model, case, KEY[None])
    np.testing.assert_allclose(found[0], -WORTH, rtol=1e-5)
    assert "advantage" not in metrics


def test_a_dense_baseline_is_nothing_to_straight_through(model, case):
    """What the released HiEdit subtracts does not depend on the mask."""
    routing = replace(case[0], gradient="ste")
    _, state, rows, changes = case

    def value(bias, baseline):
        router = state.learned.router
        own = router.replace(gate=router.gate.replace(bias=bias))
        loss = worth(model)
        found, _, _ = routing.training_loss(own, model, state.statistics, rows, changes, KEY, loss)
        return found - baseline * loss(changes)

    bias = state.learned.router.gate.bias
    np.testing.assert_array_equal(jax.grad(value)(bias, 0.0), jax.grad(value)(bias, 1.0))


def test_a_router_that_counts_needs_draws():
    with pytest.raises(ValueError, match="reinforce"):
        Routing(router=RouterConfig(learn_count=True), gradient="ste")
    with pytest.raises(ValueError, match="fraction"):
        Routing(fraction=0.0)


def test_a_learned_router_decides_the_same_way_twice(model, case):
    routing, state, *_ = case
    masks = [
        choose(routing, model, case, key, state.learned.router) for key in jax.random.split(KEY, 3)
    ]
    assert all((mask == masks[0]).all() for mask in masks) and masks[0].sum() == 1
