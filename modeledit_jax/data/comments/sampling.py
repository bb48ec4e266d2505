"""Which comments of a source are used, and in which role."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from modeledit_jax.data.comments.files import RawComments
from modeledit_jax.data.comments.text import tokenize

_SHARES = {"reward": 0.075, "select": 0.075, "test": 0.15}
"""Of the comments; ``train`` takes the rest."""


@dataclass(frozen=True, eq=False)
class Subset:
    """Some of the comments of a source, in the order by hash."""

    rows: list[int]  # of the source
    texts: list[str]  # words joined by spaces, all different
    label: Int32[np.ndarray, " n"]
    identities: Float32[np.ndarray, "n i"] | None
    note: str  # what was left out


def draw_balanced(raw: RawComments, size: int, seed: int) -> Subset:
    """Takes up to ``size / 2`` comments of each label, as many of one as of the other.

    The order is that of SHA-256 of seed and id, whatever the order of the file. Texts equal in
    their words are one comment, the first; comments without a word are left out.

    Args:
      raw: the labeled comments.
      size: at most so many.
      seed: of the order.
    """
    drawn = _draw(raw, seed, (size // 2, size // 2))
    number = min(map(len, drawn.taken))
    texts = dict(list(drawn.taken[0].items())[:number] + list(drawn.taken[1].items())[:number])
    rest = len(drawn.order) - 2 * number - drawn.empty - drawn.repeated
    return _subset(
        raw,
        drawn,
        texts,
        f"{number} toxic and {number} non-toxic of {len(drawn.order)} labeled comments used",
        f", {rest} not needed for the balance",
    )


def draw_all(raw: RawComments, size: int, seed: int) -> Subset:
    """As `draw_balanced`, but the first ``size`` comments whatever their labels."""
    drawn = _draw(raw, seed, (size, size))
    found = {**drawn.taken[0], **drawn.taken[1]}
    texts = dict([(row, found[row]) for row in drawn.order if row in found][:size])
    toxic = int(raw.label[list(texts)].sum())
    rest = len(drawn.order) - len(texts) - drawn.empty - drawn.repeated
    return _subset(
        raw,
        drawn,
        texts,
        f"{toxic} toxic and {len(texts) - toxic} non-toxic of {len(drawn.order)} labeled comments "
        "used",
        f", {rest} beyond the size asked for" if rest else "",
    )


@dataclass(frozen=True)
class _Drawn:
    """Comments in the order by hash, each once."""

    order: list[int]  # all rows of the source
    taken: tuple[dict[int, str], dict[int, str]]  # by label: words by row
    empty: int
    repeated: int
    contradicting: int


def _draw(raw: RawComments, seed: int, most: tuple[int, int]) -> _Drawn:
    """At most so many comments of each label."""
    order = sorted(range(len(raw.ids)), key=lambda index: _hash(seed, raw.ids[index]))
    taken: tuple[dict[int, str], dict[int, str]] = ({}, {})
    label_of: dict[str, int] = {}
    empty = repeated = contradicting = 0
    for index in order:
        label = int(raw.label[index])
        if len(taken[label]) >= most[label]:
            continue
        text = " ".join(tokenize(raw.texts[index]))
        if not text:
            empty += 1
        elif text in label_of:
            repeated += 1
            contradicting += label_of[text] != label
        else:
            taken[label][index] = text
            label_of[text] = label
    return _Drawn(order, taken, empty, repeated, contradicting)


def _subset(raw: RawComments, drawn: _Drawn, texts: dict[int, str], used: str, rest: str) -> Subset:
    rows = [index for index in drawn.order if index in texts]
    return Subset(
        rows=rows,
        texts=[texts[index] for index in rows],
        label=raw.label[rows],
        identities=None if raw.identities is None else raw.identities[rows],
        note=f"{used}; {drawn.empty} without a word and {drawn.repeated} repeated "
        f"({drawn.contradicting} with the other label) left out{rest}",
    )


def _hash(seed: int, identifier: str) -> bytes:
    return hashlib.sha256(f"{seed}:{identifier}".encode()).digest()


def split_roles(label: Int32[np.ndarray, " n"], source: str) -> dict[str, list[int]]:
    """Splits rows 70/7.5/7.5/15 into train, reward, select and test, stratified by label.

    Args:
      label: of the rows, in random order; a role keeps this order.
      source: for the message.

    Raises:
      ValueError: a role would lack one of the labels.
    """
    roles: dict[str, list[int]] = {role: [] for role in ("train", *_SHARES)}
    for value in (0, 1):
        rows = np.flatnonzero(label == value).tolist()
        start = 0
        for role, stop in _stops(len(rows)).items():
            if stop == start:
                raise ValueError(
                    f"role {role} of {source} has no comment of label {value}: {len(rows)} of that "
                    "label are used, 7 are needed: raise size, or give more comments"
                )
            roles[role] += rows[start:stop]
            start = stop
    return {role: sorted(rows) for role, rows in roles.items()}


def _stops(number: int) -> dict[str, int]:
    """End of every role in ``number`` rows; rounding takes from ``train`` what others need."""
    stops, stop = {}, number
    for role in reversed(_SHARES):
        stops[role] = stop
        stop -= round(_SHARES[role] * number)
    return {"train": stop, **dict(reversed(stops.items()))}
