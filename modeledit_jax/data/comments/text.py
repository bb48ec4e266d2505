"""Words, vocabulary and identity mentions of comments; no dependency but NumPy."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float32, Int32

from modeledit_jax.data.comments.comments import PAD, UNKNOWN, Comments, no_blocks

_URL = re.compile(r"(?:https?://|ftp://|www\.)\S+")
# An apostrophe belongs to a word between letters ("don't"), not around it ('''bold''' of wikis).
_WORD = re.compile(r"'s(?![a-z])|[a-z]+(?:'(?!s(?![a-z]))[a-z]+)*")


def tokenize(text: str) -> list[str]:
    """Splits a text into words.

    Lower-cases, removes URLs, reads ’ as ', and keeps runs of the letters a…z with apostrophes
    inside. The possessive ``'s`` is a word of its own, so that "a muslim's view" mentions "muslim".
    Digits, punctuation and other letters separate words. Words joined by spaces give themselves.
    """
    return _WORD.findall(_URL.sub(" ", text.lower().replace("’", "'")))


def word_spans(text: str) -> list[tuple[str, int, int]]:
    """The words of `tokenize` and where each begins and ends in the text."""
    plain = text.replace("’", "'")
    # Character by character: some capital letters become two when they are made small.
    lower = "".join(c.lower() if len(c.lower()) == 1 else " " for c in plain)
    lower = _URL.sub(lambda url: " " * len(url[0]), lower)
    return [(found[0], *found.span()) for found in _WORD.finditer(lower)]


@dataclass(frozen=True)
class Vocabulary:
    """The word of every token id; ids 0 and 1 are `PAD` and `UNKNOWN`."""

    words: tuple[str, ...]

    @classmethod
    def build(
        cls, texts: Iterable[str], min_count: int = 2, max_words: int = 10_000
    ) -> "Vocabulary":
        """Collects the most frequent words, ordered by falling count, then alphabetically.

        Args:
          texts: of the training role and no other: words that only a later role has must be
            unknown, as they will be in use.
          min_count: a word must occur so often.
          max_words: at most so many words, `PAD` and `UNKNOWN` not counted.

        Raises:
          ValueError: no word occurs often enough.
        """
        counts = Counter(word for text in texts for word in tokenize(text))
        frequent = [word for word, count in counts.items() if count >= min_count]
        if not frequent:
            raise ValueError(
                f"none of {len(counts)} words occurs {min_count} times: "
                "give more texts, or lower min_count"
            )
        frequent.sort(key=lambda word: (-counts[word], word))
        return cls(("<pad>", "<unknown>", *frequent[:max_words]))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token id of every word."""
        return {word: index for index, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, term: str) -> bool:
        """Whether every word of a term has a token id of its own."""
        return all(self.ids.get(word, UNKNOWN) > UNKNOWN for word in term.split())

    def encode(self, texts: Sequence[str], length: int = 200) -> Int32[np.ndarray, "n length"]:
        """Token ids of the first ``length`` words of each text, padded with `PAD` at the end.

        A word outside the vocabulary becomes `UNKNOWN` and keeps its place.

        Raises:
          ValueError: ``length`` is not positive.
        """
        if length < 1:
            raise ValueError(f"length is {length}: a comment needs room for at least one token")
        tokens = np.full((len(texts), length), PAD, np.int32)
        for row, text in zip(tokens, texts, strict=True):
            ids = [self.ids.get(word, UNKNOWN) for word in tokenize(text)[:length]]
            row[: len(ids)] = ids
        return tokens


def decode(tokens: Int32[np.ndarray, "n length"], vocabulary: Sequence[str]) -> list[str]:
    """Token ids back to words joined by spaces, padding left out.

    For models on words, e.g. scikit-learn's ``TfidfVectorizer(token_pattern=r"\\S+")``, which then
    see exactly what a network on the tokens sees; unknown words stay as ``<unknown>``.

    Args:
      tokens: token ids.
      vocabulary: the word of every id (`CommentData.vocabulary` or `Vocabulary.words`).
    """
    return [" ".join(vocabulary[token] for token in row if token != PAD) for row in tokens]


def mentions(words: Sequence[str], terms: Sequence[str]) -> list[tuple[int, int, int]]:
    """Where a comment mentions which term, as (first word, word after the last, term).

    Whole words, left to right, the longest term first and without overlap: "african american" is
    one mention, not also one of "african" and one of "american" (a regular expression per term, as
    in Dixon et al. 2018, counts all three).
    """
    return _mentions(words, _by_first_word(tuple(terms)))


