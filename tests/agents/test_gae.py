import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.agents.gae import generalized_advantages

jitted = jax.jit(generalized_advantages)


def by_definition(reward, value, next_value, terminated, truncated, gamma, lam):
    """Σ_k (γλ)^k δ_{t+k}, over the rest of the episode that step t belongs to."""
    advantage = np.zeros(len(reward))
    for t in range(len(reward)):
        weight = 1.0
        for k in range(t, len(reward)):
            future = 0.0 if terminated[k] else gamma * next_value[k]
            advantage[t] += weight * (reward[k] + future - value[k])
            if terminated[k] or truncated[k]:
                break
            weight *= gamma * lam
    return advantage


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.sampled_from([1, 2, 33]),
    ends=st.floats(0, 0.7),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
)
def test_agrees_with_the_definition(seed, steps, ends, gamma, lam):
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, steps, 2)).astype(np.float32)
    terminated, truncated = rng.random((2, steps, 2)) < ends
    inputs = (reward, value, next_value, terminated, truncated)
    result = jitted(*map(jnp.asarray, inputs), gamma, lam)
    expected = [by_definition(*(x[:, e] for x in inputs), gamma, lam) for e in range(2)]
    np.testing.assert_allclose(result, np.stack(expected, axis=1), rtol=1e-4, atol=1e-4)


def test_lambda_one_is_the_monte_carlo_return():
    reward, value = jnp.array([1.0, 2.0, 4.0]), jnp.array([0.5, -1.0, 3.0])
    flags = jnp.zeros(3, bool)
    next_value = jnp.array([-1.0, 3.0, 8.0])
    result = generalized_advantages(reward, value, next_value, flags, flags, 0.5, 1.0)
    # 4 + 8/2, 2 + 8/2, 1 + 6/2, less the values
    np.testing.assert_allclose(result, [4.0 - 0.5, 6.0 + 1.0, 8.0 - 3.0])


def test_only_truncation_bootstraps():
    one, no, yes = jnp.ones(1), jnp.zeros(1, bool), jnp.ones(1, bool)
    arguments = one, 0 * one, 10 * one
    assert generalized_advantages(*arguments, no, yes, 0.5, 0.9)[0] == 6.0
    assert generalized_advantages(*arguments, yes, no, 0.5, 0.9)[0] == 1.0
    # A step may reach the goal and the limit at once: then there is no future.
    assert generalized_advantages(*arguments, yes, yes, 0.5, 0.9)[0] == 1.0
