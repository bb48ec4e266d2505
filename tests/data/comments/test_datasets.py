"""Real comments: protocol, counterfactuals and defects, on small files the tests write."""

import gzip
import hashlib
import re

import numpy as np
import pytest

from modeledit_jax.data.comments import files, sampling
from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.data.comments.datasets import load_comments
from modeledit_jax.data.comments.text import Vocabulary, decode, tokenize
from tests.data.comment_files import HEADER, TERMS, comment_rows, csv_text, jigsaw
from tests.data.published import require_published


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> CommentData:
    return load_comments(
        "jigsaw",
        data_dir=jigsaw(tmp_path_factory.mktemp("d"), comment_rows(480)),
    )


def test_roles_are_balanced_disjoint_and_of_the_papers_sizes(data):
    sizes = {role: len(comments) for role, comments in data.roles.items()}
    assert sizes == {"train": 336, "reward": 36, "select": 36, "test": 72}
    texts = []
    for comments in data.roles.values():
        assert comments.label.mean() == 0.5
        assert {a.dtype.name for a in (comments.tokens, comments.label)} == {"int32"}
        texts += decode(comments.tokens, data.vocabulary)
    assert len(texts) == 480
    # the number word of a comment occurs once and is therefore unknown, but it keeps its place
    assert all(len(text.split()) >= 7 and "<unknown>" in text for text in texts)


def test_paper_sizes_at_full_size():
    label = np.repeat([0, 1], 10_000).astype(np.int32)
    rows = sampling.split_roles(label, "it")
    sizes = {"train": 14_000, "reward": 1_500, "select": 1_500, "test": 3_000}
    assert {role: len(own) for role, own in rows.items()} == sizes
    assert sorted(row for own in rows.values() for row in own) == list(range(20_000))


def test_order_of_the_file_does_not_matter_but_the_seed_does(data, tmp_path):
    rows = comment_rows(480)
    np.random.default_rng(1).shuffle(rows)
    folder = jigsaw(tmp_path, gzip.compress(("\ufeff" + csv_text(rows)).encode()), "train.csv.gz")
    again = load_comments("jigsaw", data_dir=folder)
    assert again.fingerprint == data.fingerprint
    assert load_comments("jigsaw", data_dir=folder, seed=1).fingerprint != data.fingerprint


def test_vocabulary_is_that_of_train(data):
    by_id = {row[0]: row for row in comment_rows(480)}
    order = sorted(by_id, key=lambda i: hashlib.sha256(f"0:{i}".encode()).digest())
    by_label = [[by_id[i] for i in order if by_id[i][2] == label] for label in "01"]
    train = [row[1] for rows in by_label for row in rows[:168]]
    assert data.vocabulary == Vocabulary.build(train).words
    assert "middle aged" in data.identities and "latina" not in data.identities
    assert any("not scored" in n and "latina" in n and "middle aged" not in n for n in data.notes)


def test_groups_equal_a_search_in_the_text(data):
    for comments in data.roles.values():
        texts = decode(comments.tokens, data.vocabulary)
        for row, text in zip(comments.groups, texts, strict=True):
            found = re.findall(rf"\b(african american|middle aged|{'|'.join(TERMS)})\b", text)
            assert [data.identities[i] for i in np.flatnonzero(row)] == found


def test_counterfactuals_differ_in_the_identity_and_hide_held_out_terms(data):
    held_out = {t for t, held in zip(data.identities, data.held_out, strict=True) if held}
    single = {
        *TERMS,
        "african",
        "american",
    }  # the last two are known from "african american"
    assert set(data.identities) == {*single, "african american", "middle aged"}
    # one per stratum of P(toxic | term), two of ten; "middle aged" is never swapped
    assert len(held_out & single) == 2 and "middle aged" in held_out
    assert ("african american" in held_out) == ({"african", "american"} <= held_out)
    for role, expected in (
        ("reward", single - held_out),
        ("select", single - held_out),
        ("test", single),
    ):
        comments = data.counterfactuals[role]
        texts = decode(comments.tokens, data.vocabulary)
        assert {data.identities[i] for i in comments.groups.argmax(axis=1)} == expected
        assert len(comments.blocks) * len(expected) == len(comments)
        originals = set(decode(data.roles[role].tokens, data.vocabulary))
        for block in comments.blocks:
            frames = {re.sub(rf"\b({'|'.join(single)})\b", "*", texts[row]) for row in block}
            assert len(frames) == 1 and frames.pop().count("*") == 1
            assert originals & {texts[row] for row in block}  # a comment of this very role
            assert len(set(comments.label[block])) == 1
        assert not re.search("african american|middle", " ".join(texts))


