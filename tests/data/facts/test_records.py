"""Edits as batches: rows, choices, masks, errors."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from modeledit_jax.data.facts.encoding import encode_answers
from modeledit_jax.data.facts.records import EditRecord, Probe, encode_edits
from modeledit_jax.data.facts.tokenization import word_tokenizer

NAMES = ("Ada", "Bo Li", "Cleo", "Dan", "Eve")
RECORDS = tuple(
    EditRecord(
        subject=name,
        prompt=f"the home of {name} is",
        target_new="New Town",
        target_true="Hill",
        rephrases=(f"{name} lives in", f"one finds {name} in"),
        locality=(Probe("the home of Zoe is", "Hill"), Probe(f"the trade of {name} is", "art")),
    )
    for name in NAMES
)
TOKENIZER = word_tokenizer(
    text
    for own in RECORDS
    for text in (own.prompt, own.target_new, "Hill art trade Zoe", *own.rephrases)
)


def _text(batch, row=(0, 0)):
    return TOKENIZER.decode(np.asarray(batch.tokens[row])[np.asarray(batch.attention[row])])


def test_rows_of_all_streams_belong_to_the_records_in_order():
    edits = encode_edits(RECORDS, TOKENIZER, 2)
    assert edits.edit.tokens.shape[:2] == (3, 2)
    for index, record in enumerate(RECORDS):
        row = divmod(index, 2)
        assert _text(edits.edit, row) == f"{record.prompt} New"
        assert _text(edits.edit_old, row) == record.prompt
        assert _text(edits.rephrase, row) == f"{record.rephrases[0]} New"
        assert _text(edits.locality, row) == "the home of Zoe is"
        assert _text(edits.locality_new, row) == "the home of Zoe is New"


def test_both_answers_of_a_stream_start_at_the_same_position_and_share_a_length():
    edits = encode_edits(RECORDS, TOKENIZER, 5)
    pairs = [("edit", "edit_old"), ("rephrase", "rephrase_old"), ("locality", "locality_new")]
    for one, other in pairs:
        first, second = getattr(edits, one), getattr(edits, other)
        assert first.tokens.shape == second.tokens.shape
        np.testing.assert_array_equal(first.scored.argmax(-1), second.scored.argmax(-1))


def test_rows_that_fill_up_the_last_batch_do_not_count():
    edits = encode_edits(RECORDS, TOKENIZER, 2)
    np.testing.assert_array_equal(edits.real, [[True, True], [True, True], [True, False]])
    for stream in ("edit", "rephrase", "locality", "edit_old", "rephrase_old", "locality_new"):
        batch = getattr(edits, stream)
        assert not batch.scored[2, 1].any() and not batch.attention[2, 1].any()
    assert int(edits.subject_last[2, 1]) == -1


@pytest.mark.parametrize("size", [1, 3, 5, 8])
def test_batch_size_changes_no_row(size):
    whole = encode_edits(RECORDS, TOKENIZER, 5)
    split = encode_edits(RECORDS, TOKENIZER, size)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(split), strict=True):
        np.testing.assert_array_equal(one[0], other.reshape(-1, *other.shape[2:])[:5])


def test_the_last_token_of_the_subject_is_marked():
    edits = encode_edits(RECORDS, TOKENIZER, 5)
    marked = np.take_along_axis(edits.edit.tokens[0], edits.subject_last[0][:, None], axis=1)
    assert [TOKENIZER.id_to_token(token) for token in marked[:, 0]] == [
        name.split()[-1] for name in NAMES
    ]


def test_a_fixed_choice_is_taken_modulo_and_a_generator_draws_reproducibly():
    assert _text(encode_edits(RECORDS, TOKENIZER, 5, rephrase=1).rephrase) == "one finds Ada in New"
    assert _text(encode_edits(RECORDS, TOKENIZER, 5, rephrase=2).rephrase) == "Ada lives in New"
    assert _text(encode_edits(RECORDS, TOKENIZER, 5, locality=1).locality) == "the trade of Ada is"
    drawn = [
        encode_edits(RECORDS * 8, TOKENIZER, 40, rephrase=np.random.default_rng(seed)).rephrase
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(drawn[0].tokens, drawn[1].tokens)
    assert (drawn[0].tokens != drawn[2].tokens).any()


def test_without_an_old_answer_its_parts_are_absent_and_scan_still_works():
    records = [replace(record, target_true=None) for record in RECORDS]
    edits = encode_edits(records, TOKENIZER, 2)
    assert edits.edit_old is edits.rephrase_old is edits.locality_new is None
    _, counts = jax.lax.scan(lambda carry, batch: (carry, batch.real.sum()), 0, edits)
    np.testing.assert_array_equal(counts, [2, 2, 1])


def test_one_length_for_all_streams_on_request():
    edits = encode_edits(RECORDS, TOKENIZER, 2, length=24)
    assert {leaf.shape[-1] for leaf in (edits.edit.tokens, edits.locality.labels)} == {24}
    alone = encode_answers([RECORDS[0].prompt], ["New Town"], TOKENIZER, length=24)
    np.testing.assert_array_equal(edits.edit.labels[0, 0], alone.labels[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rephrases": ()}, r"record 1, 'the home of Bo Li is', has no rephrased prompt"),
        ({"locality": ()}, r"record 1, 'the home of Bo Li is', has no locality probe"),
        ({"subject": "Bob"}, r"record 1: the subject 'Bob' is not in the prompt"),
        ({"target_new": " "}, r"row 1 has an empty answer"),
    ],
)
def test_a_bad_record_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        encode_edits([RECORDS[0], replace(RECORDS[1], **change)], TOKENIZER, 2)


def test_nothing_to_encode_and_too_short_a_context_are_errors():
    with pytest.raises(ValueError, match="0 records in batches of 2: give at least one"):
        encode_edits([], TOKENIZER, 2)
    with pytest.raises(ValueError, match="batches of 0"):
        encode_edits(RECORDS, TOKENIZER, 0)
    with pytest.raises(ValueError, match=r"row 1, 'the home of Bo Li is'.*the model has 7"):
        encode_edits(RECORDS, TOKENIZER, 2, context=7)


def test_a_record_without_a_subject_has_no_marked_token():
    edits = encode_edits([replace(RECORDS[0], subject="")], TOKENIZER, 1)
    assert int(edits.subject_last[0, 0]) == -1
