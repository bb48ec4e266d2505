"""What a model that is given can do besides the facts of a run: questions about further facts."""

from dataclasses import dataclass

from experiments.lifelong_editing.config import FactOptions
from modeledit_jax.data.facts.choices import ChoiceQuestion, draw_choices
from modeledit_jax.data.facts.corpus import FactCorpus
from modeledit_jax.data.facts.further_facts import further_facts
from modeledit_jax.data.facts.lengths import question_size
from modeledit_jax.data.facts.pararel import load_pararel
from modeledit_jax.data.facts.records import Probe
from modeledit_jax.data.facts.token_ids import plain_tokenizer
from modeledit_jax.lifelong.language_model import LanguageModel
from modeledit_jax.run.known_facts import LONGEST, known_facts
from modeledit_jax.run.progress import Reporter

FEWEST = 20
"""Questions that make a metric; of fewer, one is a step of more than 5 points."""


@dataclass(frozen=True)
class GeneralAbility:
    """Questions about facts that a run neither edits nor trains on.

    Attributes:
      known: facts that the model knows.
      choices: with answers to choose from.
      notes: how many there are, or why there are none.
    """

    known: tuple[Probe, ...] = ()
    choices: tuple[ChoiceQuestion, ...] = ()
    notes: tuple[str, ...] = ()


def general_ability(
    config: FactOptions, seed: int, corpus: FactCorpus, model: LanguageModel, reporter: Reporter
) -> GeneralAbility:
    """Draws the questions of a seed, and asks the model which facts it knows."""
    used = (*corpus.edits.records, *corpus.train.records)
    candidates = further_facts(config.corpus, used, seed=seed, tuning=config.tuning)
    report = reporter("facts that the model knows")
    known = known_facts(model, candidates, cache_dir=config.cache_dir, report=report)
    found = f"of {len(candidates):,} facts about other subjects the model gives {len(known):,}"
    note = f"known recall: {found}"
    if len(known) < FEWEST:
        note, known = f"no known recall: {found}, and {FEWEST} are needed", ()
    choices, said = _choices(corpus, model, seed)
    return GeneralAbility(known, choices, (f"seed {seed}: {note}", f"seed {seed}: {said}"))


def _choices(
    corpus: FactCorpus, model: LanguageModel, seed: int
) -> tuple[tuple[ChoiceQuestion, ...], str]:
    """Questions of ParaRel that the model can read, and what is to be said about them."""
    try:
        pararel = load_pararel()
    except FileNotFoundError as error:
        return (), f"no multiple choice: {error}"
    used = (*corpus.edits.records, *corpus.train.records)
    drawn = draw_choices(pararel, used, seed=seed)
    choices = tuple(choice for choice in drawn if _fits(choice, model))
    said = f"{len(choices)} questions of ParaRel about other subjects"
    if len(choices) < FEWEST:
        return (), f"no multiple choice: {said}, and {FEWEST} are needed"
    return choices, f"multiple choice: {said}, a quarter right by chance"


def _fits(choice: ChoiceQuestion, model: LanguageModel) -> bool:
    tokenizer, config = plain_tokenizer(model.tokenizer), model.config
    context = min(config.context, LONGEST)
    return all(
        question_size(choice.prompt, answer, tokenizer, context, config.vocab_size)
        for answer in (choice.answer, *choice.others)
    )
