"""Fields by type and range: another type, or a number out of range, is refused by name.

Of the kind: texts for numbers, numbers for truth values and the reverse (JSON's ``true`` is an
integer to Python), floats for integers, zero, negative and huge numbers, null, lists and objects.
"""

import math

import pytest

from modeledit_jax.reading.fields import Fields

FIELDS = Fields(
    {
        "text": " x ",
        "empty": " ",
        "half": "\ud800",
        "true": True,
        "null": None,
        "one": 1,
        "zero": 0,
        "less": -1,
        "huge": 10**400,
        "half-one": 0.5,
        "nan": math.nan,
        "inf": math.inf,
        "list": [1],
        "long": ["x" * 1000] * 1000,
        "object": {"a": {"b": 2}},
        "objects": [{"a": 1}, {"a": "2"}],
    },
    "f.json",
    noun="entry",
    cure="get it again",
)


def test_values_of_their_types():
    assert FIELDS.text("text") == "x" and FIELDS.choice("text", [" x "]) == " x "
    assert FIELDS.flag("true") is True and FIELDS.flag("null") is False
    assert FIELDS.integer("one", 1, 1) == 1
    assert FIELDS.number("one", 1) == 1.0 and isinstance(FIELDS.number("one", 1), float)
    assert FIELDS.number("half-one", 1) == 0.5 and FIELDS.number("zero", 1, zero=True) == 0
    assert FIELDS.inner("object").inner("a").integer("b", 0, 9) == 2
    assert FIELDS.is_null("null") and FIELDS.is_null("absent") and not FIELDS.is_null("zero")


def test_defaults_stand_in_for_what_is_missing_and_only_for_that():
    assert FIELDS.choice("absent", ["a", "b"], "b") == "b"
    assert FIELDS.flag("absent", True) is True
    assert FIELDS.integer("absent", 1, 9, 7) == 7 and FIELDS.number("absent", 9, 0.1) == 0.1
    with pytest.raises(ValueError, match="'zero' is 0, it must be an integer from 1 to 9"):
        FIELDS.integer("zero", 1, 9, 7)


@pytest.mark.parametrize(
    ("ask", "names", "message"),
    [
        (
            lambda name: FIELDS.integer(name, 1, 9),
            ["text", "true", "null", "zero", "less", "huge", "half-one", "nan", "inf", "list"],
            "an integer from 1 to 9",
        ),
        (
            lambda name: FIELDS.number(name, 9),
            ["text", "true", "null", "zero", "less", "huge", "nan", "inf", "list", "object"],
            "a number above 0 and up to 9",
        ),
        (lambda name: FIELDS.number(name, 9, zero=True), ["less", "nan"], "a number from 0 up to"),
        (FIELDS.flag, ["text", "one", "zero", "list"], "true or false"),
        (
            lambda name: FIELDS.choice(name, ["a", "b"]),
            ["text", "null", "list", "object"],
            "one of a, b",
        ),
        (FIELDS.text, ["empty", "one", "null", "true"], "a text that is not empty"),
        (FIELDS.text, ["half"], "a text of whole characters"),
        (FIELDS.texts, ["list", "text", "null", "objects"], "a list of texts"),
        (FIELDS.inner, ["list", "text", "null"], "an object with fields"),
        (FIELDS.inner_list, ["list", "object", "null"], "a list of objects"),
    ],
)
def test_other_types_and_ranges(ask, names, message):
    for name in names:
        with pytest.raises(ValueError) as error:
            ask(name)
        text = str(error.value)
        assert text.startswith(f"f.json: the entry '{name}' is ") and message in text, text
        assert text.endswith(": correct the entry or get it again") and "\n" not in text, text
        assert len(text) < 300


def test_where_an_inner_field_stands():
    with pytest.raises(ValueError, match=r"f\.json, object, a: no entry 'c', it has b: add the"):
        FIELDS.inner("object").inner("a").get("c")
    with pytest.raises(ValueError, match=r"f\.json, objects 1: the entry 'a' is '2'"):
        [inner.integer("a", 0, 9) for inner in FIELDS.inner_list("objects")]


def test_a_long_value_or_many_names_are_cut():
    with pytest.raises(ValueError) as error:
        FIELDS.text("long")
    assert len(str(error.value)) < 300
    with pytest.raises(ValueError, match=r"zero, less, huge, half-one, nan, inf and 4 more: add"):
        FIELDS.get("absent")


def test_fields_of_a_newer_version():
    with pytest.raises(ValueError, match=r"f\.json: unknown entry 'empty'; known are text, true"):
        FIELDS.refuse_others(("text", "true"))
