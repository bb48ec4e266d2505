"""Real comments labeled for toxicity: a class-balanced subset in four roles, and counterfactuals.

The protocol is that of Malik 2026 (arXiv 2606.13461): a class-balanced subset of up to 20,000
comments, split 70/15/15; the 15 % for validation are halved into ``reward`` and ``select``.
Balancing multiplies the odds of toxicity given an identity term by the odds of a comment not being
toxic: the data are more biased than their source, and meant to be.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from modeledit_jax.data.comments.comments import CommentData, Comments, no_blocks, swap_identities
from modeledit_jax.data.comments.files import RawComments, read_jigsaw
from modeledit_jax.data.comments.sampling import Subset, draw_balanced, split_roles
from modeledit_jax.data.comments.suites import load_suites
from modeledit_jax.data.comments.terms import CIVIL_TERMS, DIXON_TERMS
from modeledit_jax.data.comments.text import CommentEncoder, Vocabulary
from modeledit_jax.data.folders import default_cache_dir, default_data_dir

COMMENT_DATASETS = ("jigsaw", "wikipedia_toxicity", "civil_comments")
"""Names that `load_comments` knows."""

_STRATUM = 4  # one identity term in so many is held out


def load_comments(
    name: str,
    *,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    size: int = 20_000,
    seed: int = 0,
    length: int = 200,
    contexts: int = 192,
) -> CommentData:
    """Loads real comments.

    `draw_balanced` says which comments are taken. The vocabulary is that of ``train``. Identity
    terms outside it are named in the notes and not scored. Groups say what a comment mentions in
    its first ``length`` words, for ``"civil_comments"`` what its annotators saw in it; a group may
    lack toxic or non-toxic comments in a role, which the notes say. Counterfactuals swap
    single-word terms in comments with exactly one identity; every fourth term, by P(toxic | term)
    in ``train``, is kept out of those of ``reward`` and ``select``. A term of several words is
    never swapped; it counts as held out unless one of its words is swapped.

    Args:
      name: ``"jigsaw"`` (``<data_dir>/jigsaw/train.csv`` or ``.csv.gz`` of the Kaggle competition
        "Toxic Comment Classification"), ``"wikipedia_toxicity"`` (the same comments without login)
        or ``"civil_comments"`` (its annotated part), downloaded unless at ``<data_dir>/<name>/``.
      data_dir: default ``$MODELEDIT_DATA_DIR``. Its folder ``dixon``, if there is one, gives the
        suites of `modeledit_jax.data.comments.suites`.
      cache_dir: for downloads; default `default_cache_dir`.
      size: at most so many comments, half of them toxic.
      seed: of order and draws.
      length: tokens per comment; longer ones are cut.
      contexts: at most so many comments per role are swapped.

    Raises:
      ValueError: unknown name, or a file or size from which the roles cannot be made.
      FileNotFoundError: a file is neither on disk nor to be downloaded.
    """
    data_dir = data_dir or default_data_dir()
    if contexts < 1:
        raise ValueError(f"contexts is {contexts}: counterfactuals need at least one comment")
    raw = read_comments(name, data_dir, cache_dir or default_cache_dir())
    subset = draw_balanced(raw, size, seed)
    rows = split_roles(subset.label, raw.source)
    texts = {role: [subset.texts[index] for index in chosen] for role, chosen in rows.items()}
    encoder = _encoder(name, Vocabulary.build(texts["train"]), length)
    roles = _encode_roles(subset, rows, texts, encoder, raw.source)
    hidden = _hidden(roles["train"], encoder.scored)
    swapped = _counterfactuals(roles, encoder, hidden, contexts, seed, raw.source)
    used = {text for role in ("train", "reward", "select") for text in texts[role]}
    suites, about_suites = load_suites(data_dir, encoder, used, seed=seed)
    about = _about(name, roles, texts, encoder) + _about_swaps(swapped, contexts)
    return CommentData(
        name=name,
        vocabulary=encoder.vocabulary.words,
        identities=tuple(list(_terms(name))[column] for column in encoder.columns),
        held_out=_held_out(encoder.scored, hidden),
        roles=roles,
        counterfactuals=swapped,
        suites=suites,
        notes=(*raw.notes, subset.note, *about, *about_suites),
    )


def read_comments(name: str, data_dir: Path | None, cache_dir: Path) -> RawComments:
    """All labeled comments of a source; arguments and errors as of `load_comments`."""
    if name not in COMMENT_DATASETS:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(COMMENT_DATASETS)}")
    if name == "jigsaw":
        return read_jigsaw(data_dir)
    from modeledit_jax.data.comments import builders  # slow to import

    return builders.read_builder(name, data_dir=data_dir, cache_dir=cache_dir)


def _terms(name: str) -> dict[str, str]:
    """The word or words that name an identity, by its name."""
    return CIVIL_TERMS if name == "civil_comments" else {term: term for term in DIXON_TERMS}


def _encoder(name: str, vocabulary: Vocabulary, length: int) -> CommentEncoder:
    terms = tuple(_terms(name).values())
    columns = tuple(column for column, term in enumerate(terms) if term in vocabulary)
    return CommentEncoder(terms, columns, length, vocabulary)


def _encode_roles(
    subset: Subset,
    rows: Mapping[str, list[int]],
    texts: Mapping[str, list[str]],
    encoder: CommentEncoder,
    source: str,
) -> dict[str, Comments]:
    roles = {
        role: encoder(
            texts[role],
            subset.label[chosen],
            None if subset.identities is None else subset.identities[chosen],
        )
        for role, chosen in rows.items()
    }
    for role, comments in roles.items():
        if not comments.groups.any():
            raise ValueError(
                f"none of the {len(comments)} comments in role {role} of {source} mentions one of "
                f"the {comments.groups.shape[1]} identities in the vocabulary: raise size, or give "
                "more comments"
            )
    return roles


def _hidden(train: Comments, terms: tuple[str, ...]) -> list[int]:
    """Single words that are kept out of ``reward`` and ``select``."""
    single = [column for column, term in enumerate(terms) if " " not in term]
    return hold_out(train, terms, single, _STRATUM // 2, _STRATUM)


def hold_out(
    train: Comments, terms: Sequence[str], columns: Sequence[int], first: int, step: int
) -> list[int]:
    """One of every ``step`` terms that are neighbors in P(toxic | term), Laplace's estimate.

    Args:
      train: comments that tell P(toxic | term).
      terms: of the columns of their groups.
      columns: to choose from.
      first: which of the ``step``.
      step: see above.
    """
    mentioned = train.groups.sum(axis=0)
    toxic = train.label @ train.groups
    skew = (toxic + 1) / (mentioned + 2)
    ranked = sorted(columns, key=lambda column: (skew[column], terms[column]))
    return ranked[first::step]


def _counterfactuals(
    roles: dict[str, Comments],
    encoder: CommentEncoder,
    hidden: list[int],
    contexts: int,
    seed: int,
    source: str,
) -> dict[str, Comments]:
    """Swapped comments of ``reward`` and ``select`` without the hidden columns, ``test`` with."""
    terms = encoder.scored
    single = [column for column, term in enumerate(terms) if " " not in term]
    shown = [column for column in single if column not in hidden]
    if len(shown) < 2:
        raise ValueError(
            f"{source}: {len(shown)} single-word identity terms are in the vocabulary of train, "
            "swapping takes two: raise size, or give more comments"
        )
    swapped = {}
    for role, columns in (("reward", shown), ("select", shown), ("test", single)):
        rows = _with_one_identity(roles[role], encoder, columns)
        if len(rows) == 0:
            raise ValueError(
                f"role {role} of {source} has no comment with exactly one of the {len(columns)} "
                "identity terms that are swapped: raise size, or give more comments"
            )
        ids = [encoder.vocabulary.ids[terms[column]] for column in columns]
        whole = roles[role]
        comments = Comments(whole.tokens[rows], whole.label[rows], whole.groups[rows], no_blocks())
        swapped[role] = swap_identities(comments, ids, ids, columns, contexts=contexts, seed=seed)
    return swapped


def _with_one_identity(
    comments: Comments, encoder: CommentEncoder, columns: list[int]
) -> Int[np.ndarray, " k"]:
    """Rows that name one of ``columns`` once, and whose groups are that one and no other.

    Annotated groups and words may disagree ("white house"); only rows where they agree are safe to
    relabel with another identity.
    """
    named = np.zeros_like(comments.groups)
    for column in columns:
        token = encoder.vocabulary.ids[encoder.scored[column]]
        named[:, column] = (comments.tokens == token).sum(axis=1)
    return np.flatnonzero((named == comments.groups).all(axis=1) & (named.sum(axis=1) == 1))


def _held_out(terms: tuple[str, ...], hidden: list[int]) -> tuple[bool, ...]:
    """Of each term, whether none of its words is among the terms swapped in ``reward``."""
    shown = {term for column, term in enumerate(terms) if column not in hidden}
    return tuple(not shown.intersection(term.split()) for term in terms)


def _about(
    name: str, roles: dict[str, Comments], texts: dict[str, list[str]], encoder: CommentEncoder
) -> list[str]:
    """What the reader of a report has to know about the roles."""
    names = list(_terms(name))
    scored = [names[column] for column in encoder.columns]
    notes = []
    if unknown := [term for column, term in enumerate(names) if column not in encoder.columns]:
        notes.append(
            f"{len(unknown)} of {len(names)} identities outside the vocabulary of train, "
            f"not scored: {', '.join(unknown)}"
        )
    lengths = [len(text.split()) for batch in texts.values() for text in batch]
    cut = sum(number > encoder.length for number in lengths)
    notes.append(f"{cut} of {len(lengths)} comments cut to {encoder.length} words")
    for role, comments in roles.items():
        for value, kind in ((1, "toxic"), (0, "non-toxic")):
            counts = comments.groups[comments.label == value].sum(axis=0)
            if without := [term for term, n in zip(scored, counts, strict=True) if n == 0]:
                notes.append(f"{role}: no {kind} comment mentions {', '.join(without)}")
    return notes


def _about_swaps(swapped: Mapping[str, Comments], contexts: int) -> list[str]:
    return [
        f"{role}: {len(found.blocks)} comments with one identity to swap, {contexts} asked for"
        for role, found in swapped.items()
    ]
