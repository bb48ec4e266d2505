"""Real comments with counterfactual contexts of their own: the protocol of an honest gain.

All comments of the source are used, which a classifier then weighs by class; the reward also knows
``train``, whose toxic comments are too many to do without. Counterfactuals are made from comments
(`contexts`) and, where the file is at hand, from the sentences of Wikipedia articles that Dixon et
al. 2018 collected. Every third term is held out, by P(toxic | term), in one of three folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from modeledit_jax.data.comments.comments import CommentData, Comments
from modeledit_jax.data.comments.contexts import (
    Context,
    draw_contexts,
    every_term,
    fill,
    mention_contexts,
    slot_contexts,
    some_terms,
    window_contexts,
)
from modeledit_jax.data.comments.datasets import hold_out, read_comments
from modeledit_jax.data.comments.files import CsvFile, RawComments, read_rows
from modeledit_jax.data.comments.person_words import PERSON_WORDS
from modeledit_jax.data.comments.sampling import Subset, draw_all, draw_balanced, split_roles
from modeledit_jax.data.comments.suites import load_suites
from modeledit_jax.data.comments.terms import DIXON_TERMS
from modeledit_jax.data.comments.text import TextEncoder, find_identities, tokenize
from modeledit_jax.data.folders import default_cache_dir, default_data_dir

FOLDS = 3
"""Of held-out terms."""

SENTENCES = "toxicity_debiasing_data.tsv"
"""Of Dixon et al. 2018: harmless sentences of Wikipedia articles with identity terms."""

SIZES: dict[str, dict[str, int]] = {
    "reward": {"windows": 960, "slots": 320, "natural": 320, "wikipedia": 160},
    "select": {"windows": 160, "slots": 60, "natural": 60, "wikipedia": 40},
    "test": {"windows": 500, "slots": 200, "natural": 100, "wikipedia": 100},
}
"""Contexts of each kind, at most."""

EACH = 4
"""Terms that a context of ``reward`` and ``select`` shows, and as many other person words."""

TOXIC, HARMLESS = 1_500, 3_000
"""Comments of ``train`` that the reward is judged by beside its own, at most."""

_PARTS = {"reward": "train", "select": "dev", "test": "test"}  # of the file of sentences


@dataclass(frozen=True)
class _Source:
    """Texts of the four roles, and the sentences by role."""

    name: str
    texts: Mapping[str, list[str]]
    label: Mapping[str, np.ndarray]
    sentences: Mapping[str, list[str]]


def load_with_contexts(
    name: str,
    *,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    size: int = 20_000,
    seed: int = 0,
    balanced: bool = False,
    folds: Sequence[int] = tuple(range(FOLDS)),
    nested: bool = False,
) -> list[CommentData]:
    """Loads real comments as numbers of texts (`views` makes tokens or features of them).

    ``train``, ``reward``, ``select`` and ``test`` are 70/7.5/7.5/15 % of the comments; then up to
    `TOXIC` and `HARMLESS` comments of ``train`` are added to ``reward``, where an edit must leave
    scores as they are. Contexts of ``reward`` come from ``train`` and ``reward``, those of
    ``select`` and ``test`` from their own comments; a context with the same words is in one role
    alone. The counterfactuals of ``test`` are windows with every scored term; ``natural``,
    ``slots`` and ``wikipedia`` are suites, and so are Dixon's files. ``added`` holds harmless
    sentences to retrain with.

    Args:
      name: ``"jigsaw"`` or ``"wikipedia_toxicity"`` (`datasets.load_comments`).
      data_dir, cache_dir: as there.
      size: at most so many comments.
      seed: of all draws.
      balanced: as many harmless comments as toxic ones, the protocol of Malik 2026 (20,000).
      folds: which thirds of the terms are held out in turn.
      nested: to choose a reward by. ``reward`` shows neither the terms of a fold nor those of the
        next third; ``select`` shows every term but those of the fold, in all of its contexts, and
        ``held_out`` says which of them ``reward`` does not show. What is held out for the test is
        then in neither.

    Returns:
      The data of every fold. They differ in what ``reward`` and ``select`` show, and the numbers
      of texts are those of all folds together.

    Raises:
      ValueError: a name, fold or file that will not do, terms that do not occur, or a kind of
        context that a role has none of.
      FileNotFoundError: a file is not there.
    """
    data_dir = data_dir or default_data_dir()
    _check(name, folds)
    raw = read_comments(name, data_dir, cache_dir or default_cache_dir())
    subset = (draw_balanced if balanced else draw_all)(raw, size, seed)
    source, about = _source(raw, subset, data_dir)
    encoder = TextEncoder(DIXON_TERMS, _columns(source))
    notes = (*raw.notes, subset.note, *about)
    whole, contexts = _whole(name, source, encoder, data_dir, seed, notes)
    of_fold = _nested_fold if nested else _of_fold
    parts = [of_fold(whole, encoder, contexts, fold, seed) for fold in folds]
    return [replace(part, vocabulary=encoder.vocabulary) for part in parts]


def _whole(
    name: str,
    source: _Source,
    encoder: TextEncoder,
    data_dir: Path | None,
    seed: int,
    notes: tuple[str, ...],
) -> tuple[CommentData, dict[str, dict[str, list[Context]]]]:
    """What all folds share, and the contexts of ``reward`` and ``select`` by kind."""
    roles = {role: encoder(source.texts[role], source.label[role]) for role in source.texts}
    contexts, about_contexts = _contexts(source, seed)
    every = range(len(encoder.scored))
    test = {n: _filled(encoder, c, every_term(c, every)) for n, c in contexts.pop("test").items()}
    suites, about_suites = load_suites(data_dir, encoder, _used(source), seed=seed)
    whole = CommentData(
        name=name,
        vocabulary=(),
        identities=encoder.scored,
        held_out=(),
        roles={**roles, "reward": _with_training(roles["reward"], roles["train"])},
        counterfactuals={"test": test.pop("windows")},
        suites={**test, **suites},
        added=_added(encoder, source.sentences),
        notes=(*notes, *about_contexts, *about_suites),
    )
    return whole, contexts


def _of_fold(
    whole: CommentData,
    encoder: TextEncoder,
    contexts: Mapping[str, Mapping[str, list[Context]]],
    fold: int,
    seed: int,
) -> CommentData:
    """The data with what ``reward`` and ``select`` show where a third of the terms is held out."""
    shown, held_out = _fold(whole.roles["train"], encoder.scored, (fold,))
    made = {role: _showing(encoder, kinds, shown, seed) for role, kinds in contexts.items()}
    return replace(whole, held_out=held_out, counterfactuals={**made, **whole.counterfactuals})


def _nested_fold(
    whole: CommentData,
    encoder: TextEncoder,
    contexts: Mapping[str, Mapping[str, list[Context]]],
    fold: int,
    seed: int,
) -> CommentData:
    """The data to choose a reward by where a third of the terms is held out (``nested``)."""
    train, terms = whole.roles["train"], encoder.scored
    allowed, _ = _fold(train, terms, (fold,))
    shown, hidden = _fold(train, terms, (fold, (fold + 1) % FOLDS))
    held_out = tuple(out and column in allowed for column, out in enumerate(hidden))
    judged = sorted([*shown, *np.flatnonzero(held_out).tolist()])
    select = contexts["select"].values()
    made = {
        "reward": _showing(encoder, contexts["reward"], shown, seed),
        "select": _joined([_filled(encoder, c, every_term(c, judged)) for c in select]),
    }
    return replace(whole, held_out=held_out, counterfactuals={**made, **whole.counterfactuals})


def _used(source: _Source) -> set[str]:
    """Words of the comments that fit or choose anything."""
    roles = ("train", "reward", "select")
    return {" ".join(tokenize(text)) for role in roles for text in source.texts[role]}


def _check(name: str, folds: Sequence[int]) -> None:
    if not folds or not all(0 <= fold < FOLDS for fold in folds):
        raise ValueError(f"folds are {list(folds)}: name thirds of the terms, 0 to {FOLDS - 1}")
    if name not in ("jigsaw", "wikipedia_toxicity"):
        raise ValueError(f"no contexts are made of {name}: choose jigsaw or wikipedia_toxicity")


def _source(
    raw: RawComments, subset: Subset, data_dir: Path | None
) -> tuple[_Source, tuple[str, ...]]:
    """The texts with single spaces, by role."""
    rows = split_roles(subset.label, raw.source)
    texts = {
        role: [" ".join(raw.texts[subset.rows[index]].split()) for index in chosen]
        for role, chosen in rows.items()
    }
    label = {role: subset.label[chosen] for role, chosen in rows.items()}
    sentences, about = _read_sentences(data_dir)
    return _Source(raw.source, texts, label, sentences), about


def _columns(source: _Source) -> tuple[int, ...]:
    """Terms that occur in ``train``.

    Raises:
      ValueError: fewer than a fold and a context take.
    """
    words = [tokenize(text) for text in source.texts["train"]]
    counts = find_identities(words, DIXON_TERMS).sum(axis=0)
    columns = tuple(np.flatnonzero(counts).tolist())
    if len(columns) < EACH + FOLDS:
        raise ValueError(
            f"{len(columns)} of {len(DIXON_TERMS)} identity terms occur in the {len(words)} "
            f"training comments of {source.name}, {EACH + FOLDS} are needed: raise size, or give "
            "more comments"
        )
    return columns


def _fold(
    train: Comments, terms: Sequence[str], folds: Sequence[int]
) -> tuple[list[int], tuple[bool, ...]]:
    """Terms that the reward may show, and of each whether it is held out, in one of ``folds``.

    A term that shares a word with one of the other side (african, african american) is neither.
    """
    every = range(len(terms))
    hidden = {c for fold in folds for c in hold_out(train, terms, every, fold, FOLDS)}
    words = [set(term.split()) for term in terms]
    of_hidden = set().union(*(words[column] for column in hidden))
    shown = [c for c in every if c not in hidden and not words[c] & of_hidden]
    of_shown = set().union(*(words[column] for column in shown))
    return shown, tuple(c in hidden and not words[c] & of_shown for c in every)


def _contexts(
    source: _Source, seed: int
) -> tuple[dict[str, dict[str, list[Context]]], tuple[str, ...]]:
    """Contexts by role and kind, none with the same words in two roles, and what was left out.

    Raises:
      ValueError: a role has none of a kind.
    """
    found: dict[str, dict[str, list[Context]]] = {}
    notes, used = [], set[tuple[str, str]]()
    for role, sizes in SIZES.items():
        own = ("train", "reward") if role == "reward" else (role,)
        texts = [text for name in own for text in source.texts[name]]
        label = np.concatenate([source.label[name] for name in own])
        natural = mention_contexts(texts, label, DIXON_TERMS)
        slots = slot_contexts(texts, label, DIXON_TERMS)
        sentences = source.sentences.get(role, [])
        harmless = np.zeros(len(sentences), np.int32)
        candidates = {
            "windows": window_contexts([*natural, *slots], seed),
            "slots": slots,
            "natural": natural,
            "wikipedia": mention_contexts(sentences, harmless, DIXON_TERMS),
        }
        found[role] = {}
        for kind, all_of_kind in candidates.items():
            if kind == "wikipedia" and not source.sentences:
                continue
            chosen, overlap = draw_contexts(all_of_kind, sizes[kind], seed, used)
            if not chosen:
                raise ValueError(
                    f"the comments in role {role} of {source.name} give no context of the kind "
                    f"{kind}: raise size, or give more comments"
                )
            found[role][kind] = chosen
            toxic = sum(context.label for context in chosen)
            notes.append(
                f"{role}, {kind}: {len(chosen)} contexts ({toxic} toxic) of {len(all_of_kind)}; "
                f"{overlap} with the words of another role left out"
            )
        used |= {context.key for kind in found[role].values() for context in kind}
    return found, tuple(notes)


def _showing(
    encoder: TextEncoder, kinds: Mapping[str, list[Context]], shown: list[int], seed: int
) -> Comments:
    """Contexts of all kinds, each with some terms that may be shown and other words."""
    number, others = len(encoder.scored), len(PERSON_WORDS)
    parts = [(c, some_terms(c, shown, number, others, EACH, seed)) for c in kinds.values()]
    return _joined([_filled(encoder, *part) for part in parts])


def _filled(
    encoder: TextEncoder, contexts: list[Context], chosen: Int32[np.ndarray, "k variants"]
) -> Comments:
    """Contexts with the words that are chosen for each, by their number."""
    terms = encoder.scored
    variants = chosen.shape[1]
    named = np.zeros((chosen.size, len(encoder.terms)), np.float32)
    is_term = chosen.reshape(-1) < len(terms)
    columns = np.asarray(encoder.columns)[np.where(is_term, chosen.reshape(-1), 0)]
    named[np.flatnonzero(is_term), columns[is_term]] = 1.0
    label = np.repeat(np.array([context.label for context in contexts], np.int32), variants)
    blocks = np.arange(chosen.size, dtype=np.int32).reshape(chosen.shape)
    texts = fill(contexts, chosen, (*terms, *PERSON_WORDS))
    return replace(encoder(texts, label, named), blocks=blocks)


def _joined(parts: Sequence[Comments]) -> Comments:
    """Several sets of comments as one, each of a kind of its own."""
    first = np.cumsum([0, *(len(part) for part in parts[:-1])]).astype(np.int32)
    return Comments(
        tokens=np.concatenate([part.tokens for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        groups=np.concatenate([part.groups for part in parts]),
        blocks=np.concatenate([part.blocks + n for part, n in zip(parts, first, strict=True)]),
        kind=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts]),
    )


def _with_training(reward: Comments, train: Comments) -> Comments:
    """The reward's comments and the first of the training comments of each label."""
    chosen = np.sort(
        np.concatenate(
            [
                np.flatnonzero(train.label == label)[:most]
                for label, most in ((0, HARMLESS), (1, TOXIC))
            ]
        )
    )
    return Comments(
        tokens=np.concatenate([reward.tokens, train.tokens[chosen]]),
        label=np.concatenate([reward.label, train.label[chosen]]),
        groups=np.concatenate([reward.groups, train.groups[chosen]]),
        blocks=reward.blocks,
    )


