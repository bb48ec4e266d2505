import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from gymnax.environments import spaces

from modeledit_jax.agents.distributions import Categorical, Gaussian
from modeledit_jax.agents.networks import (
    ActorCritic,
    CategoricalHead,
    GaussianHead,
    Network,
    default_network,
    flatten,
    parameter_labels,
    with_search_distribution,
)


def test_default_network_fits_the_action_space():
    box = default_network(spaces.Box(-1, 1, (2, 3)), (8,))
    policy, value = box.apply(jax.jit(box.init)(jax.random.key(0), jnp.zeros(4)), jnp.ones(4))
    assert isinstance(policy, Gaussian) and policy.mean.shape == (2, 3) and value.shape == ()

    discrete = default_network(spaces.Discrete(5), ())
    policy, _ = discrete.apply(jax.jit(discrete.init)(jax.random.key(0), jnp.zeros(4)), jnp.ones(4))
    assert isinstance(policy, Categorical)
    np.testing.assert_array_equal(policy.logits, np.zeros(5))
    assert isinstance(box, Network)

    with pytest.raises(ValueError, match="use Box or Discrete, or pass one"):
        default_network(spaces.Dict({}), (8,))


@pytest.mark.parametrize("hidden_sizes", [(), (8, 8)])
def test_gaussian_starts_as_the_search_distribution_it_is_given(hidden_sizes):
    network = ActorCritic(GaussianHead((3,)), hidden_sizes)
    start = jnp.array([0.1, -0.2, 0.3])
    params = with_search_distribution(
        jax.jit(network.init)(jax.random.key(0), jnp.zeros(4)), start, 0.25
    )
    policy, _ = network.apply(params, jnp.arange(4.0))
    np.testing.assert_array_equal(policy.mean, start)
    np.testing.assert_allclose(jnp.exp(policy.log_std), [0.25] * 3, rtol=1e-6)


def test_mean_is_the_parameter_plus_a_function_of_the_observation():
    network = ActorCritic(GaussianHead((3,)), (8,))
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros(4))
    noise = jax.tree.map(lambda x: jax.random.normal(jax.random.key(1), x.shape), params)
    means = [network.apply(noise, x)[0].mean for x in (jnp.zeros(4), jnp.ones(4))]
    assert np.abs(means[0] - means[1]).max() > 0.1
    head = noise["params"]["head"]
    moved = {"params": {**noise["params"], "head": {**head, "action_mean": 5 * jnp.ones(3)}}}
    np.testing.assert_allclose(
        network.apply(moved, jnp.ones(4))[0].mean, means[1] - head["action_mean"] + 5, rtol=1e-5
    )


def test_critic_does_not_share_parameters_with_the_actor():
    network = ActorCritic(CategoricalHead(2), (8,))
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros(4))
    gradient = jax.grad(lambda p: network.apply(p, jnp.ones(4))[1])(params)["params"]
    assert not any(np.any(x) for x in jax.tree.leaves([gradient["actor"], gradient["head"]]))
    assert np.any(gradient["critic"]["Dense_0"]["kernel"])


def test_many_seeds_initialize_under_vmap():
    network = ActorCritic(CategoricalHead(2), (64, 64))  # four hidden matrices
    init = jax.jit(jax.vmap(lambda key: network.init(key, jnp.zeros(4))))
    for i in range(20):
        params = jax.block_until_ready(init(jax.random.split(jax.random.key(i), 8)))
    kernel = params["params"]["actor"]["Dense_1"]["kernel"]
    assert kernel.shape == (8, 64, 64)
    assert np.unique(np.asarray(kernel[:, 0, 0])).size == 8
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / 64), rtol=0.05)


def test_flatten_takes_any_pytree():
    observation = {"a": jnp.ones((2, 2)), "b": (jnp.int32(3), jnp.zeros(1))}
    np.testing.assert_array_equal(flatten(observation), [1, 1, 1, 1, 3, 0])
    assert flatten(observation).dtype == jnp.float32


class _NoSearch(nn.Module):
    @nn.compact
    def __call__(self, x):
        logits = nn.Dense(2)(x)
        return Categorical(logits), logits.sum()


def test_search_parameters_are_found_by_name():
    network = ActorCritic(GaussianHead((3,)), (8,))
    labels = parameter_labels(jax.jit(network.init)(jax.random.key(0), jnp.zeros(4)))["params"]
    assert labels["head"] == {
        "action_mean": "action_mean",
        "log_std": "log_std",
        "Dense_0": {"kernel": "network"},
    }
    assert labels["value"]["bias"] == "network"

    other = jax.jit(_NoSearch().init)(jax.random.key(0), jnp.zeros(4))
    assert set(jax.tree.leaves(parameter_labels(other))) == {"network"}
    unchanged = with_search_distribution(other, None, 0.5)
    np.testing.assert_array_equal(
        unchanged["params"]["Dense_0"]["kernel"], other["params"]["Dense_0"]["kernel"]
    )


def test_start_action_that_does_not_fit_is_refused():
    network = ActorCritic(GaussianHead((3,)), ())
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"shape \(2,\), but action_mean .* \{\(3,\)\}"):
        with_search_distribution(params, jnp.zeros(2), 1.0)
    other = jax.jit(_NoSearch().init)(jax.random.key(0), jnp.zeros(4))
    with pytest.raises(ValueError, match="does not exist"):
        with_search_distribution(other, jnp.zeros(2), 1.0)
