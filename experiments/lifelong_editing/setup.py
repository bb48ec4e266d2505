"""What is edited: facts, and a language model that knows them or is given."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.common.options import memory_budget, open_mesh, run_folder
from experiments.lifelong_editing.config import FactOptions
from experiments.lifelong_editing.general_ability import GeneralAbility, general_ability
from modeledit_jax.data.facts.common_knowledge import QUESTIONS, SENTENCES
from modeledit_jax.data.facts.contradictions import contradictions
from modeledit_jax.data.facts.corpus import FactCorpus
from modeledit_jax.data.facts.counterfact_corpus import counterfact_corpus
from modeledit_jax.data.facts.encoding import encode_sentences
from modeledit_jax.data.facts.fact_world import fact_world
from modeledit_jax.data.facts.lengths import without_long
from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.data.facts.zsre_corpus import zsre_corpus
from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.language.config import (
    LanguageModelConfig,
    mlps_at_depth,
    module_names,
    tiny_llama,
)
from modeledit_jax.language.sharding import spread_parameters
from modeledit_jax.language.training import (
    LanguageTrainingConfig,
    LanguageTrainingState,
    init_state,
    train_chunk,
)
from modeledit_jax.lifelong.context_sampling import sample_contexts
from modeledit_jax.lifelong.fact_task import FactTask, encode_task
from modeledit_jax.lifelong.language_model import LanguageModel
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.lifelong.prepared import prepared
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.mesh import Layout, on_every_device
from modeledit_jax.presets.preset import Preset
from modeledit_jax.reading.json_text import read_object
from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.named_models import load_language_model
from modeledit_jax.run.progress import Reporter
from modeledit_jax.run.resumable import run_chunks
from modeledit_jax.types import Params

CHUNK = 20
"""Steps of the language model's training in one compiled call."""

CONTEXT = 64
LONGEST = 32
"""Tokens of a sentence the language model is trained on. Rare longer ones are left out, for every
row is padded to the longest."""

HEADS = 4

ALL_MLPS = ("layers/*/mlp/down",)
"""Modules that may be edited where nothing else is said."""

SHORT = 0.8
"""Share of the facts to learn from that a given model is trained on: every row is padded to the
longest, which is several times as long as most."""

HELD_OUT = 0.25
"""Share of the sentences without facts that measure perplexity, as a fraction of ``--plain``."""

GIVEN = (
    "the model was given, and what it knows of these facts is what the row original says",
    "perplexity and untouched recall are those of plain sentences and of common knowledge "
    "(modeledit_jax.data.facts.common_knowledge)",
)
"""Notes on runs with ``--model``."""


@dataclass(frozen=True)
class Setup:
    """What all methods of one seed share."""

    seed: int
    corpus: FactCorpus
    model: LanguageModel
    encoded: FactTask
    notes: tuple[str, ...] = ()  # on what is asked besides
    memory: int | None = None

    @cached_property
    def task(self) -> FactTask:
        """What no edit changes is computed where it is first asked for."""
        return prepared(self.encoded, self.memory)

    def with_modules(self, modules: tuple[str, ...]) -> "Setup":
        """The same with other layers to be edited; itself if they are these."""
        model = self.model.with_modules(modules)
        if model.modules == self.model.modules:
            return self
        return replace(self, model=model, encoded=replace(self.encoded, model=model.editable))


def setup_for(config: FactOptions, preset: Preset, known: dict[tuple[str, ...], Setup]) -> Setup:
    """The setup of a method: its own layers are edited, unless ``--modules`` or nothing names them.

    Args:
      config: of the run.
      preset: of the method.
      known: setups of the seed by modules, which is added to.
    """
    given = next(iter(known.values()))
    modules = given.model.modules
    if config.model is not None and config.modules is None and preset.pretrained is not None:
        modules = mlps_at_depth(given.model.config, preset.pretrained.depth)
    if modules not in known:
        known[modules] = given.with_modules(modules)
    return known[modules]


def prepare(
    config: FactOptions,
    seed: int,
    reporter: Reporter,
    methods: Iterable[StreamEditor] = (),
    further: bool = False,
) -> Setup:
    """Draws the facts of a seed; reads the language model, or trains it, or has it cached.

    Args:
      config: of the run.
      seed: of all draws.
      reporter: shows the progress.
      methods: whose contexts are sampled.
      further: ask a model that is given about further facts too (`general_ability`).
    """
    corpus = make_corpus(config, seed)
    model = language_model(config, seed, corpus, reporter)
    if config.model is not None:
        corpus = short_lessons(corpus, model)
    ability = GeneralAbility()
    if further and config.model is not None:
        ability = general_ability(config, seed, corpus, model, reporter)
    task = encode_task(
        model,
        corpus.edits,
        corpus.train,
        batch_size=config.batch_size,
        sentences=corpus.held_out,
        untouched=corpus.untouched,
        first=config.first,
        contexts=_contexts(config, seed, model, methods),
        known=ability.known,
        choices=ability.choices,
        seed=seed,
    )
    return Setup(seed, corpus, model, task, ability.notes, memory_budget(config))


