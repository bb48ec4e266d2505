"""Digests tell values apart by their content, and are the same in another process."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.search.evolution import SNES
from modeledit_jax.run.identity import identities
from modeledit_jax.subjects.image_classifiers import MLP
from tests import tiny
from tests.editors.policies import untrained


@dataclass(frozen=True)
class One:
    value: Any = 1.0


@dataclass(frozen=True)
class Other:
    value: Any = 1.0


def _function(x):
    return x


LARGE = np.zeros(5000, np.float32)
DIFFERENT = [
    None, True, 2, 2.5, "2", [2], [[2]], {"a": 2}, {"a": None}, One(), One(2.0), Other(),
    One(One()), np.zeros(3), np.zeros(3, np.float32), np.zeros((3, 1)), np.ones(3), LARGE,
    np.where(np.arange(5000) == 2500, np.float32(1e-7), LARGE), jnp.bfloat16(1.0),
    jax.random.key(0), jax.random.key(1), _function, max, One, SNES(), SNES(std=0.2),
    SNES(std=jnp.float32(0.3)), MLP(3, (4,)), MLP(3, (5,)), untrained(), untrained("mask"),
    replace(untrained(), adaptation=1), tiny.task(0), tiny.task(1), tiny.task(0, seed=3),
]  # fmt: skip


def test_different_values_have_different_digests():
    found = identities(DIFFERENT)
    assert len(set(found)) == len(found)


def test_equal_values_have_the_same():
    pairs = [
        (One(np.arange(4)), One(np.arange(4))),
        (np.arange(4.0, dtype=np.float32), jnp.arange(4.0)),
        (np.arange(8)[::2], np.arange(0, 8, 2)),
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (object(), object()),  # but for their addresses
        (tiny.task(0), tiny.task(0)),
    ]
    for one, other in pairs:
        first, second = identities([one, other])
        assert first == second == identities([one])[0]


@pytest.mark.slow
def test_another_process_finds_the_same():
    code = (
        "from modeledit_jax.run.identity import identities; from tests import tiny;"
        "print(*identities([tiny.task(0), max]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert found.stdout.split() == identities([tiny.task(0), max])
