"""Facts that cannot all be true: the later one is what an edited network should say."""

from collections.abc import Sequence

from modeledit_jax.data.facts.records import EditRecord


def contradictions(records: Sequence[EditRecord]) -> list[str]:
    """A line for every prompt that is given several new answers, in the order of the facts."""
    answers: dict[str, list[str]] = {}
    for record in records:
        known = answers.setdefault(record.prompt.strip(), [])
        if record.target_new.strip() not in known:
            known.append(record.target_new.strip())
    return [
        f"facts contradict each other: after {prompt!r} come {', then '.join(map(repr, known))}"
        for prompt, known in answers.items()
        if len(known) > 1
    ]
