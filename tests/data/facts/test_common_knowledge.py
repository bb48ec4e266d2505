"""Plain sentences and questions that no edit concerns."""

from modeledit_jax.data.facts.common_knowledge import QUESTIONS, SENTENCES
from modeledit_jax.data.facts.records import UNRELATED


def test_sentences_are_distinct_and_short_enough_for_any_model():
    assert len(set(SENTENCES)) == len(SENTENCES) >= 30
    assert all(text.endswith(".") and len(text.split()) < 30 for text in SENTENCES)


def test_questions_end_before_a_short_answer():
    assert len({probe.prompt for probe in QUESTIONS}) == len(QUESTIONS) >= 30
    for probe in QUESTIONS:
        assert probe.kind == UNRELATED
        assert probe.prompt == probe.prompt.strip() and len(probe.answer.split()) == 1
