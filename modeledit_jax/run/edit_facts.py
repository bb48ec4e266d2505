"""Edits facts into a language model by any method, one batch after another, and asks about them.

A run can be stopped at any time: with a folder it goes on where it was and gives the same bits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import jax

from modeledit_jax.data.facts import common_knowledge
from modeledit_jax.data.facts.choices import ChoiceQuestion
from modeledit_jax.data.facts.records import Probe
from modeledit_jax.lifelong.context_sampling import sample_contexts
from modeledit_jax.lifelong.fact_task import Facts, FactTask, encode_task
from modeledit_jax.lifelong.language_model import LanguageModel
from modeledit_jax.lifelong.model import check_kernels
from modeledit_jax.lifelong.prepared import prepared
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.reading.json_text import read_object
from modeledit_jax.run.fact_folder import DAMAGED, IDENTITY, claim
from modeledit_jax.run.fact_run import SHOWN, FactRun, planned, run_fact_task
from modeledit_jax.run.found_ahead import with_found_ahead
from modeledit_jax.run.progress import Progress
from modeledit_jax.run.text_statistics import text_statistics
from modeledit_jax.types import Key


def edit_facts(
    method: StreamEditor,
    model: LanguageModel,
    edits: Facts,
    *,
    key: Key,
    train: Facts = (),
    folder: str | Path | None = None,
    batch_size: int = 10,
    first: int | None = None,
    sentences: Sequence[str] = common_knowledge.SENTENCES,
    untouched: Sequence[Probe] = common_knowledge.QUESTIONS,
    known: Sequence[Probe] = (),
    choices: Sequence[ChoiceQuestion] = (),
    statistics: str | Path | None = None,
    cache_dir: str | Path | None = None,
    memory: int | None = None,
    announce: Callable[[str], None] | None = None,
) -> FactRun:
    """Trains a method, edits all facts in, and asks the model about them, with progress bars.

    Args:
      method: a preset, or any `StreamEditor`.
      model: of `load_language_model`. If that has spread it over the devices of a mesh, method and
        questions run on them: results are those of one device up to the order of sums, and a
        folder may be continued on other devices.
      edits: facts to edit in, in this order.
      key: of everything random.
      train: facts about other subjects, for methods that learn.
      folder: for checkpoints; a run found there goes on. None: keep nothing.
      batch_size: facts edited at once.
      first: edits from the start that retention is measured on; None: a quarter of all.
      sentences: for perplexity.
      untouched: questions that no edit concerns.
      known: further ones that the model answers (`run.known_facts`), for ``known_recall``.
      choices: questions with answers to choose from (`draw_choices`), for ``multiple_choice``.
      statistics: path of a text that closed-form methods are to leave as it is read; None: the
        prompts of ``train`` take its place.
      cache_dir: of the text's statistics, and of what methods find ahead of a stream
        (`StreamEditor.find_ahead`); None: `default_cache_dir`.
      memory: bytes on each device, for which questions and facts are read a few at a time
        (`lifelong.memory_plan`); None: `default_budget`.
      announce: called with a line that says how the method fits into the memory.

    Raises:
      FileNotFoundError: there is no file ``statistics``.
      ValueError: facts that do not fit the model, a method without anything to learn from, room for
        a batch or use for ``statistics``, a ``memory`` that is too small, edited kernels that are
        not finite, or a folder that holds a run of something else.
    """
    model = with_statistics(model, statistics, [method], cache_dir)
    folder = None if folder is None else Path(folder)
    contexts = _contexts(method, model, key, folder)
    seed = int(jax.random.key_data(key).ravel()[-1])
    task = encode_task(
        model, edits, train, batch_size=batch_size, sentences=sentences, untouched=untouched,
        first=first, contexts=contexts, known=known, choices=choices, seed=seed,
    )  # fmt: skip
    return _edited(method, task, key, folder, cache_dir, memory, announce)


def _edited(
    method: StreamEditor,
    task: FactTask,
    key: Key,
    folder: Path | None,
    cache_dir: str | Path | None,
    memory: int | None,
    announce: Callable[[str], None] | None,
) -> FactRun:
    """What `edit_facts` does with facts that are encoded."""
    ready = prepared(task, memory)
    planned(method, ready)
    if folder is not None:  # what does not fit must not claim it
        claim(folder, method, task, key)
    with Progress(type(method).__name__, 1, SHOWN) as bars:
        ready = with_found_ahead(method, ready, cache_dir, bars.reporter)
        run = run_fact_task(
            method, ready, key, folder=folder, reporter=bars.reporter, announce=announce
        )
        bars.one_done()
    check_kernels(task.model, run.kernels)
    return run


def with_statistics(
    model: LanguageModel,
    text: str | Path | None,
    methods: Iterable[StreamEditor],
    cache_dir: str | Path | None = None,
) -> LanguageModel:
    """The model with the key statistics of a text, for methods that read it; None: as it is.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: none of the methods reads a text, or as `text_statistics`.
    """
    if text is None:
        return model
    if not any(method.reads_text for method in methods):
        raise ValueError(f"no method reads the statistics of {text}: leave it out")
    with Progress("key statistics", 1) as bars:
        found = text_statistics(model, text, cache_dir, bars.reporter(str(text)))
        bars.one_done()
    return replace(model, editable=replace(model.editable, statistics=found))


def _contexts(
    method: StreamEditor, model: LanguageModel, key: Key, folder: Path | None
) -> tuple[str, ...]:
    """Sampled texts to edit under; of a run that goes on, those that it began with: on another
    device others might be drawn."""
    path = folder and folder / IDENTITY
    if path and path.exists():
        kept = read_object(path, DAMAGED).get("contexts", [])
        if isinstance(kept, list) and len(kept) == method.contexts:
            return tuple(kept)
    return sample_contexts(model, method.contexts, jax.random.fold_in(key, 3))
