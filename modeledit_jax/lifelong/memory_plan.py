"""How a language model and what is asked of it fit into a budget of memory.

From shapes alone, before anything is computed: how many questions are read in one pass, and how
many facts of a batch where the loss of a method that learns is differentiated. A smaller budget
takes more of them one after another, and changes no result but by rounding. Of a mesh, parameters
count as they are cut; whatever passes make counts as if every device had all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import jax
import jax.numpy as jnp

from modeledit_jax.data.facts.questions import Questions
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.evaluation.edit_scores import score_rows
from modeledit_jax.evaluation.knowledge import exact_match, mean_log_probability
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.lifelong.parts_of_rows import part_size
from modeledit_jax.lifelong.stream import StreamEditor, StreamState, compiled_stream
from modeledit_jax.memory import (
    default_budget,
    device_bytes,
    live_bytes,
    memory_text,
    most_that_fit,
    room_text,
    shape_of,
)
from modeledit_jax.types import Array, PyTree

KERNELS = 3
"""Copies of the edited kernels: the unedited ones, the edited ones, and their difference."""

HIDDEN_SHARE = 4
"""What the layers below the edited ones say is kept where it takes this part of what is free."""

MOST_ROWS, MOST_LOGITS = 100, 2**25
"""Rows that are asked about at once: so many, and no more than make so many logits."""


@dataclass(frozen=True)
class Budget:
    """What there is, and what is taken already.

    Attributes:
      total: bytes, of each device.
      stated: by the user, so that what does not fit is refused; else the least is tried.
      stored: bytes of the model, its kernels and the stream.
    """

    total: int
    stated: bool
    stored: int

    @classmethod
    def of(cls, model: EditableModel, arrays: PyTree, memory: int | None) -> "Budget":
        """For a model and further arrays that stay; ``memory`` None: `default_budget`."""
        kernels = get_leaves(model.params, [f"{name}/kernel" for name in model.modules])
        wide = {name: device_bytes(leaf) // leaf.dtype.itemsize for name, leaf in kernels.items()}
        stored = device_bytes((model.params, arrays)) + KERNELS * sum(wide.values()) * (
            model.dtype.itemsize
        )
        return cls(default_budget() if memory is None else memory, memory is not None, stored)

    @property
    def free(self) -> int:
        """Bytes."""
        return max(self.total - self.stored, 0)

    def check(self, what: str, least: int) -> None:
        """Raises ValueError if the budget is stated and less than what something takes."""
        if self.stated and least > self.total:
            raise ValueError(
                f"the memory budget of {memory_text(self.total)} is too small for {what}, which "
                f"takes {room_text(least)}: give at least that"
            )


class PassSizes:
    """How many rows a pass of a model reads; `largest` is what the passes asked about so far take.

    Args:
      model: of which shapes count.
      budget: the room for passes is what it has free.
    """

    def __init__(self, model: EditableModel, budget: Budget):
        self._model, self._budget = jax.tree.map(shape_of, model), budget
        self._kernels = jax.eval_shape(lambda own: own.kernels(), self._model)
        self.largest, self.most = 0, 0

    def questions(self, group: Questions) -> int:
        """Rows of a group ``[n, ...]`` that are scored at a time."""

        def score(
            model: EditableModel, kernels: Kernels, group: Questions, before: Array
        ) -> PyTree:
            return score_rows(partial(model.answer_logits, kernels), group, before)

        def taken(rows: int) -> int:
            own = _rows_of(group, rows)
            before = jax.eval_shape(lambda batch: batch.answers, own.wanted)
            return live_bytes(score, self._model, self._kernels, own, before)

        return self._fitting(group.wanted, taken)

    def batch(self, batch: TokenBatch) -> int:
        """Rows of a batch ``[n, l]`` that are read at a time, for perplexity or answers."""

        def read(model: EditableModel, kernels: Kernels, rows: TokenBatch) -> PyTree:
            logits, labels = model.answer_logits(kernels, rows), rows.answers
            return mean_log_probability(logits, labels), exact_match(logits, labels)

        def taken(rows: int) -> int:
            return live_bytes(read, self._model, self._kernels, _rows_of(batch, rows))

        return self._fitting(batch, taken)

    def _fitting(self, batch: TokenBatch, taken: Callable[[int], int]) -> int:
        total = batch.tokens.shape[0]
        places = batch.tokens if batch.places is None else batch.places
        fast = min(rows_at_once(places.shape[-1], self._model.config.vocab_size), total)
        taken = cache(taken)
        rows = most_that_fit(taken, fast, self._budget.free)
        if not rows:
            self._budget.check("one question to the model", self._budget.stored + taken(1))
            rows = 1
        if rows < fast:
            rows = -(-total // -(-total // rows))  # as equal as can be
        self.largest = max(self.largest, taken(rows))
        self.most = max(self.most, rows)
        return rows


def rows_at_once(places: int, vocabulary: int) -> int:
    """Rows to be asked about at once, for a number of places whose logits are wanted in each."""
    return max(1, min(MOST_ROWS, MOST_LOGITS // (places * vocabulary)))


@dataclass(frozen=True)
class ScoringPlan:
    """How what is asked of a model fits.

    Attributes:
      budget: whose ``stored`` holds all that stays, ``hidden`` too where that is kept.
      passes: bytes of the largest pass.
      questions: rows of the largest pass.
      hidden: bytes of what the layers below the edited ones say, whether or not there is room.
    """

    budget: Budget
    passes: int
    questions: int
    hidden: int = 0

    def keeps_hidden(self, size: int) -> bool:
        """Whether so many bytes of hidden states leave enough for the passes."""
        free = self.budget.free
        return size <= min(free // HIDDEN_SHARE, free - self.passes)

    def with_hidden(self, size: int, kept: bool) -> "ScoringPlan":
        """The plan, once it is known what hidden states take."""
        budget = self.budget
        stored = budget.stored + size if kept else budget.stored
        return replace(self, budget=replace(budget, stored=stored), hidden=size)


@dataclass(frozen=True)
class FactPlan:
    """What is asked, and what a method learns by; `str` of it is the line that is printed.

    Attributes:
      scoring: of what is asked.
      training: bytes of a call that trains; 0: nothing is learned, or it is not planned.
      batch: facts of a batch.
      facts: of those, read at a time where a loss is differentiated; None: all.
    """

    scoring: ScoringPlan
    training: int = 0
    batch: int = 0
    facts: int | None = None

    def __str__(self) -> str:
        budget, scoring = self.scoring.budget, self.scoring
        needed = memory_text(budget.stored + max(scoring.passes, self.training))
        line = f"memory: at most {needed} of {memory_text(budget.total)}: "
        line += f"{scoring.questions} questions at a time"
        if self.training:
            line += f", {self.facts or self.batch} of {self.batch} facts of a batch in training"
        return line


def plan_facts(
    method: StreamEditor, model: EditableModel, train: FactBatch | None, scoring: ScoringPlan
) -> FactPlan:
    """Chooses how many facts a method that learns reads at a time.

    Args:
      method: sized for its streams.
      model: that is edited.
      train: what it learns from, ``[S, n, ...]``.
      scoring: of `prepared`.

    Raises:
      ValueError: the stated budget holds the training by no number of facts.
    """
    if train is None:
        return FactPlan(scoring)
    batch = train.real.shape[1]

    def taken(facts: int | None) -> int:
        return method.training_bytes(replace(model, rows_at_once=facts), train)

    facts, needed = _facts_that_fit(taken, batch, scoring, "the training of the method")
    return FactPlan(scoring, needed, batch, facts)


@dataclass(frozen=True)
class EditingPlan:
    """How batches are edited in; `str` of it is the line that is printed.

    Attributes:
      scoring: of what is asked.
      editing: bytes of a call that edits, the method's state among them.
      batch: facts of a batch.
      facts: of those, read at a time where what they take grows with them; None: all.
    """

    scoring: ScoringPlan
    editing: int
    batch: int
    facts: int | None

    def __str__(self) -> str:
        budget = self.scoring.budget
        needed = memory_text(budget.stored + self.editing)
        return (
            f"memory: at most {needed} of {memory_text(budget.total)}: "
            f"{self.facts or self.batch} of {self.batch} facts of a batch in editing"
        )


def plan_editing(
    method: StreamEditor,
    model: EditableModel,
    start: StreamState,
    stream: FactBatch,
    scoring: ScoringPlan,
) -> EditingPlan:
    """Chooses how many facts of a batch are read at a time while it is edited in.

    Args:
      method: sized for its streams.
      model: that is edited.
      start: the state before the first batch, or its shapes.
      stream: ``[S, n, ...]``.
      scoring: of `prepared`.

    Raises:
      ValueError: the stated budget holds an edit by no number of facts.
    """
    place = jax.ShapeDtypeStruct((), jnp.int32)
    kept = device_bytes(start.editor)

    def taken(facts: int | None) -> int:
        own = replace(model, rows_at_once=facts)
        # As `run_fact_task` calls it, so that it is traced once.
        return kept + live_bytes(partial(compiled_stream, method), own, start, stream, place, place)

    batch = stream.real.shape[1]
    facts, needed = _facts_that_fit(taken, batch, scoring, "an edit of a batch")
    return EditingPlan(scoring, needed, batch, facts)


def facts_ahead(
    find: Callable[[EditableModel, FactBatch], Array],
    model: EditableModel,
    batch: FactBatch,
    scoring: ScoringPlan,
) -> int | None:
    """Facts that are read at a time where something is found ahead of a stream; None: all.

    Args:
      find: `StreamEditor.find_ahead`, as it will be called.
      model, batch: its arguments, or their shapes.
      scoring: of `prepared`.

    Raises:
      ValueError: the stated budget holds no number of facts.
    """

    def taken(facts: int | None) -> int:
        return live_bytes(find, replace(model, rows_at_once=facts), batch)

    return _facts_that_fit(taken, len(batch.real), scoring, "what is found ahead of a batch")[0]


def _facts_that_fit(
    taken: Callable[[int | None], int], batch: int, scoring: ScoringPlan, what: str
) -> tuple[int | None, int]:
    """How many facts of a batch to read at a time, None for all, and the bytes that they take.

    Raises ValueError, which names ``what``, if a stated budget holds no number of them.
    """
    facts: int | None = None
    sizes: dict[int | None, int] = {None: taken(None)}
    while sizes[facts] > scoring.budget.free and facts != 1:
        facts = part_size(batch, (facts or batch) // 2 or 1)
        sizes[facts] = taken(facts)
    if sizes[facts] > scoring.budget.free:
        facts = min(sizes, key=lambda tried: sizes[tried])  # loops have needs of their own
        # With so much more, what the lower layers say might be kept as well.
        hidden = scoring.hidden if HIDDEN_SHARE * scoring.hidden <= sizes[facts] else 0
        scoring.budget.check(what, scoring.budget.stored + hidden + sizes[facts])
    return facts, sizes[facts]


def _rows_of(tree: PyTree, rows: int) -> PyTree:
    """Shapes of some rows of arrays ``[n, ...]``."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), jnp.result_type(leaf)), tree
    )
