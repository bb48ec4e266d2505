"""Tokenizers built from a corpus."""

import pytest

from modeledit_jax.data.facts.tokenization import (
    BEGIN,
    PAD,
    UNKNOWN,
    byte_pair_tokenizer,
    word_tokenizer,
)

SENTENCES = ["the cat sat on the mat .", "the dog , the cat ."]


def test_words_are_ordered_by_falling_count_then_alphabetically():
    vocabulary = word_tokenizer(SENTENCES).get_vocab()
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    assert ordered == [PAD, BEGIN, UNKNOWN, "the", ".", "cat", ",", "dog", "mat", "on", "sat"]


def test_a_sequence_begins_with_the_special_token_and_an_answer_does_not():
    tokenizer = word_tokenizer(SENTENCES)
    assert tokenizer.encode("the bird.").tokens == [BEGIN, "the", UNKNOWN, "."]
    assert tokenizer.decode(tokenizer.encode("the mat").ids) == "the mat"
    assert tokenizer.encode(" the mat", add_special_tokens=False).tokens == ["the", "mat"]


def test_an_empty_corpus_has_no_vocabulary():
    with pytest.raises(ValueError, match="needs a training corpus"):
        word_tokenizer(["  "])


def test_byte_pairs_give_any_text_back_and_the_same_tokens_again():
    tokenizer, again = (byte_pair_tokenizer(SENTENCES, 300) for _ in range(2))
    assert tokenizer.to_str() == again.to_str()
    assert tokenizer.token_to_id(PAD) == 0 and tokenizer.token_to_id(BEGIN) == 1
    for text in ["the cat", "Žižek said: 東京!", " leading space"]:
        ids = tokenizer.encode(text).ids
        assert ids[0] == 1
        assert tokenizer.decode(ids) == text


def test_byte_pairs_need_room_for_all_bytes():
    with pytest.raises(ValueError, match="at least 258"):
        byte_pair_tokenizer(SENTENCES, 257)
