"""What is edited: a corpus of facts, and a language model that has learnt them by heart."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.options import run_folder
from experiments.lifelong_editing.config import Config
from modeledit_jax.data.facts.corpus import FactCorpus
from modeledit_jax.data.facts.counterfact_corpus import counterfact_corpus
from modeledit_jax.data.facts.encoding import encode_answers, encode_sentences, split_batches
from modeledit_jax.data.facts.fact_world import fact_world
from modeledit_jax.data.facts.records import FactBatch, encode_edits
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.language.config import LanguageModelConfig, module_names, tiny_llama
from modeledit_jax.language.training import (
    LanguageTrainingConfig,
    LanguageTrainingState,
    init_state,
    train_chunk,
)
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.run.checkpoint import cached_tree
from modeledit_jax.run.resumable import Report, run_chunks
from modeledit_jax.types import Params

CHUNK = 20
"""Steps of the language model's training in one compiled call."""

CONTEXT = 64
LONGEST = 32
"""Tokens of a sentence the language model is trained on. Rare longer ones are left out, for every
row is padded to the longest."""

HEADS = 4
HELD_OUT = 0.25
"""Share of the sentences without facts that measure perplexity, as a fraction of ``--plain``."""

Reporter = Callable[[str], Report]
"""``reporter("what is done")`` shows its progress."""


@dataclass(frozen=True)
class Setup:
    """What all editors of one seed share.

    Attributes:
      edits: ``[T, n, ...]``, what is edited in.
      training: ``[T', n, ...]``, what learned editors are trained on.
      held_out: sentences ``[t, n, l]`` for perplexity.
      untouched: questions ``[t, n, l]`` that no edit concerns.
    """

    config: Config
    seed: int
    corpus: FactCorpus
    model: EditableModel
    edits: FactBatch
    training: FactBatch
    held_out: TokenBatch
    untouched: TokenBatch


def language_config(config: Config, vocabulary: int) -> LanguageModelConfig:
    """The network of an experiment; with room for as many words in all worlds, to compile once."""
    return tiny_llama(
        -(-vocabulary // 256) * 256,
        width=config.width,
        num_layers=config.layers,
        num_heads=HEADS,
        mlp_width=config.mlp_width,
        context=CONTEXT,
    )


def check_modules(config: Config) -> None:
    """Raises ValueError for patterns that match no layer, before anything is trained."""
    module_names(language_config(config, 1), config.modules)


def prepare(config: Config, seed: int, reporter: Reporter) -> Setup:
    """Draws the facts of a seed and trains its language model, or takes it from the cache."""
    corpus = make_corpus(config, seed)
    tokenizer = corpus.tokenizer
    network = language_config(config, tokenizer.get_vocab_size())
    params = jax.tree.map(jnp.asarray, trained(config, seed, corpus, network, reporter))
    sentences = encode_sentences(corpus.held_out, tokenizer, context=CONTEXT)
    questions = encode_answers(
        [probe.prompt for probe in corpus.untouched],
        [probe.answer for probe in corpus.untouched],
        tokenizer,
        context=CONTEXT,
    )
    return Setup(
        config,
        seed,
        corpus,
        EditableModel.create(network, params, config.modules),
        *encode_streams(config, seed, corpus),
        split_batches(sentences, 100),
        split_batches(questions, 100),
    )


def encode_streams(config: Config, seed: int, corpus: FactCorpus) -> tuple[FactBatch, FactBatch]:
    """The edits, and the facts that editors learn from, as batches.

    Editors learn from all phrasings and probes that they may see; one of each is drawn per fact.
    """
    options: dict[str, Any] = {"tokenizer": corpus.tokenizer, "batch_size": config.batch_size}
    options["context"] = CONTEXT
    draws: dict[str, Any] = {
        name: np.random.default_rng([seed, index])
        for index, name in enumerate(("rephrase", "locality"))
    }
    return (
        encode_edits(corpus.edits.records, **options),
        encode_edits(corpus.train.records, **options, **draws),
    )


def make_corpus(config: Config, seed: int) -> FactCorpus:
    """Facts to be known, and edits of them."""
    if config.corpus == "counterfact":
        return counterfact_corpus(seed, edits=config.edits, train=config.train_edits)
    return fact_world(
        seed,
        edits=config.edits,
        train=config.train_edits,
        plain=config.plain,
        held_out=max(1, round(HELD_OUT * config.plain)),
    )


def language_training(config: Config) -> LanguageTrainingConfig:
    """A recipe under which the default model knows all facts of fact-world."""
    steps = CHUNK * -(-config.steps // CHUNK)  # a shorter last chunk would be compiled anew
    return LanguageTrainingConfig(
        optimizer="muon",
        steps=steps,
        batch_size=128,
        learning_rate=2e-3,
        warmup_steps=min(100, steps // 2),
    )


def trained(
    config: Config, seed: int, corpus: FactCorpus, network: LanguageModelConfig, reporter: Reporter
) -> Params:
    """Parameters of the language model."""
    training = language_training(config)
    key = {
        "network": dataclasses.asdict(network),
        "training": dataclasses.asdict(training),
        "corpus": corpus.fingerprint,
        "seed": seed,
    }
    folder = run_folder(config) / "checkpoints" / f"language-model-seed-{seed}"

    def build() -> Params:
        short = [own for own in corpus.sentences if len(corpus.tokenizer.encode(own)) <= LONGEST]
        data = encode_sentences(short, corpus.tokenizer, context=CONTEXT)

        def advance(
            state: LanguageTrainingState, done: int, steps: int
        ) -> tuple[LanguageTrainingState, dict[str, Any]]:
            state, losses = train_chunk(state, data, steps)
            return state, {"loss": losses}

        start = init_state(network, training, jax.random.key(seed))
        record = {"loss": np.zeros(training.steps, np.float32)}
        shown = reporter("language model")
        run = run_chunks(start, record, advance, chunk=CHUNK, folder=folder, report=shown)
        return run.state.params

    cache = config.cache_dir or default_cache_dir()
    return cached_tree(Path(cache) / "language-models", key, build)
