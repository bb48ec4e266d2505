"""Stored pytrees in tests: the same bits, and ways to damage them."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np


def assert_same_bits(found, expected):
    def check(a, b):
        assert a.dtype == b.dtype and a.shape == b.shape
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()

    jax.tree.map(check, found, expected)


def damage(folder: Path, kind: str) -> None:
    """Truncates, empties or removes a file that a checkpoint needs."""
    if kind == "no metadata":
        (folder / "_METADATA").unlink()
    if kind == "empty manifest":
        (folder / "manifest.ocdbt").write_bytes(b"")
    if kind == "truncated data":
        for file in folder.glob("**/d/*"):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if kind == "emptied folder":
        shutil.rmtree(folder)
        folder.mkdir()


DAMAGES = ("no metadata", "empty manifest", "truncated data", "emptied folder")


def flip_bit(folder: Path, rng: np.random.Generator) -> str:
    """Flips one bit of all the bytes under a folder; returns where."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = np.array([file.stat().st_size for file in files])
    file = files[rng.choice(len(files), p=sizes / sizes.sum())]
    data = bytearray(file.read_bytes())
    bit = int(rng.integers(8 * len(data)))
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(bytes(data))
    return f"{file.name}, bit {bit}"