def _added(encoder: TextEncoder, sentences: Mapping[str, list[str]]) -> dict[str, Comments]:
    """Sentences to retrain with: those that no context of ``select`` or ``test`` is made of."""
    texts = sentences.get("reward", [])
    if not texts:
        return {}
    return {"sentences": encoder(texts, np.zeros(len(texts), np.int32))}


def _read_sentences(data_dir: Path | None) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Sentences by role, each once, as the file splits them; none where there is no file.

    Raises:
      ValueError: the file is malformed, or names a split that is none of its own.
    """
    path = (data_dir or Path()) / "dixon" / SENTENCES
    if data_dir is None or not path.exists():
        return {}, (f"suite wikipedia absent: put {SENTENCES} into dixon/ of the data folder",)
    roles = {part: role for role, part in _PARTS.items()}
    found: dict[str, dict[str, str]] = {role: {} for role in roles.values()}
    seen: set[str] = set()
    columns = ("comment", "is_toxic", "split")
    for where, (text, toxic, part) in read_rows(CsvFile.on_disk(path, "\t"), columns):
        if part not in roles or toxic.strip().lower() != "false":
            raise ValueError(
                f"{where}: split {part!r}, is_toxic {toxic!r}: this file has harmless sentences of "
                f"{', '.join(roles)}: get it again"
            )
        words = " ".join(tokenize(text))
        if words and words not in seen:
            seen.add(words)
            found[roles[part]][words] = " ".join(text.split())
    return {role: list(texts.values()) for role, texts in found.items()}, ()
