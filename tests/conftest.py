"""Test configuration: eight host devices, strict dtypes and run-time shape checks."""

import os

# Before JAX is imported. Eight host devices also avoid a deadlock of batched QR on 2-core CPUs.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import pytest
from jaxtyping import install_import_hook

# Every annotated shape in the package is checked while the tests run.
install_import_hook("modeledit_jax", "beartype.beartype").__enter__()


@pytest.fixture
def rng():
    """The same random numbers for every test."""
    return np.random.default_rng(0)
