"""What no edit changes, computed once for a stream of facts.

Prompts do not change, and neither do the layers below the lowest edited one: what these say about
every prompt is kept (`TokenBatch.hidden`), and every later pass begins above them. Where answers
are is kept as well (`TokenBatch.places`), for logits elsewhere are never looked at.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp

from modeledit_jax.data.facts.encoding import split_batches
from modeledit_jax.data.facts.questions import Questions, group_questions
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch, with_places
from modeledit_jax.language.model import hidden_below
from modeledit_jax.lifelong.fact_task import FactTask
from modeledit_jax.lifelong.memory_plan import Budget, PassSizes, ScoringPlan
from modeledit_jax.lifelong.model import EditableModel

READ = ("edit", "rephrase", "locality")
"""Parts of a stream that methods are trained on."""


def prepared(task: FactTask, memory: int | None = None) -> FactTask:
    """The task with all that is computed once; a task that has it is returned as it is.

    What the lower layers say is kept where there is memory for it; else they run in every pass.

    Args:
      task: of `encode_task`, with values.
      memory: bytes that model, stream and passes may take on each device; fewer questions are
        asked at a time where all do not fit (`memory_plan`). None: `default_budget`.

    Raises:
      ValueError: a ``memory`` that is too small for one question.
    """
    if task.questions:
        return task
    streams = (task.edits, task.train, *_besides(task))
    budget = Budget.of(task.model, streams, memory)
    sizes = PassSizes(task.model, budget)
    questions = group_questions(task.edits, sizes.questions)
    ready = replace(
        task,
        edits=_located(task.edits),
        train=None if task.train is None else _located(task.train),
        sentences=_split_anew(sizes, task.sentences),
        untouched=_split_anew(sizes, with_places(task.untouched)),
        known=task.known and _split_anew(sizes, with_places(task.known)),
        choices=task.choices and _split_choices(sizes, with_places(task.choices)),
        questions=questions,
    )
    plan = ScoringPlan(budget, sizes.largest, sizes.most)
    hidden = bytes_of_hidden(ready) if task.model.first_layer else 0
    kept = hidden > 0 and plan.keeps_hidden(hidden)
    ready = replace(ready, scoring=plan.with_hidden(hidden, kept))
    if not kept:
        return ready
    below = partial(_with_hidden, task.model)
    return replace(
        ready,
        edits=_map_edited(below, ready.edits),
        train=ready.train and _map_read(below, ready.train),
        sentences=below(ready.sentences),
        untouched=below(ready.untouched),
        known=ready.known and below(ready.known),
        choices=ready.choices and _map_choices(below, ready.choices),
        questions=tuple(_map_asked(below, group) for group in questions),
    )


def _split_anew(sizes: PassSizes, batch: TokenBatch) -> TokenBatch:
    """Rows ``[t, n, l]`` in batches of as many as are read at a time."""
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), batch)
    size = sizes.batch(rows)
    return batch if size >= batch.tokens.shape[1] else split_batches(rows, size)


def _split_choices(sizes: PassSizes, choices: TokenBatch) -> TokenBatch:
    """The same of ``[o, t, n, l]``, whose answers are of one shape."""
    answers = (jax.tree.map(itemgetter(at), choices) for at in range(len(choices.tokens)))
    split = [_split_anew(sizes, answer) for answer in answers]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *split)


def bytes_of_hidden(task: FactTask) -> int:
    """Memory of the residual stream at every position that is read again and again."""
    positions = sum(batch.tokens.size for batch in _batches(task))
    dtype = jax.tree.leaves(task.model.params)[0].dtype
    return int(positions) * task.model.config.width * dtype.itemsize


def _batches(task: FactTask) -> Iterator[TokenBatch]:
    yield from (task.edits.edit, *_besides(task))
    if task.edits.contexts is not None:
        yield task.edits.contexts.rows
    if task.train is not None:
        yield from (getattr(task.train, name) for name in READ)
    for group in task.questions:
        yield group.wanted
        if group.rival is not None and not group.one_row:
            yield group.rival


def _besides(task: FactTask) -> list[TokenBatch]:
    """What is asked besides the edits."""
    asked = (task.sentences, task.untouched, task.known, task.choices)
    return [batch for batch in asked if batch is not None]


def _located(facts: FactBatch) -> FactBatch:
    parts = {name: part for name, part in vars(facts).items() if isinstance(part, TokenBatch)}
    located: dict[str, Any] = {name: with_places(part) for name, part in parts.items()}
    return replace(facts, **located)


def _map_edited(below: partial, facts: FactBatch) -> FactBatch:
    """What methods read of the facts that they edit."""
    edit, contexts = below(facts.edit), facts.contexts
    if contexts is None:
        return replace(facts, edit=edit)
    batches, facts_each, rows, _ = contexts.rows.tokens.shape
    flat = jax.tree.map(lambda x: x.reshape(batches, facts_each * rows, -1), contexts.rows)
    hidden = below(flat).hidden.reshape(batches, facts_each, rows, flat.tokens.shape[-1], -1)
    rows_with = replace(contexts.rows, hidden=hidden)
    return replace(facts, edit=edit, contexts=replace(contexts, rows=rows_with))


def _map_read(below: partial, facts: FactBatch) -> FactBatch:
    parts: dict[str, Any] = {name: below(getattr(facts, name)) for name in READ}
    return replace(facts, **parts)


def _map_asked(below: partial, group: Questions) -> Questions:
    rival = group.rival
    if rival is not None and not group.one_row:
        rival = below(rival)
    return replace(group, wanted=below(group.wanted), rival=rival)


def _map_choices(below: partial, choices: TokenBatch) -> TokenBatch:
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), choices)
    hidden = below(rows).hidden
    return replace(choices, hidden=hidden.reshape(*choices.tokens.shape, -1))


def _with_hidden(model: EditableModel, batch: TokenBatch) -> TokenBatch:
    """What the layers below the first edited one say about a batch ``[T, n, l]``."""
    hidden = hidden_below(
        model.config, model.params, batch.tokens, batch.attention, model.first_layer
    )
    return replace(batch, hidden=hidden)
