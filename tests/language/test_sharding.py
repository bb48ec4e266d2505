"""Where leaves lie on a mesh of eight host devices."""

import jax
import pytest
from jax.sharding import PartitionSpec

from modeledit_jax.language.sharding import parameter_shardings
from tests.language.tiny_models import GPT2, LLAMA


def test_columns_rows_and_the_rest():
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    specs = {path: s.spec for path, s in parameter_shardings(GPT2, mesh).items()}
    assert specs["layers/0/mlp/up/kernel"] == PartitionSpec(None, "model")
    assert specs["layers/0/mlp/up/bias"] == PartitionSpec("model")
    assert specs["layers/0/attention/query/kernel"] == PartitionSpec(None, "model")
    assert specs["layers/0/mlp/down/kernel"] == PartitionSpec("model")
    assert specs["layers/0/attention/output/kernel"] == PartitionSpec("model")
    assert specs["layers/0/mlp/down/bias"] == PartitionSpec()
    assert specs["positions/embedding"] == PartitionSpec("model")
    assert specs["final_norm/scale"] == PartitionSpec()
    assert specs["tokens/embedding"] == PartitionSpec()  # 61 rows do not divide by two


def test_a_mesh_without_the_axes_is_refused():
    mesh = jax.make_mesh((8,), ("x",))
    with pytest.raises(ValueError, match=r"lacks data, model; build it as jax.make_mesh"):
        parameter_shardings(LLAMA, mesh)
