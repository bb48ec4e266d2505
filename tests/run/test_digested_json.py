"""JSON with a digest: the same value, or a refusal in one line.

Of the kind, all changes that leave JSON: a digit flipped, a key renamed, a list cut; and a file of
an earlier version, which has no digest.
"""

import json

import pytest

from modeledit_jax.run.digested_json import cached_json, read_digested, write_digested

VALUE = {
    "score": 1 / 3,
    "pair": [1, 2],
    "none": None,
    "of": float("nan"),
    "name": "\u00e9\u2212\ud83d",
}


def test_a_finished_part_is_read_and_not_built_again(tmp_path):
    path, calls = tmp_path / "parts" / "a.json", []

    def build():
        calls.append(1)
        return {"score": 1 / 3, "pair": (1, 2)}

    first = cached_json(path, build)
    assert first == cached_json(path, build) == {"score": 1 / 3, "pair": [1, 2]}
    assert len(calls) == 1


def test_values_are_read_as_they_were_written(tmp_path):
    write_digested(tmp_path / "value.json", VALUE)
    found = read_digested(tmp_path / "value.json")
    assert found.pop("of") != VALUE["of"] and VALUE.items() >= found.items() and len(found) == 4
    for value in (0.1, None, [], "text", -(2**70)):
        write_digested(tmp_path / "value.json", value)
        assert read_digested(tmp_path / "value.json") == value


@pytest.mark.parametrize(
    "damage", [b"", b'{"a": 1', b"\xff", b"[" * 100_000, b"0.5", b"[]", b"null", b'{"value": 1}']
)
def test_a_damaged_value_is_named(tmp_path, damage):
    (tmp_path / "score.json").write_bytes(damage)
    with pytest.raises(ValueError, match=r"score\.json is damaged or of an earlier .*: delete it"):
        cached_json(tmp_path / "score.json", lambda: 1)


def test_every_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
    path = tmp_path / "rows.json"
    value = [{"accuracy": 0.9435, "seed": 3}]
    write_digested(path, value)
    right, noticed = path.read_bytes(), 0
    for bit in range(0, 8 * len(right), 3):
        data = bytearray(right)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(data))
        try:
            assert json.dumps(read_digested(path)) == json.dumps(value)
        except ValueError:
            noticed += 1
    assert noticed > 2 * len(right)
