"""Counterfactual contexts from real texts: where a term stands, or may stand, and what is around.

Three rules find the places. A *mention* is a term of the list in a comment that has exactly one;
it is swapped. A *slot* is the place before a noun of persons in a comment without a term; a term is
inserted. A *window* is a slot or mention with one to three words on either side, for in a whole
comment a term is one word among forty. Nothing is drawn but by seed, and the text around a place
stays as its writer has written it, but for an article before the term (a, an).
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32

from modeledit_jax.data.comments.person_words import PERSON_NOUNS
from modeledit_jax.data.comments.text import mentions, tokenize, word_spans

DEEPEST = 20
"""Words before a place: what comes later would be cut off with the end of a long text."""

WIDEST = 3
"""Words of a window on either side."""

_ARTICLE = re.compile(r"\b(a|an)(\s+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Context:
    """A text with a place for a term."""

    before: str
    after: str
    label: int  # 1 = toxic, whatever the term

    def __call__(self, term: str) -> str:
        """The text with a term in its place."""
        if (article := _ARTICLE.search(self.before)) is None:
            return self.before + term + self.after
        begin = self.before[: article.start()]
        word = "an" if term[0].lower() in "aeiou" else "a"
        written = word.capitalize() if article[1][0].isupper() else word
        return begin + written + article[2] + term + self.after

    @property
    def key(self) -> tuple[str, str]:
        """The same for texts that differ in nothing but case, spaces and the article."""
        before = tokenize(self.before)
        if before and before[-1] in ("a", "an"):
            before[-1] = "a"
        return " ".join(before), " ".join(tokenize(self.after))


def mention_contexts(
    texts: Sequence[str], label: Int[np.ndarray, " n"], terms: Sequence[str]
) -> list[Context]:
    """Places of the terms of texts that mention exactly one of ``terms``, once."""
    return [
        Context(text[:begin], text[end:], toxic)
        for text, toxic, spans, found in _read(texts, label, terms)
        if len(found) == 1 and found[0][0] <= DEEPEST
        for begin, end in [(spans[found[0][0]][1], spans[found[0][1] - 1][2])]
    ]


def slot_contexts(
    texts: Sequence[str], label: Int[np.ndarray, " n"], terms: Sequence[str]
) -> list[Context]:
    """Places before the nouns of persons of texts that mention none of ``terms``."""
    return [
        Context(text[:begin], f" {text[begin:]}", toxic)
        for text, toxic, spans, found in _read(texts, label, terms)
        if not found
        for word, begin, _ in spans[: DEEPEST + 1]
        if word in PERSON_NOUNS
    ]


_Spans = list[tuple[str, int, int]]


def _read(
    texts: Sequence[str], label: np.ndarray, terms: Sequence[str]
) -> Iterator[tuple[str, int, _Spans, list[tuple[int, int, int]]]]:
    """Of every text: itself, label, words with their places, and mentions."""
    for text, toxic in zip(texts, label, strict=True):
        spans = word_spans(text)
        yield text, int(toxic), spans, mentions([word for word, _, _ in spans], terms)


def window_contexts(contexts: Iterable[Context], seed: int) -> list[Context]:
    """Contexts cut to `WIDEST` words or fewer on either side; those without a word are left out."""
    found = []
    for context in contexts:
        left, right = (1 + byte % WIDEST for byte in _hash(seed, context.key)[:2])
        before, after = word_spans(context.before), word_spans(context.after)
        if not before and not after:
            continue
        begin = before[-left:][0][1] if before else 0
        end = after[:right][-1][2] if after else 0
        found.append(Context(context.before[begin:], context.after[:end], context.label))
    return found


def draw_contexts(
    contexts: Iterable[Context],
    number: int,
    seed: int,
    used: Collection[tuple[str, str]] = frozenset(),
) -> tuple[list[Context], int]:
    """Draws contexts that differ in their words, half of each label as far as there are such.

    Args:
      contexts: to draw from; of those with the same words the first counts.
      number: at most so many.
      seed: of the order, which is that of a hash: the same on every machine.
      used: keys of contexts that serve elsewhere and are left out.

    Returns:
      The contexts, and how many were left out because they are ``used``.
    """
    known: dict[tuple[str, str], Context] = {}
    for context in contexts:
        known.setdefault(context.key, context)
    free = [key for key in known if key not in used]
    order = sorted(free, key=lambda key: _hash(seed, key))
    sides = [[key for key in order if known[key].label == label] for label in (0, 1)]
    short = min(len(sides[0]), len(sides[1]), number // 2)
    counts = [min(len(side), max(number - short, short)) for side in sides]
    if sum(counts) > number:
        counts = [number - number // 2, number // 2]
    chosen = {key for side, n in zip(sides, counts, strict=True) for key in side[:n]}
    return [known[key] for key in order if key in chosen], len(known) - len(free)


def _hash(seed: int, key: tuple[str, str]) -> bytes:
    return hashlib.sha256(repr((seed, key)).encode()).digest()


def every_term(contexts: Sequence[Context], terms: Sequence[int]) -> Int32[np.ndarray, "k terms"]:
    """For every context all of ``terms``, by their number, as `fill` takes them."""
    return np.tile(np.asarray(terms, np.int32), (len(contexts), 1))


def some_terms(
    contexts: Sequence[Context], shown: Sequence[int], terms: int, others: int, each: int, seed: int
) -> Int32[np.ndarray, "k variants"]:
    """For every context ``each`` terms that are ``shown`` and as many other words, drawn by seed.

    Of a context the order in which terms are tried is the same whichever are shown, so that folds
    of held-out terms have most texts in common.

    Args:
      contexts: ``K``.
      shown: the terms that may be drawn, by their number.
      terms, others: numbers of all terms and of other words; other words count from ``terms`` on.
      each: of either kind.
      seed: of the draw.

    Returns:
      Numbers of words, ``2 · each`` a context.

    Raises:
      ValueError: there are fewer than ``each`` to draw from.
    """
    if min(len(shown), others) < each:
        raise ValueError(
            f"{len(shown)} identity terms and {others} other words for {each} of each in every "
            "context: give more comments, or fewer held-out terms"
        )
    rng, rows = np.random.default_rng(seed), []
    for _ in contexts:
        tried = rng.permutation(terms)
        chosen = tried[np.isin(tried, shown)][:each]
        rows.append([*chosen, *(terms + rng.choice(others, each, replace=False))])
    return np.array(rows, np.int32).reshape(len(contexts), 2 * each)


def fill(
    contexts: Sequence[Context], chosen: Int[np.ndarray, "k variants"], words: Sequence[str]
) -> list[str]:
    """The texts of all contexts with their terms, context after context."""
    return [
        context(words[index])
        for context, row in zip(contexts, chosen, strict=True)
        for index in row
    ]
