"""JSON of users: what RFC 8259 does not know, and what no reader can hold, is refused by name.

Of the kind: numbers that JSON does not have (NaN, infinities, floats too large), keys twice at any
depth, nesting without end, integers of thousands of digits, empty files, text behind the value,
and another value at the top than was asked for.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.reading.json_text import as_object, parse_json, read_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(VALUES)
def test_what_json_can_say_is_read_as_the_library_reads_it(value):
    assert parse_json(json.dumps(value), "x") == value


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        parse_json(text, "x")
    except ValueError as error:
        assert str(error).startswith("x is not JSON (")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[1] 2", "Extra data"),
        ("{'a': 1}", "Expecting property name"),
        ('{"a": NaN}', "'a' is nan, which is no finite number"),
        ('[{"a": {"rate": -Infinity}}]', "'rate' is -inf"),
        ('{"a": 1e999}', "'a' is inf"),
        ("[[NaN]]", "NaN is no finite number"),
        ("-Infinity", "-Infinity is no finite number"),
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' is there twice"),
        ('[{"a": {"b": 1, "b": 1}}]', "the key 'b' is there twice"),
        ("[" * 1_000_000, "it is nested too deeply"),
        ('{"a":' * 1_000_000, "it is nested too deeply"),
        ("9" * 5000, "Exceeds the limit"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_refused(text, reason):
    with pytest.raises(ValueError, match=r"file, line 3 is not JSON \(") as error:
        parse_json(text, "file, line 3")
    message = str(error.value)
    assert reason in message and message.endswith("): correct it") and "\n" not in message


def test_the_words_of_the_caller(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json is damaged: copy it \(Expecting.*\)$"):
        read_object(tmp_path / "a.json", "is damaged: copy it ({reason})")


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "null"), ([], "a list"), ("a", "a text"), (True, "a truth value"), (1.5, "a number")],
)
def test_the_top_is_an_object(tmp_path, value, kind):
    with pytest.raises(ValueError, match=rf"x is not JSON \(it holds {kind}, not an object\)"):
        as_object(value, "x")
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=f"it holds {kind}"):
        read_object(tmp_path / "a.json")


def test_a_file_that_is_no_description(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_object(tmp_path / "a.json") == {"a": 1}
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"huge\.json has .* bytes, more than"):
        read_object(tmp_path / "huge.json")