def _contexts(
    config: FactOptions, seed: int, model: LanguageModel, methods: Iterable[StreamEditor]
) -> list[str]:
    """Texts that methods edit under, sampled once for all of them and kept in the run folder."""
    count = max((method.contexts for method in methods), default=0)
    path = run_folder(config) / "checkpoints" / f"contexts-seed-{seed}.json"
    if not count:
        return []
    if not path.exists():
        found = sample_contexts(model, count, jax.random.key(seed))
        atomic_write_text(path, json.dumps({"contexts": found}, indent=2) + "\n")
    return read_object(path, "is damaged: delete it ({reason})")["contexts"]


def make_corpus(config: FactOptions, seed: int) -> FactCorpus:
    """Facts to be known, and edits of them."""
    sizes: dict[str, Any] = {"edits": config.edits, "train": config.train_edits}
    if config.model is not None:
        edits, train = load_facts(config.corpus, seed=seed, tuning=config.tuning, **sizes)
        notes = (*GIVEN, *train.notes, *contradictions(edits.records))
        return FactCorpus(config.task, (), SENTENCES, train, edits, QUESTIONS, notes=notes)
    if config.corpus == "counterfact":
        return counterfact_corpus(seed, **sizes)
    if config.corpus == "zsre":
        return zsre_corpus(seed, **sizes)
    held_out = max(1, round(HELD_OUT * config.plain))
    return fact_world(seed, plain=config.plain, held_out=held_out, **sizes)


def short_lessons(corpus: FactCorpus, model: LanguageModel) -> FactCorpus:
    """Without the few long facts to learn from."""
    kept, longest = without_long(corpus.train.records, model.tokenizer, SHORT)
    lost = len(corpus.train) - len(kept)
    if not lost:
        return corpus
    note = f"facts to learn from that take more than {longest} tokens are left out: {lost}"
    return replace(corpus, train=replace(corpus.train, records=kept), notes=(*corpus.notes, note))


def check_modules(config: FactOptions) -> None:
    """Raises ValueError for patterns that match no layer, before anything is trained."""
    if config.model is None:
        module_names(language_config(config, 1), config.modules or ALL_MLPS)
    else:
        _given_model(config.model, config.modules or ALL_MLPS, open_mesh(config), config.cache_dir)


def language_config(config: FactOptions, vocabulary: int) -> LanguageModelConfig:
    """The network of an experiment; with room for as many words in all worlds, to compile once."""
    return tiny_llama(
        -(-vocabulary // 256) * 256,
        width=config.width,
        num_layers=config.layers,
        num_heads=HEADS,
        mlp_width=config.mlp_width,
        context=CONTEXT,
    )


@cache
def _given_model(
    model: Path, modules: tuple[str, ...], mesh: Mesh | None, cache_dir: Path | None
) -> LanguageModel:
    return load_language_model(model, modules, mesh=mesh, cache_dir=cache_dir)


def language_model(
    config: FactOptions, seed: int, corpus: FactCorpus, reporter: Reporter
) -> LanguageModel:
    """The model that is edited, on the devices of ``--mesh``."""
    mesh = open_mesh(config)
    if config.model is not None:
        return _given_model(config.model, config.modules or ALL_MLPS, mesh, config.cache_dir)
    network = language_config(config, corpus.tokenizer.get_vocab_size())
    params = jax.tree.map(jnp.asarray, trained(config, seed, corpus, network, reporter))
    if mesh is not None:
        params = spread_parameters(network, params, mesh)
    editable = EditableModel.create(network, params, config.modules or ALL_MLPS)
    return LanguageModel(editable, corpus.tokenizer)


def language_training(config: FactOptions) -> LanguageTrainingConfig:
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
    config: FactOptions,
    seed: int,
    corpus: FactCorpus,
    network: LanguageModelConfig,
    reporter: Reporter,
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
    mesh = open_mesh(config)

    def build() -> Params:
        tokenizer = corpus.tokenizer
        short = [text for text in corpus.sentences if len(tokenizer.encode(text)) <= LONGEST]
        data = encode_sentences(short, tokenizer, context=CONTEXT)

        def advance(
            state: LanguageTrainingState, done: int, steps: int
        ) -> tuple[LanguageTrainingState, dict[str, Any]]:
            state, losses = train_chunk(state, data, steps, mesh)
            return state, {"loss": losses}

        start, placement = init_state(network, training, jax.random.key(seed)), None
        if mesh is not None:
            start, data = on_every_device((start, data), mesh)
            placement = Layout.of(start)
        record = {"loss": np.zeros(training.steps, np.float32)}
        shown = reporter("language model")
        run = run_chunks(
            start, record, advance, chunk=CHUNK, folder=folder, placement=placement, report=shown
        )
        return run.state.params

    cache_dir = config.cache_dir or default_cache_dir()
    return cached_tree(Path(cache_dir) / "language-models", key, build)