def test_held_out_terms_are_spread_over_the_skew(tmp_path):
    """Eight terms of P(toxic | term) rising in the order of `TERMS`: the third and the seventh."""
    rows = [[*row[:1], row[1].replace("plain", "x"), *row[2:]] for row in comment_rows(800)]
    rng = np.random.default_rng(0)
    for row in rows:
        toxic = int(row[2])
        weights = np.arange(1, 9) if toxic else np.arange(8, 0, -1)
        rank = rng.choice(8, p=weights / weights.sum())
        row[1] = re.sub(r"(?<=\w )\S+( american| aged)? person", f"{TERMS[rank]} person", row[1])
    data = load_comments("jigsaw", data_dir=jigsaw(tmp_path, rows))
    train = data.roles["train"]
    rate = (train.label @ train.groups) / train.groups.sum(axis=0)
    ranked = sorted(zip(rate, data.identities, data.held_out, strict=True))
    assert [held for _, _, held in ranked] == [False, False, True, False] * 2


def test_rows_left_out_are_counted(tmp_path):
    rows = comment_rows(40)
    rows += [["u1", "no label", "", "0"], ["u2", "none here", " ", "0"]]
    rows += [["e1", "12 !!", "1", "0"], ["e2", "", "0", "0"]]
    rows += [
        [f"d{i}", row[1].upper() + "!", row[2], "0"] for i, row in enumerate(comment_rows(40)[:5])
    ]
    rows += [["c1", comment_rows(40)[0][1], "1", "0"]]  # the first comment was not toxic
    rows += [[f"x{i}", f"more {word} nice", "0", "0"] for i, word in enumerate(("aa", "bb", "cc"))]
    raw = files.read_jigsaw(jigsaw(tmp_path, rows))
    assert raw.notes == ("2 of 53 rows without a label left out",) and len(raw.ids) == 51
    subset = sampling.draw_balanced(raw, 1000, 0)
    assert subset.label.sum() == len(subset.label) / 2 and len(set(subset.texts)) == len(
        subset.texts
    )
    numbers = [int(n) for n in re.findall(r"\d+", subset.note)]
    toxic, others, total, empty, repeated, contradicting, rest = numbers
    assert (total, empty, repeated, contradicting) == (51, 2, 6, 1)
    assert toxic == others and 2 * toxic + empty + repeated + rest == total
    assert len(sampling.draw_balanced(raw, 12, 0).texts) == 12


def test_cut_comments_and_groups_without_a_class_are_noted(tmp_path):
    rows = [row for row in comment_rows(480) if not ("gay" in row[1] and row[2] == "0")]
    data = load_comments("jigsaw", data_dir=jigsaw(tmp_path, rows), length=7)
    cut = sum(len(tokenize(row[1])) > 7 for row in rows)
    used = sum(len(comments) for comments in data.roles.values())
    note = next(note for note in data.notes if "cut to 7 words" in note)
    assert 0 < int(note.split()[0]) <= cut and f"of {used} comments" in note
    for role in data.roles:
        assert any(n.startswith(f"{role}: no non-toxic comment") and "gay" in n for n in data.notes)
    assert any(
        re.match(r"reward: \d+ comments with one identity to swap, 192", n) for n in data.notes
    )


