import jax
import pytest

from modeledit_jax.agents import PPOConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_envs": 3, "num_steps": 5, "num_minibatches": 4}, "15 is not divisible by"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"env_batch_size": 0}, "env_batch_size is 0"),
        ({"schedule": "step"}, "'constant', 'linear', 'quadratic', 'cosine'"),
        ({"normalize_advantage": "always"}, "'minibatch', 'batch', 'none'"),
        ({"num_envs": 4, "num_steps": 1}, "normalize_advantage='minibatch' over a single sample"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**fields)


def test_single_samples_are_allowed_without_normalization():
    config = PPOConfig(num_envs=1, num_steps=1, num_minibatches=1, normalize_advantage="none")
    assert config.minibatch_size == 1


def test_numbers_are_leaves_and_sizes_are_static():
    leaves = jax.tree.leaves(PPOConfig(learning_rate=0.125, num_envs=7, num_minibatches=1))
    assert 0.125 in leaves and 7 not in leaves
    stacked = jax.vmap(lambda rate: PPOConfig(learning_rate=rate))(jax.numpy.ones(3))
    assert stacked.learning_rate.shape == (3,) and stacked.num_envs == 8
