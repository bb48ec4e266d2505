"""Test configuration: eight host devices, strict dtypes and run-time shape checks."""

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

# Before JAX is imported. Eight host devices also avoid a deadlock of batched QR on 2-core CPUs.
# Compiling is most of the time: the two other flags take a third off, and level 0 would break the
# equality of bits that is promised. Flags of the caller come last and win.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1 "
    "--xla_cpu_use_fusion_emitters=false " + os.environ.get("XLA_FLAGS", "")
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs that sum over different devices at once need more threads than devices (docs/scale.md).
os.environ.setdefault("PJRT_NPROC", "64")

# Many tests, both processes and their children compile the same.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.mkdtemp(prefix="modeledit-jax-compiled-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import jaxtyping
import numpy as np
import pytest
from jaxtyping import install_import_hook

# Every annotated shape in the package is checked while the tests run.
install_import_hook("modeledit_jax", "beartype.beartype").__enter__()


@pytest.fixture
def rng():
    """The same random numbers for every test."""
    return np.random.default_rng(0)


@pytest.fixture
def unchecked_annotations():
    """Annotations are not checked, as users have it: the package itself has to refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module", autouse=True)
def _compiled_programs_stay_few():
    """Lets go of compiled programs after a module that leaves very many of them.

    Each takes several memory maps; Linux allows a process 65,530 and ends the one that asks for
    more. The next module finds on disk what both need.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_text().splitlines()) > 20_000:
        jax.clear_caches()
        gc.collect()
