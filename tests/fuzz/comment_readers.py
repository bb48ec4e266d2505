"""The files that comments, contexts and suites of counterfactuals are made of."""

from pathlib import Path
from typing import Any

import numpy as np

from modeledit_jax.data.comments.real_comments import load_with_contexts
from modeledit_jax.data.comments.suites import read_fuzzed, read_madlibs
from modeledit_jax.data.comments.text import TextEncoder
from modeledit_jax.data.comments.views import texts_of, with_words
from tests.data.comment_files import comment_rows, csv_text, jigsaw, write_sentences
from tests.fuzz.reader import Reader

MADLIBS, PAIR = "bias_madlibs_77k.csv", ("nonfuzzed", "fuzzed")
TERMS = ("gay", "black", "muslim")


def _write_comments(folder: Path) -> None:
    jigsaw(folder, comment_rows(160))
    write_sentences(folder)


def _read_comments(folder: Path) -> Any:
    (data,) = load_with_contexts("jigsaw", data_dir=folder, cache_dir=folder, folds=(1,))
    return with_words(data), texts_of(data)


def _comments_right(found: Any) -> bool:
    data, texts = found
    parts = [*data.roles.values(), *data.counterfactuals.values(), *data.suites.values()]
    return bool(texts) and all(_part_right(part, len(data.vocabulary)) for part in parts)


def _part_right(part: Any, words: int) -> bool:
    tokens = np.asarray(part.tokens)
    return (
        len(part) > 0
        and set(np.unique(part.label)) <= {0, 1}
        and set(np.unique(part.groups)) <= {0.0, 1.0}
        and tokens.min() >= 0
        and tokens.max() < words
    )


def _encoder() -> TextEncoder:
    return TextEncoder(TERMS, (0, 1, 2))


def _write_madlibs(folder: Path) -> None:
    rows = [
        [f"{name} is a {word} {term}", label, "name_adj"]
        for name in ("Ann", "Bob")
        for word, label in (("nice", "NOT_BAD"), ("nasty", "BAD"))
        for term in TERMS
    ]
    (folder / MADLIBS).write_text(csv_text(rows, ["Text", "Label", "Template"]))


def _write_pair(folder: Path) -> None:
    for name, term in zip(PAIR, TERMS, strict=False):
        rows = [[str(n), f"NEWLINE_TOKENa {term} man {n}", str(n % 2 == 0)] for n in range(12)]
        path = folder / f"toxicity_{name}_testset.csv"
        path.write_text(csv_text(rows, ["rev_id", "comment", "toxic"]))


def _suite_right(part: Any) -> bool:
    return len(part) > 0 and set(np.unique(part.label)) <= {0, 1}


def _pair_right(pair: Any) -> bool:
    return all(map(_suite_right, pair.values())) and len({len(part) for part in pair.values()}) == 1


COMMENT_READERS = {
    "comments with contexts": Reader(
        _write_comments, "jigsaw/train.csv", _read_comments, right=_comments_right
    ),
    "sentences.tsv": Reader(
        _write_comments,
        "dixon/toxicity_debiasing_data.tsv",
        _read_comments,
        right=_comments_right,
    ),
    "madlibs.csv": Reader(
        _write_madlibs,
        MADLIBS,
        lambda f: read_madlibs(f / MADLIBS, _encoder())[0],
        right=_suite_right,
    ),
    "testset.csv": Reader(
        _write_pair,
        "toxicity_*_testset.csv",
        lambda f: read_fuzzed(f, _encoder(), ())[0],
        right=_pair_right,
    ),
}
