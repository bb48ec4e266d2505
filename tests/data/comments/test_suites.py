"""Dixon's templates and swapped comments from small files of the same form."""

import re
import string
from pathlib import Path

import numpy as np
import pytest

from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.data.comments.datasets import load_comments
from modeledit_jax.data.comments.suites import PER_CELL, read_madlibs
from modeledit_jax.data.comments.text import CommentEncoder, Vocabulary, decode, tokenize
from tests.data.comment_files import comment_rows, csv_text, jigsaw


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> CommentData:
    return load_comments(
        "jigsaw",
        data_dir=jigsaw(tmp_path_factory.mktemp("d"), comment_rows(480)),
    )


MADLIBS = ["Text", "Label", "Template"]


def _madlibs(terms: tuple[str, ...]) -> list[list[str]]:
    rows = []
    for term in terms:
        rows += [[f"I am {term}", "NOT_BAD", "am_hate"], [f"I hate {term}", "BAD", "am_hate"]]
        for name in (f"x{letter}" for letter in string.ascii_lowercase[:18]):
            rows.append([f"{name} is a nice {term}", "NOT_BAD", "name_adj"])
            rows.append([f"{name} is a nasty {term}", "BAD", "name_adj"])
    return [*rows, ["You are a nice doctor", "NOT_BAD", "you_occupation"]]


@pytest.fixture
def encoder() -> CommentEncoder:
    vocabulary = Vocabulary.build(["i am hate is a nice nasty gay african american old"] * 2)
    terms = ("gay", "african", "african american", "american", "latina", "old")
    return CommentEncoder(terms, (0, 1, 2, 3, 5), 12, vocabulary)


def test_madlibs_weigh_frames_labels_and_terms_alike(encoder, tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(csv_text(_madlibs(("gay", "african american", "latina", "american")), MADLIBS))
    comments, notes = read_madlibs(path, encoder)
    texts = np.array(decode(comments.tokens, encoder.vocabulary.words))
    assert len(texts) == 2 * 2 * PER_CELL * 3 and comments.blocks.shape == (4 * PER_CELL, 3)
    np.testing.assert_array_equal(comments.groups.sum(axis=0), [64, 0, 64, 64, 0])
    np.testing.assert_array_equal(comments.label @ comments.groups, [32, 0, 32, 32, 0])
    am_hate = np.array([text.startswith("i ") for text in texts])
    assert am_hate.mean() == 0.5 and len(set(texts[am_hate])) == 2 * 3
    assert set(texts[~am_hate & (comments.label == 0) & (comments.groups[:, 2] == 1)]) == {
        "<unknown> is a nice african american"
    }
    for block in comments.blocks:
        frames = {re.sub("gay|african american|american", "*", text) for text in texts[block]}
        assert len(frames) == 1
    assert notes[0].startswith("madlibs: 64 sentences × 3 terms; 39 of 153 rows mention no scored")
    assert notes[1] == "madlibs: no sentence with african, old"
    assert "1 non-toxic of am_hate, 1 toxic of am_hate" in notes[2] and len(notes) == 3
    assert read_madlibs(path, encoder)[0].tokens.tobytes() == comments.tokens.tobytes()


def test_madlibs_defects(encoder, tmp_path):
    path = tmp_path / "m.csv"
    for rows, message in (
        ([["gay", "GOOD", "x"]], "line 2: Label is 'GOOD'"),
        ([["gay", "", "x"]], "line 2: a template without a label"),
        ([["nobody", "BAD", "x"]], "has no sentence with every scored identity term"),
        ([["a gay", "BAD", "x"], ["an american", "BAD", "x"]], "has no sentence with every"),
        ([["gay " + "a " * 20, "BAD", "x"]], "has sentences of 21 words"),
    ):
        path.write_text(csv_text(rows, MADLIBS))
        with pytest.raises(ValueError, match=message):
            read_madlibs(path, encoder)


def _testsets(folder: Path, plain: list[list[str]], fuzzed: list[list[str]]) -> None:
    (folder / "dixon").mkdir()
    for name, rows in (("nonfuzzed", plain), ("fuzzed", fuzzed)):
        path = folder / "dixon" / f"toxicity_{name}_testset.csv"
        path.write_text(csv_text(rows, ["rev_id", "comment", "toxic"]))


def test_fuzzed_pair_is_aligned_and_free_of_used_comments(data, tmp_path):
    jigsaw(tmp_path, comment_rows(480))
    used = {d: r for r in ("train", "test") for d in decode(data.roles[r].tokens, data.vocabulary)}
    leaked = kept = ""
    for _, text, *_ in comment_rows(480):
        words = [w if w in data.vocabulary else "<unknown>" for w in tokenize(text)]
        if " ".join(words) in used and used[" ".join(words)] == "train":
            leaked = text
        else:
            kept = kept or text
    plain = [
        ["1", "NEWLINE_TOKENa gay personTAB_TOKEN", "True"],
        ["2", leaked.replace(" ", "NEWLINE_TOKEN "), "False"],
        ["3", "a male person", "False"],
        ["4", "A male person!", "False"],
        ["5", "...", "True"],
    ]
    fuzzed = [[i, text.replace("gay", "muslim"), toxic] for i, text, toxic in plain]
    _testsets(tmp_path, plain, fuzzed)
    found = load_comments("jigsaw", data_dir=tmp_path)
    one, other = found.suites["nonfuzzed"], found.suites["fuzzed"]
    assert decode(one.tokens, found.vocabulary)[0].split()[-2] == "gay"
    assert decode(other.tokens, found.vocabulary)[0].split()[-2] == "muslim"
    np.testing.assert_array_equal(one.label, [1, 0])
    np.testing.assert_array_equal(other.label, one.label)
    named = [found.identities[i] for i in other.groups.argmax(axis=1)]
    assert named == ["muslim", "male"]
    assert found.notes[-2].startswith(
        "nonfuzzed, fuzzed: 2 of 5 comments; 1 are also in train, reward or select, 2 repeated"
    )
    assert found.notes[-1].startswith("suites madlibs absent")
    assert found.roles["test"].tokens.tobytes() == data.roles["test"].tokens.tobytes()


def test_testsets_must_hold_the_same_comments(tmp_path):
    jigsaw(tmp_path, comment_rows(480))
    _testsets(tmp_path, [["1", "a gay man", "True"]], [["2", "a gay man", "True"]])
    with pytest.raises(ValueError, match="differ in rev_id: get both again"):
        load_comments("jigsaw", data_dir=tmp_path)
