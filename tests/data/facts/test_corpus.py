"""A corpus: its tokenizer and its fingerprint."""

from dataclasses import replace

from modeledit_jax.data.facts.corpus import FactCorpus
from modeledit_jax.data.facts.records import EditRecords, Probe
from modeledit_jax.data.facts.tokenization import UNKNOWN

CORPUS = FactCorpus(
    "tiny", ("the cat sat .", "a dog ran ."), ("the bird sang .",), EditRecords("train", ()),
    EditRecords("edits", ()), (Probe("a dog", "ran"),),
)  # fmt: skip


def test_the_tokenizer_knows_the_sentences_and_not_the_held_out_ones():
    tokens = CORPUS.tokenizer.encode("the bird sat .").tokens
    assert tokens[-4:] == ["the", UNKNOWN, "sat", "."]


def test_byte_pairs_know_every_text():
    tokenizer = replace(CORPUS, byte_pairs=300).tokenizer
    assert tokenizer.decode(tokenizer.encode("the bird's Ωmega").ids) == "the bird's Ωmega"


def test_the_fingerprint_is_that_of_the_content():
    assert CORPUS.fingerprint == replace(CORPUS, notes=("a note",)).fingerprint
    others = [
        replace(CORPUS, sentences=CORPUS.sentences[::-1]),
        replace(CORPUS, held_out=()),
        replace(CORPUS, untouched=()),
        replace(CORPUS, name="other"),
    ]
    found = {CORPUS.fingerprint, *(other.fingerprint for other in others)}
    assert len(found) == 1 + len(others)
