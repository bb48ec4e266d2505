"""Facts that cannot all be true are named."""

from modeledit_jax.data.facts.contradictions import contradictions
from modeledit_jax.data.facts.records import EditRecord, Probe


def fact(prompt, answer):
    return EditRecord("", prompt, answer, None, ("r",), (Probe("p", "a"),))


def test_prompts_with_several_answers_are_named():
    facts = [
        fact("Rome is in", "Spain"),
        fact("Oslo is in", "Chile"),
        fact("Rome is in ", "Peru"),
        fact("Oslo is in", " Chile"),
        fact("Rome is in", "Spain"),
    ]
    (line,) = contradictions(facts)
    assert line == "facts contradict each other: after 'Rome is in' come 'Spain', then 'Peru'"
    assert contradictions(facts[:2]) == contradictions(()) == []
