"""Questions with several answers to choose from, drawn from ParaRel and encoded."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import jax
import jax.numpy as jnp
from tokenizers import Tokenizer

from modeledit_jax.data.facts.encoding import encode_answers, split_batches
from modeledit_jax.data.facts.further_facts import unconcerned
from modeledit_jax.data.facts.pararel import Fact, ParaRel
from modeledit_jax.data.facts.records import EditRecord
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.data.stable_random import StableRandom

OTHERS = 3
"""False answers beside the true one: chance is a quarter."""

SINGLE = 0.9
"""Share of a relation's facts that have one answer, at least. Of twin cities or borders ParaRel
knows some, so that another answer may be true without being there."""

_DRAW = 3  # beside the draws of other modules with the same seed


@dataclass(frozen=True)
class ChoiceQuestion:
    """A beginning of a sentence, and the answers that may follow it."""

    prompt: str
    answer: str  # the true one
    others: tuple[str, ...]  # false ones


def draw_choices(
    pararel: ParaRel, used: Sequence[EditRecord], *, size: int = 200, seed: int = 0
) -> tuple[ChoiceQuestion, ...]:
    """Draws facts with one true answer, and three other answers of the same relation to each.

    Facts are drawn evenly from the relations. Other answers are those of other facts, drawn as
    often as they occur, so that an answer is not right for being frequent. A fact whose subject
    contains its answer is left out: a model could copy it.

    Args:
      pararel: facts and phrasings; the first phrasing of a relation is asked.
      used: records that are edited or learned from; see `unconcerned`.
      size: questions at most.
      seed: of all draws.
    """
    is_free = unconcerned(used)
    draws = StableRandom(seed, _DRAW)
    by_relation: dict[str, list[Fact]] = defaultdict(list)
    for fact in pararel.facts:
        by_relation[fact.relation].append(fact)
    asked = [relation for relation, facts in by_relation.items() if _is_apt(pararel, facts)]
    drawn = [draws.shuffled(by_relation[relation]) for relation in draws.shuffled(asked)]
    found: list[ChoiceQuestion] = []
    for fact in chain.from_iterable(zip_longest(*drawn)):
        if len(found) == size:
            break
        if fact is None or not pararel.is_single(fact) or _says_its_answer(fact):
            continue
        prompt = pararel.phrasings[fact.relation][0].replace("{}", fact.subject)
        if not is_free(fact.subject, prompt):
            continue
        others = _others(draws, pararel, fact, by_relation[fact.relation])
        if len(others) == OTHERS:
            found.append(ChoiceQuestion(prompt, fact.answer, others))
    return tuple(found)


def _is_apt(pararel: ParaRel, facts: Sequence[Fact]) -> bool:
    """Whether a relation can be asked for, and mostly has one answer."""
    single = sum(map(pararel.is_single, facts))
    return bool(pararel.phrasings.get(facts[0].relation)) and single >= SINGLE * len(facts)


def _says_its_answer(fact: Fact) -> bool:
    return fact.answer.lower() in fact.subject.lower()


def _others(
    draws: StableRandom, pararel: ParaRel, fact: Fact, alike: Sequence[Fact]
) -> tuple[str, ...]:
    """Answers about other subjects that stand in no relation to this one."""
    answers = dict.fromkeys(other.answer for other in draws.shuffled(alike))
    false = (answer for answer in answers if (fact.subject, answer) not in pararel.relations)
    return tuple(false)[:OTHERS]


def encode_choices(
    choices: Sequence[ChoiceQuestion],
    tokenizer: Tokenizer,
    rows_at_once: Callable[[int], int],
    *,
    context: int | None = None,
    vocabulary: int | None = None,
) -> TokenBatch:
    """Encodes every answer after its prompt, all padded to one length.

    Args:
      choices: at least one; all have as many answers.
      tokenizer: of the model.
      rows_at_once: n for a number of places to be predicted in a row.
      context, vocabulary: as for `encode_answers`.

    Returns:
      ``[o, t, n, l]``: answer, the true one first; batch, row, position.

    Raises:
      ValueError: none or another number of answers, a true one among the false ones, or as
        `encode_answers`.
    """
    _check_choices(choices)
    answers = [choice.answer for choice in choices]
    answers += [
        other for others in zip(*(c.others for c in choices), strict=True) for other in others
    ]
    options = len(answers) // len(choices)
    prompts = [choice.prompt for choice in choices] * options
    flat = encode_answers(prompts, answers, tokenizer, context=context, vocabulary=vocabulary)
    size = min(len(choices), rows_at_once(flat.tokens.shape[-1]))
    parts = [
        split_batches(jax.tree.map(lambda leaf, i=i: leaf[i : i + len(choices)], flat), size)
        for i in range(0, len(answers), len(choices))
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


def _check_choices(choices: Sequence[ChoiceQuestion]) -> None:
    if not choices:
        raise ValueError("choices is empty: give at least one question")
    count = len(choices[0].others)
    for row, choice in enumerate(choices):
        if not choice.others or len(choice.others) != count:
            raise ValueError(
                f"row {row}, {choice.prompt!r}, has {len(choice.others)} other answers, the first "
                f"has {count}: give every question as many, at least one"
            )
        if choice.answer in choice.others:
            raise ValueError(
                f"row {row}, {choice.prompt!r}: the true answer {choice.answer!r} is among the "
                "others, leave it out there"
            )
