"""Which facts a model knows: asked once for every content of network, tokenizer and questions."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool

from modeledit_jax.data.facts.encoding import encode_answers, split_batches
from modeledit_jax.data.facts.lengths import question_size
from modeledit_jax.data.facts.records import Probe
from modeledit_jax.data.facts.token_ids import plain_tokenizer
from modeledit_jax.data.facts.tokens import TokenBatch, padded_length, with_places
from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.evaluation.knowledge import exact_match
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.model import apply, hidden_below
from modeledit_jax.lifelong.fact_task import rows_at_once
from modeledit_jax.lifelong.language_model import LanguageModel
from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.identity import identities
from modeledit_jax.types import Array, Params, Report

MOST = 200
"""Facts that are kept."""

LONGEST, ANSWER = 24, 4
"""Positions of a question and tokens of its answer; longer ones are not asked."""

ROWS = 50
"""Questions that are asked at once, at most."""


def known_facts(
    model: LanguageModel,
    candidates: Sequence[Probe],
    *,
    most: int = MOST,
    cache_dir: str | Path | None = None,
    report: Report | None = None,
) -> tuple[Probe, ...]:
    """The first facts that greedy decoding of the unedited model gives.

    Args:
      model: the unedited one.
      candidates: facts (`further_facts`). Of those that the model cannot read, or that are longer
        than `LONGEST` and `ANSWER`, it counts as knowing none.
      most: facts that are kept.
      cache_dir: of what is computed once; None: `default_cache_dir`.
      report: shows the progress, in questions.

    Returns:
      In the order of the candidates; perhaps none.
    """
    if not candidates:
        return ()
    network, tokenizer = identities([model.params, model.tokenizer.to_str()])
    key = {
        "network": network,
        "config": str(model.config),
        "tokenizer": tokenizer,
        "questions": identities([[(probe.prompt, probe.answer) for probe in candidates]])[0],
        "limits": [LONGEST, ANSWER],
    }
    folder = Path(cache_dir or default_cache_dir()) / "known-facts"
    known = cached_tree(folder, key, lambda: {"known": _answered(model, candidates, report)})
    given = (probe for probe, right in zip(candidates, known["known"], strict=True) if right)
    return tuple(given)[:most]


def _answered(
    model: LanguageModel, probes: Sequence[Probe], report: Report | None
) -> Bool[np.ndarray, " n"]:
    """Whether the model gives the answer of each question."""
    right = np.zeros(len(probes), bool)
    groups = _by_length(model, probes)
    total, done = sum(map(len, groups.values())), 0
    for length, rows in groups.items():
        found = []
        for batch in _batches(model, [probes[row] for row in rows], length):
            found.append(np.asarray(_gives(model.config, model.params, batch)))
            done = min(done + len(found[-1]), total)
            if report is not None:
                report(done, total, {})
        right[rows] = np.concatenate(found)[: len(rows)]
    return right


def _by_length(model: LanguageModel, probes: Sequence[Probe]) -> dict[int, list[int]]:
    """Questions that can be asked, by the positions that they are padded to."""
    tokenizer = plain_tokenizer(model.tokenizer)
    context = min(model.config.context, LONGEST)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, probe in enumerate(probes):
        size = question_size(
            probe.prompt, probe.answer, tokenizer, context, model.config.vocab_size
        )
        if size is not None and size[1] <= ANSWER:
            groups[padded_length(size[0], context)].append(row)
    return dict(sorted(groups.items()))


def _batches(model: LanguageModel, probes: Sequence[Probe], length: int) -> Iterator[TokenBatch]:
    """Questions ``[n, l]`` with what the last layer says about them, always of one shape."""
    prompts, answers = [p.prompt for p in probes], [p.answer for p in probes]
    asked = with_places(encode_answers(prompts, answers, model.tokenizer, length=length))
    places = asked.answers.shape[-1]
    size = min(len(probes), ROWS, rows_at_once(places, model.config.vocab_size))
    batches = split_batches(asked, size)
    config = model.config
    for index in range(len(batches.tokens)):
        one = jax.tree.map(lambda leaf, i=index: leaf[i : i + 1], batches)
        # Layer by layer, so that one is compiled instead of all.
        hidden = hidden_below(config, model.params, one.tokens, one.attention, config.num_layers)
        yield jax.tree.map(lambda leaf: leaf[0], one.replace(hidden=hidden))


@jax.jit(static_argnames="config")
def _gives(config: LanguageModelConfig, params: Params, batch: TokenBatch) -> Bool[Array, " n"]:
    start = (config.num_layers, batch.hidden)
    logits, _ = apply(
        config, params, batch.tokens, batch.attention, start=start, positions=batch.positions
    )
    return exact_match(logits, batch.answers) == 1
