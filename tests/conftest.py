"""Test configuration: eight host devices, strict dtypes and run-time shape checks."""

import atexit
import os
import shutil
import tempfile

# Before JAX is imported. Eight host devices also avoid a deadlock of batched QR on 2-core CPUs.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Compilation is most of the time. Many tests, both processes and their children compile the same.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.mkdtemp(prefix="modeledit-jax-compiled-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import numpy as np
import pytest
from jaxtyping import install_import_hook

# Every annotated shape in the package is checked while the tests run.
install_import_hook("modeledit_jax", "beartype.beartype").__enter__()


@pytest.fixture
def rng():
    """The same random numbers for every test."""
    return np.random.default_rng(0)
