"""Test sets of Dixon et al. 2018 (data CC BY 4.0) from local files: templates and swapped comments.

``bias_madlibs_77k.csv`` holds every identity term in the same sentences, half of them toxic.
``toxicity_nonfuzzed_testset.csv`` holds real comments, ``toxicity_fuzzed_testset.csv`` the same
with their identity terms exchanged at random.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from modeledit_jax.data.comments.comments import Comments
from modeledit_jax.data.comments.files import (
    CsvFile,
    RawComments,
    parse_fraction,
    read_labeled,
    read_rows,
)
from modeledit_jax.data.comments.text import Encoder, mentions, tokenize

PER_CELL = 16
"""Rows of every frame, label and term in the suite ``madlibs``: at most 5 · 2 · 16 · 50 = 8,000."""

_MADLIBS = "bias_madlibs_77k.csv"
_PAIR = ("toxicity_nonfuzzed_testset.csv", "toxicity_fuzzed_testset.csv")
_MARKERS = re.compile(r"(?:NEWLINE|TAB)_TOKEN")  # how these files write white space

_Sentence = tuple[str, int, str, str]  # frame, label, words before the identity, words after it


def load_suites(
    data_dir: Path | None,
    encoder: Encoder,
    used: Collection[str],
    *,
    seed: int = 0,
) -> tuple[dict[str, Comments], tuple[str, ...]]:
    """Loads the suites whose files are at hand.

    Args:
      data_dir: folder whose subfolder ``dixon`` may hold the files.
      encoder: of the data set; only its scored terms appear in the templates.
      used: texts (words joined by spaces) that fitted or chose anything; they are left out.
      seed: of the choice of sentences.

    Returns:
      ``madlibs``, ``nonfuzzed`` and ``fuzzed``, as far as present, and notes for the report.

    Raises:
      ValueError: a file is not what it must be.
    """
    folder = data_dir / "dixon" if data_dir else None
    suites: dict[str, Comments] = {}
    notes: list[str] = []
    if folder and (folder / _MADLIBS).exists():
        suites["madlibs"], about = read_madlibs(folder / _MADLIBS, encoder, seed=seed)
        notes += about
    if folder and all((folder / name).exists() for name in _PAIR):
        pair, about = read_fuzzed(folder, encoder, used)
        suites |= pair
        notes += about
    absent = [name for name in ("madlibs", "nonfuzzed", "fuzzed") if name not in suites]
    if absent:
        files = ", ".join((_MADLIBS, *_PAIR))
        notes.append(
            f"suites {', '.join(absent)} absent: put {files} into dixon/ of the data folder"
        )
    return suites, tuple(notes)


def read_madlibs(
    path: Path, encoder: Encoder, *, seed: int = 0
) -> tuple[Comments, tuple[str, ...]]:
    """Reads Dixon's templates so that every sentence frame weighs the same.

    In the file 94 % of the rows are one frame ("{name} is a {adjective} {identity}"). Here every
    frame, label and term has `PER_CELL` rows: a draw of the sentences there are, or all of them,
    repeated. A mean over rows is therefore the macro-average over frames. Every sentence is there
    with each scored term, and these rows are one block. Rows that mention no scored term (the
    occupations, terms outside the vocabulary) are left out.

    Args:
      path: CSV with columns ``Text``, ``Label`` (BAD, NOT_BAD) and ``Template``.
      encoder: of the data set.
      seed: of the draw.

    Returns:
      The comments, block after block, and notes for the report.

    Raises:
      ValueError: the file is malformed, or no sentence has all scored terms that occur in it.
    """
    sentences, total, left_out = _read_sentences(path, encoder)
    present = sorted({term for rows in sentences.values() for term in rows})
    complete = [key for key, rows in sentences.items() if len(rows) == len(present)]
    if not complete:
        raise ValueError(f"{path} has no sentence with every scored identity term: get it again")
    keys = _draw_sentences(complete, seed)
    texts = [sentences[key][term] for key in keys for term in present]
    if (longest := max(len(text.split()) for text in texts)) > encoder.length:
        raise ValueError(f"{path} has sentences of {longest} words: use at least this length")
    identities = np.zeros((len(texts), len(encoder.terms)), np.float32)
    identities[np.arange(len(texts)), np.tile(present, len(keys))] = 1.0
    label = np.repeat(np.array([toxic for _, toxic, _, _ in keys], np.int32), len(present))
    blocks = np.arange(len(texts), dtype=np.int32).reshape(len(keys), len(present))
    notes = [
        f"madlibs: {len(keys)} sentences × {len(present)} terms; {left_out} of {total} rows "
        f"mention no scored term, {len(sentences) - len(complete)} sentences lack some: left out",
        *_about_madlibs(encoder, keys, present),
    ]
    return replace(encoder(texts, label, identities), blocks=blocks), tuple(notes)


def _read_sentences(
    path: Path, encoder: Encoder
) -> tuple[dict[_Sentence, dict[int, str]], int, int]:
    """Text by sentence and scored term; number of rows, and of those with no scored term."""
    sentences: dict[_Sentence, dict[int, str]] = defaultdict(dict)
    total = left_out = 0
    rows = read_rows(CsvFile.on_disk(path), ("Text", "Label", "Template"))
    for where, (text, label, frame) in rows:
        total += 1
        words = tokenize(text)
        found = mentions(words, encoder.terms)
        if len(found) != 1 or found[0][2] not in encoder.columns:
            left_out += 1
            continue
        start, stop, term = found[0]
        toxic = parse_fraction(label, where, "Label")
        if np.isnan(toxic):
            raise ValueError(f"{where}: a template without a label: get the file again")
        key = (frame, int(toxic >= 0.5), " ".join(words[:start]), " ".join(words[stop:]))
        sentences[key][term] = " ".join(words)
    return sentences, total, left_out


def _draw_sentences(keys: list[_Sentence], seed: int) -> list[_Sentence]:
    """`PER_CELL` sentences of every frame and label, in an order that is the same everywhere."""
    cells: dict[tuple[str, int], list[_Sentence]] = defaultdict(list)
    for key in sorted(keys, key=lambda key: hashlib.sha256(repr((seed, key)).encode()).digest()):
        cells[key[:2]].append(key)
    return [
        cells[cell][index % len(cells[cell])] for cell in sorted(cells) for index in range(PER_CELL)
    ]


def _about_madlibs(encoder: Encoder, keys: list[_Sentence], present: list[int]) -> Iterator[str]:
    absent = [encoder.terms[term] for term in encoder.columns if term not in present]
    if absent:
        yield f"madlibs: no sentence with {', '.join(absent)}"
    cells = Counter(key[:2] for key in set(keys))
    few = {cell: number for cell, number in sorted(cells.items()) if number < PER_CELL}
    if few:
        shown = (f"{n} {'toxic' if y else 'non-toxic'} of {frame}" for (frame, y), n in few.items())
        yield (
            f"madlibs: repeated to {PER_CELL}, which makes intervals too narrow: {', '.join(shown)}"
        )
    blind = sum(not any(map(encoder.knows, " ".join(key[2:]).split())) for key in set(keys))
    if blind:
        yield f"madlibs: sentences with no known word but the identity: {blind}"


def read_fuzzed(
    folder: Path, encoder: Encoder, used: Collection[str]
) -> tuple[dict[str, Comments], tuple[str, ...]]:
    """Reads the pair of real test comments, original and with exchanged identity terms.

    Row i of ``fuzzed`` is row i of ``nonfuzzed`` after the exchange. These comments come from
    Wikipedia, as do Jigsaw's: those among ``used`` are left out of both, and so are repeated and
    empty ones.

    Raises:
      ValueError: a file is malformed, or the two do not hold the same comments.
    """
    plain, fuzzed = (_read_testset(folder / name) for name in _PAIR)
    if plain.ids != fuzzed.ids:
        raise ValueError(f"{plain.source} and {fuzzed.source} differ in rev_id: get both again")
    seen, kept, leaked = set(used), [], 0
    words = ([" ".join(tokenize(text)) for text in raw.texts] for raw in (plain, fuzzed))
    for index, (one, other) in enumerate(zip(*words, strict=True)):
        if one and other and one not in seen:
            seen.add(one)
            kept.append(index)
        leaked += one in used and bool(one)
    if not kept:
        raise ValueError(f"{plain.source} has no comment that was not used before: get it again")
    suites = {
        name: encoder([raw.texts[index] for index in kept], raw.label[kept])
        for name, raw in (("nonfuzzed", plain), ("fuzzed", fuzzed))
    }
    rest = len(plain.ids) - len(kept) - leaked
    note = (
        f"nonfuzzed, fuzzed: {len(kept)} of {len(plain.ids)} comments; {leaked} are also in train, "
        f"reward or select, {rest} repeated or empty"
    )
    return suites, (*plain.notes, *fuzzed.notes, note)


def _read_testset(path: Path) -> RawComments:
    """Texts with single spaces."""
    raw = read_labeled(CsvFile.on_disk(path), ("rev_id", "comment", "toxic"))
    texts = [" ".join(_MARKERS.sub(" ", text).split()) for text in raw.texts]
    return RawComments(raw.source, raw.ids, texts, raw.label, None, raw.notes)
