"""What is asked about edits, in rows of about one length.

A stream of facts is padded to its longest row, which is several times as long as most: what costs
by the position is asked in groups. Inside a group rows stand in the order of the edits, so that
those of edits that are yet to come stand last and are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from modeledit_jax import struct
from modeledit_jax.data.facts.encoding import split_batches, split_rows
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch, with_places
from modeledit_jax.types import Field

LENGTHS = (12, 24, 48, 96, 192, 384, 768)
"""Positions of groups; longer rows have those of the longest."""

FEWEST = 0.05
"""Share of all rows that makes a group; fewer go to the next one, for each is compiled."""


@struct.dataclass
class Questions:
    """``C`` chunks of ``r`` rows of one length."""

    wanted: TokenBatch  # [C, r, l]: prompts and the answers that count
    rival: TokenBatch | None  # the same prompts and the answers they are compared with
    place: Field  # [C, r] int32: edit + edits · kind; beyond all places where a row fills up
    first: Field  # [C] int32: the earliest edit of a chunk
    one_row: bool = struct.field(pytree_node=False, default=False)
    """Static: both answers follow the same tokens, so that one pass serves both."""


def group_questions(
    facts: FactBatch, rows_at_once: Callable[[Questions], int]
) -> tuple[Questions, ...]:
    """All questions about a stream of edits: edit prompts (kind 0), rephrased ones, probes (2).

    Args:
      facts: ``[S, n, ...]``, with values.
      rows_at_once: r of a group, which is given without the axis of chunks.
    """
    rivals: Sequence[TokenBatch | None] = (facts.edit_old, facts.rephrase_old, facts.locality_new)
    paired = all(rival is not None for rival in rivals)
    wanted = _joined((facts.edit, facts.rephrase, facts.locality))
    rival = _joined([batch for batch in rivals if batch is not None]) if paired else None
    lengths = wanted.attention.sum(-1)
    if rival is not None:
        lengths = np.maximum(lengths, rival.attention.sum(-1))
    edits = len(lengths) // 3
    order = np.argsort(np.arange(len(lengths)) % edits, kind="stable")
    order = order[lengths[order] > 0]
    alike = _alike(wanted, rival)[order]
    if alike.mean() < FEWEST:
        alike[:] = False
    groups = []
    for one_row in (True, False):
        kept = order[alike == one_row]
        for length, chosen in _by_length(lengths[kept], wanted.tokens.shape[-1], len(order)):
            rows = kept[chosen]
            asked = with_places(_rows(wanted, rows, length))
            compared = None if rival is None else with_places(_rows(rival, rows, length))
            groups.append(_chunks(asked, compared, rows, edits, one_row, rows_at_once))
    return tuple(groups)


def _alike(wanted: TokenBatch, rival: TokenBatch | None) -> np.ndarray:
    """Rows whose two answers, of one token mostly, are predicted from the same tokens."""
    if rival is None:
        return np.zeros(len(wanted.tokens), bool)
    pairs = (
        (wanted.tokens, rival.tokens),
        (wanted.attention, rival.attention),
        (wanted.labels == IGNORED, rival.labels == IGNORED),
    )
    return np.all([(np.asarray(a) == np.asarray(b)).all(-1) for a, b in pairs], axis=0)


def _joined(parts: Sequence[TokenBatch]) -> TokenBatch:
    """Parts ``[S, n, l]`` of different lengths as one batch of NumPy rows."""
    longest = max(part.tokens.shape[-1] for part in parts)

    def rows(name: str, filling: int) -> np.ndarray:
        leaves = [np.asarray(getattr(part, name)) for part in parts]
        leaves = [leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves]
        room = [(longest - leaf.shape[-1]) for leaf in leaves]
        return np.concatenate(
            [
                np.pad(leaf, ((0, 0), (0, more)), constant_values=filling)
                for leaf, more in zip(leaves, room, strict=True)
            ]
        )

    return TokenBatch(rows("tokens", 0), rows("attention", False), rows("labels", IGNORED))


def _by_length(lengths: np.ndarray, longest: int, rows: int) -> list[tuple[int, np.ndarray]]:
    """Lengths of groups and which of these rows, of so many in all, they hold, in their order."""
    bounds = [length for length in LENGTHS if length < longest] + [longest]
    groups, waiting = [], np.zeros(len(lengths), bool)
    shorter = 0
    for bound in bounds:
        waiting |= (lengths > shorter) & (lengths <= bound)
        shorter = bound
        if waiting.any() and (bound == longest or waiting.sum() >= FEWEST * rows):
            groups.append((bound, np.flatnonzero(waiting)))
            waiting = np.zeros(len(lengths), bool)
    return groups


def _rows(batch: TokenBatch, rows: np.ndarray, length: int) -> TokenBatch:
    return TokenBatch(
        batch.tokens[rows, :length], batch.attention[rows, :length], batch.labels[rows, :length]
    )


def _chunks(
    wanted: TokenBatch,
    rival: TokenBatch | None,
    rows: np.ndarray,
    edits: int,
    one_row: bool,
    rows_at_once: Callable[[Questions], int],
) -> Questions:
    if rival is not None:  # of one width, for both are read in one pass
        wanted, rival = _same_places(wanted, rival)
    place = rows.astype(np.int32)
    size = min(len(rows), rows_at_once(Questions(wanted, rival, place, place % edits, one_row)))
    return Questions(
        split_batches(wanted, size),
        None if rival is None else split_batches(rival, size),
        split_rows(place, size, 3 * edits),
        jnp.asarray(place[::size] % edits),
        one_row,
    )


def _same_places(wanted: TokenBatch, rival: TokenBatch) -> tuple[TokenBatch, TokenBatch]:
    if wanted.places is None or rival.places is None:
        return replace(wanted, places=None), replace(rival, places=None)
    room = max(wanted.places.shape[-1], rival.places.shape[-1])

    def widened(batch: TokenBatch) -> TokenBatch:
        more = room - batch.places.shape[-1]
        return replace(batch, places=jnp.pad(batch.places, ((0, 0), (0, more)), constant_values=-1))

    return widened(wanted), widened(rival)
