"""The released metrics of RLEdit (``succ_ratios``), exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.evaluation.knowledge import prefers_by_token, token_accuracy
from tests.lifelong.golden import load, section


def _case(name):
    arrays = section(load("metrics"), f"{name}/")
    return (arrays[k] for k in ("logits", "labels", "ratios")), arrays.get("old_labels")


def test_token_accuracy_is_that_of_zsre():
    (logits, labels, ratios), _ = _case("zsre")
    with jax.enable_x64(True):
        accuracy = token_accuracy(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_array_equal(np.asarray(accuracy, np.float32), ratios)


@pytest.mark.parametrize("case", ["equal", "old_longer", "old_shorter"])
def test_preference_by_token_is_that_of_counterfact(case):
    (logits, labels, ratios), rivals = _case(f"counterfact_{case}")
    length = min(labels.shape[1], rivals.shape[1])  # the released code cuts the longer one
    with jax.enable_x64(True):
        prefers = prefers_by_token(
            jnp.asarray(logits[:, :length]),
            jnp.asarray(labels[:, :length]),
            jnp.asarray(rivals[:, :length]),
        )
    np.testing.assert_array_equal(np.asarray(prefers, np.float32), ratios)
