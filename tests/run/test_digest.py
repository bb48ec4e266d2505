"""Digests of the files of a folder."""

import hashlib
import json

import pytest

from modeledit_jax.run.digest import NAME, DamagedError, check_digests, file_digest, write_digests


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"")
    write_digests(tmp_path)
    return tmp_path


def test_it_is_sha_256_of_every_file(folder):
    stored = json.loads((folder / NAME).read_text())["files"]
    assert stored == {
        "b": hashlib.sha256(b"").hexdigest(),
        "deep/a": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # FIPS 180-2
    }
    assert file_digest(folder / "deep" / "a") == stored["deep/a"]
    check_digests(folder)


def change(folder):
    (folder / "deep" / "a").write_bytes(b"abd")


def remove(folder):
    (folder / "b").unlink()


def add(folder):
    (folder / "c").write_bytes(b"")


def swap(folder):
    (folder / "b").write_bytes(b"abc")
    (folder / "deep" / "a").write_bytes(b"")


def forge(folder):
    """A digest that was changed with its file, but not the digest of digests."""
    change(folder)
    stored = json.loads((folder / NAME).read_text())
    stored["files"]["deep/a"] = hashlib.sha256(b"abd").hexdigest()
    (folder / NAME).write_text(json.dumps(stored))


def cut(folder):
    (folder / NAME).write_text((folder / NAME).read_text()[:-9])


def other_json(folder):
    (folder / NAME).write_text("[1]")


def nested(folder):
    (folder / NAME).write_text("[" * 100_000)


def without(folder):
    (folder / NAME).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change, "deep/a is not what was written"),
        (remove, "missing or were added: b"),
        (add, "missing or were added: c"),
        (swap, "b is not what was written"),
        (forge, f"{NAME} is not what was written"),
        (cut, f"{NAME} cannot be read"),
        (other_json, f"{NAME} cannot be read"),
        (nested, f"{NAME} cannot be read"),
        (without, "it has no digests"),
    ],
)
def test_damage_is_noticed(folder, damage, message):
    damage(folder)
    with pytest.raises(DamagedError, match=message):
        check_digests(folder)
