"""Storage that flips a bit: of whatever is stored, the flip is noticed.

Also of the kind, and tested beside the code: files cut short, emptied, removed, added or swapped,
digests changed with their files, folders of earlier versions (tests/run/test_digest.py,
tests/run/test_cache.py, tests/run/test_checkpoint.py).
"""

import shutil
import warnings

import jax
import numpy as np
import pytest

from modeledit_jax.editors.policy.learned import load_editor
from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.checkpoint import Checkpoints, fingerprint
from tests import tiny
from tests.editors.policies import untrained
from tests.fuzz.readers import READERS, right_folder
from tests.run.stored import assert_same_bits, flip_bit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FLIPS = 200


def test_cached_networks_are_built_again(tmp_path):
    params = jax.device_get(tiny.subject().params)
    entry, noticed = tmp_path / fingerprint({"seed": 0}), []
    rng = np.random.default_rng(0)
    for _ in range(FLIPS):
        cached_tree(tmp_path, {"seed": 0}, lambda: params)
        flip_bit(entry, rng)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert_same_bits(cached_tree(tmp_path, {"seed": 0}, lambda: params), params)
        noticed += [w for w in caught if "is damaged" in str(w.message)]
    print(f"{len(noticed)} of {FLIPS} flips in cached networks noticed, networks built again")
    assert len(noticed) == FLIPS


def test_checkpoints_give_way_to_the_one_before(tmp_path):
    rng = np.random.default_rng(1)
    states = {step: {"mean": rng.normal(size=64), "step": np.full(1, step)} for step in (10, 20)}
    noticed = 0
    for _ in range(FLIPS):
        checkpoints = Checkpoints(tmp_path)
        for step, state in states.items():
            checkpoints.save(step, state)
        flip_bit(tmp_path / "20", rng)
        with pytest.warns(UserWarning, match="20 is damaged"):
            step, found = checkpoints.restore(states[10])
        assert step == 10
        assert_same_bits(found, states[10])
        noticed += 1
    print(f"{noticed} of {FLIPS} flips in checkpoints noticed, the one before taken")


def test_policies_are_refused(tmp_path):
    rng = np.random.default_rng(2)
    path = tmp_path / "policy" / "policy.safetensors"
    noticed = 0
    for _ in range(FLIPS):
        untrained().save(path)
        flip_bit(path.parent, rng)
        with pytest.raises(ValueError, match="policy"):
            load_editor(path)
        noticed += 1
    print(f"{noticed} of {FLIPS} flips in policy files refused")


KEPT = {
    "kept features": "cache/features",
    "kept key statistics": "cache/key-statistics",
    "kept named model": "cache/models",
    "kept edit": "edits",
    "kept search": "search",
    "kept rows": "",
}
"""Readers of what else is kept, and where that lies."""


@pytest.mark.parametrize("name", KEPT)
def test_what_else_is_kept_is_made_again_or_refused(name, tmp_path):
    reader, rng = READERS[name], np.random.default_rng(3)
    made = refused = 0
    for number in range(FLIPS):
        place = shutil.copytree(right_folder(name), tmp_path / str(number))
        flip_bit(place / KEPT[name], rng)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                assert reader.right(reader.read(place)), "wrongly accepted"
            except ValueError as error:
                assert "\n" not in str(error)
                refused += 1
                continue
            finally:
                shutil.rmtree(place)
        # Some flips change nothing: the digits 1e-05 and 1E-05 are one number.
        made += any(" again" in str(w.message) or "before is taken" in str(w.message)
                    for w in caught)  # fmt: skip
    print(f"{made + refused} of {FLIPS} flips in {name} noticed: {made} made again, "
          f"{refused} refused")  # fmt: skip
    assert made + refused >= FLIPS - 4 * (name == "kept rows")
