"""Comments as arrays: tokens, toxicity, the identity terms they mention, counterfactual blocks.

What every source of comments (`identity_corpus`, `toxicity`) returns and what the task `debiasing`
and the fairness metrics read.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from modeledit_jax import struct
from modeledit_jax.types import Field

PAD, UNKNOWN = 0, 1
"""Token ids of padding and of words outside the vocabulary."""


@struct.dataclass
class Comments:
    """``N`` labeled comments, the ``I`` identity terms they may mention, ``K`` blocks of ``V``."""

    tokens: Field  # [N, L] int32 token ids, padded with PAD at the end; or [N, F] float32 features
    label: Field  # [N] int32, 1 = toxic
    groups: Field  # [N, I] float32, 1 where the comment mentions the term
    blocks: Field  # [K, V] int32 rows that differ in the identity term alone; [0, 0]: no blocks
    kind: Field = None  # [N] int32 from 0, the kind of context a row is of; None: all are alike

    def __len__(self) -> int:
        return int(self.tokens.shape[0])


@dataclass(frozen=True, eq=False)
class CommentData:
    """A data set of comments in four disjoint roles, with its counterfactuals.

    Attributes:
      name: of the source.
      vocabulary: the word of every token id; ids 0 and 1 are `PAD` and `UNKNOWN`.
      identities: the ``I`` terms, in the order of the columns of `Comments.groups`.
      held_out: of each term, whether it is absent from the counterfactuals of ``reward`` and
        ``select``, so that the test shows whether an edit extends to terms it has not seen.
      roles: ``train`` (fits the subject), ``reward``, ``select``, ``test``: plain comments. Where
        comments are few, ``reward`` may hold some of ``train`` as well (`real_comments`).
      counterfactuals: blocks of comments for ``reward``, ``select`` and ``test``; what is varied in
        a block is the identity term and nothing else.
      suites: further test sets by name, e.g. ``madlibs``.
      added: further comments to retrain with, by name.
      vectors: pretrained vectors of the words, ``[vocabulary, features]`` float32, which a subject
        takes as they are; None where a subject has to learn its own.
      notes: what the reader of a report has to know, e.g. terms outside the vocabulary.
    """

    name: str
    vocabulary: tuple[str, ...]
    identities: tuple[str, ...]
    held_out: tuple[bool, ...]
    roles: Mapping[str, Comments]
    counterfactuals: Mapping[str, Comments]
    suites: Mapping[str, Comments] = field(default_factory=dict)
    vectors: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    added: Mapping[str, Comments] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of vocabulary and arrays; equal content, equal key, on every machine."""
        digest = hashlib.sha256("\0".join((*self.vocabulary, "", *self.identities)).encode())
        digest.update(bytes(self.held_out))
        if self.vectors is not None:
            digest.update(np.ascontiguousarray(self.vectors, "<f4").tobytes())
        for kind in (self.roles, self.counterfactuals, self.suites, self.added):
            for name in sorted(kind):
                digest.update(f";{name}".encode())
                for part in ("tokens", "label", "groups", "blocks", "kind"):
                    if (own := getattr(kind[name], part)) is None:
                        continue
                    array = np.asarray(own)
                    little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
                    digest.update(f";{part}={little_endian.dtype.str}{array.shape}".encode())
                    digest.update(little_endian.tobytes())
        return digest.hexdigest()


def no_blocks() -> np.ndarray:
    """The ``blocks`` of comments that have no counterfactuals."""
    return np.zeros((0, 0), np.int32)


def swap_identities(
    comments: Comments,
    sources: Sequence[int],
    targets: Sequence[int],
    columns: Sequence[int],
    *,
    contexts: int,
    seed: int = 0,
) -> Comments:
    """Replaces the identity term of real comments by every target in turn.

    Args:
      comments: where contexts are drawn from: rows in which exactly one token is a source.
      sources: token ids of the terms that may be replaced.
      targets: ``V`` token ids that take the place.
      columns: of each target, its column of ``groups``.
      contexts: at most so many rows are drawn, as balanced by label as the rows allow.
      seed: of the draw.

    Returns:
      Complete blocks of ``V`` comments for ``K ≤ contexts`` contexts, one after another; every
      variant keeps the label of its context.

    Raises:
      ValueError: no row has exactly one source term.
    """
    tokens, label = np.asarray(comments.tokens), np.asarray(comments.label)
    mentions = np.isin(tokens, np.asarray(sources))
    candidates = np.flatnonzero(mentions.sum(axis=1) == 1)
    if len(candidates) == 0:
        raise ValueError(
            f"none of {len(tokens)} comments mentions exactly one of the {len(sources)} identity "
            "terms, so there is nothing to swap: use more comments, or other terms"
        )
    rows = _balanced(candidates, label[candidates], contexts, np.random.default_rng(seed))
    variants = len(targets)
    swapped = np.repeat(tokens[rows], variants, axis=0)
    place = np.repeat(mentions[rows].argmax(axis=1), variants)
    swapped[np.arange(len(swapped)), place] = np.tile(np.asarray(targets), len(rows))
    groups = np.zeros((len(swapped), comments.groups.shape[1]), np.float32)
    groups[np.arange(len(swapped)), np.tile(np.asarray(columns), len(rows))] = 1.0
    return Comments(
        tokens=swapped.astype(np.int32),
        label=np.repeat(label[rows], variants).astype(np.int32),
        groups=groups,
        blocks=np.arange(len(swapped), dtype=np.int32).reshape(len(rows), variants),
    )


def _balanced(
    rows: np.ndarray, label: np.ndarray, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws at most ``number`` rows, half of each label where there are enough; in row order."""
    order = rng.permutation(len(rows))
    by_label = [rows[order[label[order] == value]] for value in (0, 1)]
    short = min(len(by_label[0]), len(by_label[1]), number // 2)
    counts = [min(len(members), max(number - short, short)) for members in by_label]
    if sum(counts) > number:  # both have enough
        counts = [number - number // 2, number // 2]
    return np.sort(
        np.concatenate([members[:n] for members, n in zip(by_label, counts, strict=True)])
    )
