import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.subject import Subject, flax_apply, predict
from tests import tiny


def test_flax_apply_calls_the_module():
    module = MLP(3, (4,))
    x = jnp.ones((2, 6))
    params = jax.jit(module.init)(jax.random.key(0), x)["params"]
    np.testing.assert_array_equal(
        flax_apply(module)(params, x), module.apply({"params": params}, x)
    )


def test_equal_modules_share_one_function_so_that_jit_compiles_once():
    assert flax_apply(MLP(3, (4,))) is flax_apply(MLP(3, (4,)))
    assert flax_apply(MLP(3, (4,))) is not flax_apply(MLP(3, (5,)))


def test_a_subject_is_a_pytree_of_its_parameters():
    subject = tiny.subject()
    doubled = jax.tree.map(lambda leaf: 2 * leaf, subject)
    assert isinstance(doubled, Subject) and doubled.apply is subject.apply
    np.testing.assert_array_equal(
        doubled.params["head"]["kernel"], 2 * subject.params["head"]["kernel"]
    )
    assert len(jax.tree.leaves(subject)) == 6


@pytest.mark.parametrize("batch_size", [1, 7, 40, 100])
def test_predict_equals_one_forward_pass_for_every_batch_size(batch_size):
    subject = tiny.subject()
    x = jnp.asarray(tiny.splits().reward.x)
    outputs = predict(subject.apply, subject.params, x, batch_size)
    np.testing.assert_allclose(outputs, subject.apply(subject.params, x), rtol=1e-5, atol=1e-6)
