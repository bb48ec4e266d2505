"""Prompts after other texts, as text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.common_knowledge import SENTENCES
from modeledit_jax.data.facts.contexts import bare_rows, encode_contexts
from modeledit_jax.data.facts.encoding import encode_answers
from modeledit_jax.data.facts.records import EditRecord, Probe, encode_edits, keep_facts
from modeledit_jax.data.facts.tokenization import byte_pair_tokenizer
from modeledit_jax.data.facts.tokens import IGNORED

CONTEXTS = ("You saw Paris. ", "The sun is. ")
PROMPTS = ["The river of Paris is", "Rome lies in"]
SUBJECTS = ["Paris", "Rome"]
ANSWERS = ["the Seine", "Italy"]


@pytest.fixture(scope="module")
def tokenizer():
    return byte_pair_tokenizer([*SENTENCES, *CONTEXTS, *PROMPTS], 400)


def encoded(tokenizer, **options):
    return encode_contexts(PROMPTS, SUBJECTS, ANSWERS, CONTEXTS, tokenizer, **options)


def test_every_row_is_one_text(tokenizer):
    found = encoded(tokenizer)
    assert found.contexts == 2
    rows, places = found.rows, np.asarray(found.subject)
    for fact, (prompt, subject, answer) in enumerate(zip(PROMPTS, SUBJECTS, ANSWERS, strict=True)):
        texts = [f"{front}{prompt} {answer}" for front in ("", *CONTEXTS)] + [f"{subject} is a"]
        for row, text in enumerate(texts):
            whole = tokenizer.encode(text)
            length = len(whole.ids) - 1
            assert np.asarray(rows.tokens)[fact, row, :length].tolist() == whole.ids[:-1]
            assert np.asarray(rows.attention)[fact, row].sum() == length
            labels = np.asarray(rows.labels)[fact, row]
            said = labels[labels != IGNORED].tolist()
            assert said == (whole.ids[-len(said) :] if row < 3 else [])
            assert row == 3 or tokenizer.decode(said).strip() == answer
            # The last mention that ends before the answer: a context may name the subject as well.
            end = text.index(subject, text.index(prompt) if row < 3 else 0) + len(subject)
            assert whole.offsets[places[fact, row]][1] == end


RECORDS = [
    EditRecord(subject, prompt, answer, None, ("Who?",), (Probe("Why?", "so"),))
    for prompt, subject, answer in zip(PROMPTS, SUBJECTS, ANSWERS, strict=True)
]


def test_facts_that_are_left_out_are_rows_that_fill_up(tokenizer):
    """As if the batch had been encoded without the second."""
    both = encode_edits(RECORDS, tokenizer, 2, contexts=CONTEXTS)
    kept = keep_facts(jax.tree.map(jnp.asarray, both), jnp.array([[True, False]]))
    for batch in (kept.edit, kept.rephrase, kept.locality, kept.contexts.rows):
        assert batch.attention[0, 0].any() and not batch.attention[0, 1].any()
        assert (batch.labels[0, 1] == IGNORED).all()
    np.testing.assert_array_equal(kept.contexts.rows.labels[0, 0], both.contexts.rows.labels[0, 0])
    np.testing.assert_array_equal(kept.contexts.subject[0], [both.contexts.subject[0, 0], [-1] * 4])
    np.testing.assert_array_equal(kept.real, [[True, False]])


def test_a_batch_with_contexts_is_filled_up(tokenizer):
    found = encode_edits(RECORDS, tokenizer, 3, contexts=CONTEXTS)
    alone = encoded(tokenizer)
    assert found.contexts.subject.shape == (1, 3, 4)
    np.testing.assert_array_equal(found.contexts.rows.tokens[0, :2], alone.rows.tokens)
    assert (
        not found.contexts.rows.attention[0, 2].any() and (found.contexts.subject[0, 2] < 0).all()
    )
    assert encode_edits(RECORDS, tokenizer, 3).contexts is None
    fewer = found.replace(contexts=alone).contexts.first(1)
    assert fewer.contexts == 1
    np.testing.assert_array_equal(fewer.subject, alone.subject[:, [0, 1, 3]])
    np.testing.assert_array_equal(fewer.rows.labels, alone.rows.labels[:, [0, 1, 3]])


def test_the_prompt_alone_is_both_first_and_last():
    batch = encode_answers(PROMPTS, ANSWERS, byte_pair_tokenizer(PROMPTS, 300))
    found = bare_rows(batch, np.array([1, 2]))
    assert found.contexts == 0 and found.subject.shape == (2, 1)
    np.testing.assert_array_equal(found.rows.tokens[:, 0], batch.tokens)


def test_what_is_no_context_is_refused(tokenizer):
    args = (PROMPTS, SUBJECTS, ANSWERS)
    with pytest.raises(ValueError, match="contexts is the one text 'You': give a list"):
        encode_contexts(*args, "You", tokenizer)
    with pytest.raises(ValueError, match="context 1 is ' ': give a text to put in front"):
        encode_contexts(*args, ["You", " "], tokenizer)
    with pytest.raises(ValueError, match="with contexts in front of the prompts, row 1, 'You saw"):
        encoded(tokenizer, context=18)
    with pytest.raises(ValueError, match="the subject 'Oslo' is not in the prompt"):
        encode_contexts(PROMPTS[:1], ["Oslo"], ANSWERS[:1], CONTEXTS, tokenizer)
    nobody = encode_contexts(PROMPTS[:1], [""], ANSWERS[:1], CONTEXTS, tokenizer)
    assert (np.asarray(nobody.subject) == -1).all()
