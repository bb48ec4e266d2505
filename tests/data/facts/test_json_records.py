"""What is wrong with a JSON file is said in one line that names the cure.

What else is of the kind is in tests/reading: test_files.py, test_json_text.py and test_fields.py.
"""

import os

import pytest

from modeledit_jax.data.facts.json_records import fields_of_file, read_records


def _file(tmp_path, text, name="facts.json"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{]", r"facts\.json is not JSON \(.*delete the file, get it again"),
        ("", "is not JSON"),
        ('{"a": 1}', "must hold a list of records, it holds dict"),
        ("[]", "it holds nothing"),
        ('[{"a": 1}, 2]', "record 1 is a int, not an object"),
        (b"[\xff]", r"is not UTF-8 \(byte 1\)"),
        ("[]".encode("utf-16"), "is UTF-16: convert it"),
        ("null", "must hold a list of records, it holds nothing"),
        ("[null]", "record 0 is a NoneType, not an object"),
        ("[" * 1_000_000, r"is not JSON \(it is nested too deeply\): delete the file"),
        ('[{"a":' * 1_000_000, "it is nested too deeply"),
        ('[{"a": NaN}]', r"is not JSON \('a' is nan"),
        ('[{"a": 1, "a": 2}]', "the key 'a' is there twice"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_is_no_list_of_records(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_records(_file(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.timeout(20)
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "facts.json")
    with pytest.raises(ValueError, match=r"facts\.json is a named pipe"):
        read_records(tmp_path / "facts.json")


def test_lines_of_json_and_a_broken_one(tmp_path):
    good = _file(tmp_path, '\ufeff{"a": 1}\n\n{"a": 2}\n', "good.jsonl")
    assert read_records(good) == [{"a": 1}, {"a": 2}]
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 3 is not JSON"):
        read_records(_file(tmp_path, '{"a": 1}\n\n{"a"', "bad.jsonl"))
    with pytest.raises(ValueError, match=r"deep\.jsonl, line 2 is not JSON \(it is nested too"):
        read_records(_file(tmp_path, '{"a": 1}\n' + "[" * 1_000_000, "deep.jsonl"))


RECORD = '[{"a": " x ", "b": ["y "], "c": {"d": "z"}, "e": "", "f": [], "g": 3, "h": ["", "y"]}]'


def test_fields_are_read_and_trimmed(tmp_path):
    (fields,) = fields_of_file(_file(tmp_path, RECORD))
    assert fields.text("a") == "x" and fields.texts("b") == ("y",)
    assert fields.inner("c").text("d") == "z"
    assert fields.is_blank("e") and not fields.is_blank("a") and not fields.is_blank("absent")
    assert fields.has("g") and not fields.has("absent")


@pytest.mark.parametrize(
    ("method", "name", "message"),
    [
        ("text", "absent", r"no field 'absent', it has a, b, c, e, f, g, h: add the field"),
        ("text", "e", r"'e' is '', it must be a text that is not empty: correct"),
        ("text", "g", "'g' is 3, it must be a text"),
        ("texts", "a", "must be a list of texts"),
        ("texts", "f", "with at least one"),
        ("texts", "h", "must be a list of texts"),
        ("inner", "a", "must be an object with fields"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_record(tmp_path, method, name, message):
    (fields,) = fields_of_file(_file(tmp_path, RECORD))
    with pytest.raises(ValueError, match=rf"facts\.json, record 0: .*{message}"):
        getattr(fields, method)(name)
