"""Wikipedia toxicity and Civil Comments out of small archives that pass for the published ones."""

import hashlib
import importlib.resources
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

from modeledit_jax.data.comments import builders as toxicity_builders
from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.data.comments.datasets import load_comments
from modeledit_jax.data.comments.terms import CIVIL_TERMS
from modeledit_jax.data.comments.text import decode
from tests.data.comment_files import TERMS, comment_rows, csv_text, jigsaw


def _zip(path: Path, member: str, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return path


def _publish(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> None:
    """Lets the archive at ``path`` pass for the published one, at an address nobody answers."""
    builder = toxicity_builders.BUILDERS[name]
    content, url = path.read_bytes(), f"http://127.0.0.1:9/{path.name}"
    info = UrlInfo(len(content), hashlib.sha256(content).hexdigest(), path.name)
    monkeypatch.setattr(builder, "URL", url)
    monkeypatch.setattr(builder, "url_infos", {url: info})
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def wikipedia(tmp_path, monkeypatch) -> Path:
    name = "wikipedia_toxicity_subtypes_v0.3.zip"
    path = tmp_path / "wikipedia_toxicity" / name
    _publish(
        monkeypatch,
        "wikipedia_toxicity",
        _zip(path, "wikidata_train.csv", csv_text(comment_rows(480))),
    )
    return path


def test_wikipedia_zip_gives_what_the_same_csv_gives(wikipedia, tmp_path):
    rows = jigsaw(tmp_path / "other", comment_rows(480))
    data = load_comments("jigsaw", data_dir=rows)
    arguments = {"cache_dir": tmp_path / "cache"}
    found = load_comments("wikipedia_toxicity", data_dir=tmp_path, **arguments)
    assert found.fingerprint == data.fingerprint and found.name == "wikipedia_toxicity"
    assert "tensorflow" not in sys.modules
    wikipedia.unlink()  # prepared once, the archive is not needed
    again = load_comments("wikipedia_toxicity", data_dir=tmp_path / "none", **arguments)
    assert again.fingerprint == data.fingerprint


def test_defective_archives(wikipedia, tmp_path, monkeypatch):
    def load() -> CommentData:
        return load_comments("wikipedia_toxicity", data_dir=tmp_path, cache_dir=tmp_path / "cache")

    _zip(wikipedia, "other.csv", "x")
    with pytest.raises(ValueError, match=r"has SHA-256 .*, expected .*: delete it or download it"):
        load()
    _publish(monkeypatch, "wikipedia_toxicity", wikipedia)
    with pytest.raises(ValueError, match=r"has no wikidata_train\.csv, it holds other\.csv"):
        load()
    wikipedia.write_bytes(b"no zip")
    _publish(monkeypatch, "wikipedia_toxicity", wikipedia)
    with pytest.raises(ValueError, match=r"is damaged or cut off \(File is not a zip file\)"):
        load()
    _publish(monkeypatch, "wikipedia_toxicity", _zip(wikipedia, "wikidata_train.csv", "id,toxic\n"))
    with pytest.raises(ValueError, match=r"wikidata_train\.csv lacks the column comment_text"):
        load()
    wikipedia.unlink()
    with pytest.raises(FileNotFoundError, match=r"cannot reach http.* into ") as error:
        load()
    assert f"into {wikipedia.parent}, or" in str(error.value) and "\n" not in str(error.value)


def test_published_checksums_are_complete():
    for builder in toxicity_builders.BUILDERS.values():
        info = builder.url_infos[builder.URL]
        assert len(info.checksum) == 64 and info.filename == builder.URL.rsplit("/", 1)[1]
    text = importlib.resources.files("tensorflow_datasets") / "url_checksums"
    published = "".join(
        (text / f"{name}.txt").read_text()
        for name in ("wikipedia_toxicity_subtypes", "civil_comments")
    )
    for builder in toxicity_builders.BUILDERS.values():
        info = builder.url_infos[builder.URL]
        line = f"{builder.URL}\t{int(info.size)}\t{info.checksum}\t{info.filename}"
        assert line in published.splitlines()


def _civil_rows() -> list[list[str]]:
    columns = toxicity_builders.CivilComments.IDENTITIES
    word = {"homosexual_gay_or_lesbian": "gay"}
    rows = []
    for identifier, text, toxic, _ in comment_rows(480):
        annotated = [".6" if re.search(rf"\b{word.get(c, c)}\b", text) else ".4" for c in columns]
        rows.append([identifier, "train", text, ".5" if toxic == "1" else "0.49", *annotated])
    rows[0][4] = ""  # of one identity: the row is not annotated
    rows[1][4:] = [""] * len(columns)
    rows[2][1] = "test_public"
    rows[3][3] = ""
    for row in rows[4:54]:  # annotators saw an identity that is not the word
        row[4:] = ["0"] * 9
        row[4 + columns.index("muslim" if "jewish" in row[2] else "jewish")] = "1.0"
    return rows


def test_civil_comments_use_the_annotated_identities(tmp_path, monkeypatch):
    header = ["id", "split", "comment_text", "toxicity", *CIVIL_TERMS]
    path = tmp_path / "civil_comments" / "civil_comments_v1.2.zip"
    _publish(
        monkeypatch,
        "civil_comments",
        _zip(path, "civil_comments.csv", csv_text(_civil_rows(), header)),
    )
    data = load_comments("civil_comments", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    # "mentally ill" is in no comment, so the ninth identity has no words to be named with
    assert data.identities == tuple(CIVIL_TERMS)[:-1] and len(data.identities) == 8
    assert data.notes[:3] == (
        "1 of 480 rows of another split left out",
        "2 of 480 rows without identity annotation left out",
        "1 of 477 rows without a label left out",
    )
    assert any("not scored: psychiatric_or_mental_illness" in note for note in data.notes)
    groups = data.roles["train"].groups
    assert set(np.unique(groups)) == {0.0, 1.0} and (groups.sum(axis=1) <= 1).all()
    test, swapped = data.roles["test"], data.counterfactuals["test"]
    words = [CIVIL_TERMS[identity] for identity in data.identities]
    named = np.array(
        [[w in text.split() for w in words] for text in decode(test.tokens, data.vocabulary)]
    )
    agree = (named == (test.groups == 1)).all(axis=1) & (named.sum(axis=1) == 1)
    assert 0 < agree.sum() == len(swapped.blocks) < named.any(axis=1).sum()
    texts = decode(swapped.tokens, data.vocabulary)
    annotated = [words[index] for index in swapped.groups.argmax(axis=1)]
    assert annotated == [re.search("|".join(TERMS), text).group() for text in texts]