def _without(column: int) -> str:
    rows = [[v for i, v in enumerate(r) if i != column] for r in [HEADER, *comment_rows(40)]]
    return csv_text(rows[1:], rows[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_without(2), "lacks the column toxic; it has id, comment_text, insult: rename or add"),
        ("a,b\n1,2\n", "lacks the columns id, comment_text, toxic; it has a, b"),
        ("", "lacks the columns id, comment_text, toxic; it has none"),
        (csv_text([]), "has no labeled row among 0"),
        (csv_text([["1", "text", "", "0"]]), "has no labeled row among 1"),
        (
            csv_text([*comment_rows(9), ["1", "t", "-1", "0"]]),
            "line 11: toxic is '-1', it must be in 0…1",
        ),
        (csv_text([["1", "t", "1.5", "0"]]), "line 2: toxic is '1.5'"),
        (csv_text([["1", "t", "nan", "0"]]), "line 2: toxic is 'nan'"),
        (csv_text([["1", "t", "yes", "0"]]), "line 2: toxic is 'yes'"),
        (
            csv_text([["1", "two\nlines", "1", "0"], ["2", "t", "1"]]),
            "line 4: 3 values, the header has",
        ),
        (
            csv_text(comment_rows(9)).encode() + "x,é,1,0\n".encode("latin1"),
            "line 11 is not UTF-8: convert",
        ),
        (csv_text(comment_rows(9)).encode("utf-16"), "is UTF-16: convert it"),
        (
            csv_text(comment_rows(9)) + 'x,"open',
            "after line 10: unexpected end of data: close the quotes",
        ),
        (
            comment_rows(12),
            "role reward of .* has no comment of label 0: 6 of that label are used, 7",
        ),
        (
            [[*r[:2], "1", "0"] for r in comment_rows(40)],
            "has no comment of label 0: 0 of that label",
        ),
        (
            [[r[0], f"word {r[1].split()[-2]} aa", r[2], "0"] for r in comment_rows(40)],
            "none of the 26 comments in role train of .* mentions one of the 0 identities",
        ),
        (
            [[r[0], f"gay {r[1].split()[-2]} aa", r[2], "0"] for r in comment_rows(40)],
            "1 single-word identity terms are in the vocabulary of train, swapping takes two",
        ),
        (
            [[r[0], f"gay black {r[1].split()[-2]} aa", r[2], "0"] for r in comment_rows(40)],
            "role reward of .* has no comment with exactly one of the 2 identity terms",
        ),
    ],
)
def test_defects_are_named_in_one_line(tmp_path, content, message):
    folder = jigsaw(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        load_comments("jigsaw", data_dir=folder)
    assert "\n" not in str(error.value) and str(folder / "jigsaw" / "train.csv") in str(error.value)


@pytest.mark.parametrize("damage", [lambda b: b[:-200], lambda b: b"no gzip", lambda b: b[:5]])
def test_broken_gzip(tmp_path, damage):
    folder = jigsaw(
        tmp_path,
        damage(gzip.compress(csv_text(comment_rows(400)).encode())),
        "train.csv.gz",
    )
    with pytest.raises(ValueError, match=r"train\.csv\.gz is damaged or cut off .*get it again"):
        load_comments("jigsaw", data_dir=folder)


def test_missing_file_and_wrong_arguments(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=f"kaggle.* into {tmp_path}/jigsaw"):
        load_comments("jigsaw", data_dir=tmp_path)
    monkeypatch.delenv("MODELEDIT_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="set MODELEDIT_DATA_DIR to its parent"):
        load_comments("jigsaw")
    with pytest.raises(ValueError, match="'imdb': choose one of jigsaw, wikipedia_toxicity, civil"):
        load_comments("imdb")
    with pytest.raises(ValueError, match="contexts is 0"):
        load_comments("jigsaw", contexts=0)


@pytest.mark.slow
def test_real_jigsaw():
    require_published("jigsaw/train.csv.gz", "dixon/bias_madlibs_77k.csv")
    data = load_comments("jigsaw")
    for role, share in (("train", 0.7), ("reward", 0.075), ("select", 0.075), ("test", 0.15)):
        label = data.roles[role].label
        assert label.mean() == 0.5 and abs(len(label) / 3886 - share) < 0.001
    assert sum(len(own) for own in data.roles.values()) == 3886
    # 18 to 20 of Dixon's 50 terms were out of vocabulary in the pilot on such a subset
    assert 30 <= len(data.identities) <= 34
    madlibs = data.suites["madlibs"]
    assert len(madlibs) == 160 * len(data.identities) and madlibs.label.mean() == 0.5
    assert (madlibs.groups.sum(axis=0) == 160).all() and (madlibs.groups.sum(axis=1) == 1).all()
    assert len(data.suites["fuzzed"]) == len(data.suites["nonfuzzed"]) > 1400