def find_identities(
    comments: Sequence[Sequence[str]], terms: Sequence[str]
) -> Float32[np.ndarray, "n i"]:
    """Which comment mentions which term, matched as in `mentions`.

    Args:
      comments: the words of each comment, from `tokenize`.
      terms: in lower case, words separated by a space.

    Returns:
      1 where the comment mentions the term, else 0.
    """
    groups = np.zeros((len(comments), len(terms)), np.float32)
    table = _by_first_word(tuple(terms))
    for row, words in zip(groups, comments, strict=True):
        for _, _, term in _mentions(words, table):
            row[term] = 1.0
    return groups


_Table = dict[str, list[tuple[list[str], int]]]  # first word → terms as words, longest first


@lru_cache(maxsize=8)
def _by_first_word(terms: tuple[str, ...]) -> _Table:
    table: _Table = {}
    for index, term in enumerate(terms):
        words = term.split()
        table.setdefault(words[0], []).append((words, index))
    for candidates in table.values():
        candidates.sort(key=lambda candidate: -len(candidate[0]))
    return table


def _mentions(words: Sequence[str], table: _Table) -> list[tuple[int, int, int]]:
    found, start = [], 0
    while start < len(words):
        stop = start + 1
        for term, index in table.get(words[start], ()):
            if list(words[start : start + len(term)]) == term:
                stop = start + len(term)
                found.append((start, stop, index))
                break
        start = stop
    return found


@dataclass(frozen=True)
class Encoder(ABC):
    """Turns texts into `Comments`; the same for every role and suite of a data set.

    Attributes:
      terms: all that are looked for, also those outside a vocabulary.
      columns: those of `terms` that are scored: the columns of `Comments.groups`.
      length: words in which terms are looked for.
    """

    terms: tuple[str, ...]
    columns: tuple[int, ...]
    length: int

    @property
    def scored(self) -> tuple[str, ...]:
        """The terms that are scored."""
        return tuple(self.terms[column] for column in self.columns)

    @abstractmethod
    def knows(self, word: str) -> bool:
        """Whether what is read of a text holds this word."""

    @abstractmethod
    def tokens(self, texts: Sequence[str]) -> Int32[np.ndarray, "n l"]:
        """What a network reads of every text."""

    def __call__(
        self,
        texts: Sequence[str],
        label: Int32[np.ndarray, " n"],
        identities: Float32[np.ndarray, "n all"] | None = None,
    ) -> Comments:
        """Encodes texts, without blocks.

        Args:
          texts: the comments.
          label: 1 = toxic.
          identities: of each comment, its annotated identities in the order of ``terms``. None:
            those it mentions within the first ``length`` words.
        """
        if identities is None:
            identities = find_identities([tokenize(t)[: self.length] for t in texts], self.terms)
        return Comments(
            tokens=self.tokens(texts),
            label=label,
            groups=identities[:, list(self.columns)],
            blocks=no_blocks(),
        )


@dataclass(frozen=True)
class CommentEncoder(Encoder):
    """A token for each of the first ``length`` words, which is all that a network sees."""

    vocabulary: Vocabulary

    def knows(self, word: str) -> bool:
        """See `Encoder.knows`."""
        return word in self.vocabulary

    def tokens(self, texts: Sequence[str]) -> Int32[np.ndarray, "n l"]:
        """See `Encoder.tokens`."""
        return self.vocabulary.encode(texts, self.length)


@dataclass(frozen=True)
class TextEncoder(Encoder):
    """One token for a text: the number of the whole text.

    What a network is to see of a text, its words or features, is put in the place of the number
    later (`views.with_words`, `views.with_features`).
    """

    length: int = 200
    numbers: dict[str, int] = field(default_factory=dict)  # of the texts so far

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The texts, with what stands before them in every vocabulary."""
        return ("<pad>", "<unknown>", *self.numbers)

    def knows(self, word: str) -> bool:
        """See `Encoder.knows`: all of it."""
        return True

    def tokens(self, texts: Sequence[str]) -> Int32[np.ndarray, "n l"]:
        """See `Encoder.tokens`."""
        first = UNKNOWN + 1
        ids = [first + self.numbers.setdefault(text, len(self.numbers)) for text in texts]
        return np.array(ids, np.int32).reshape(len(texts), 1)
