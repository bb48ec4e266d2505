"""Generated files that pass for the published ones, in their formats, at no address at all."""

import gzip
import hashlib
import io
import re
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorflow_datasets.core.download.checksums import UrlInfo

from modeledit_jax.data.comments import builders as comment_builders
from modeledit_jax.data.comments.terms import CIVIL_TERMS
from modeledit_jax.data.images import builders as image_builders
from modeledit_jax.data.images import cifar
from tests.data.comment_files import comment_rows, csv_text, jigsaw

NOWHERE = "http://127.0.0.1:9/"  # nothing listens on the port named "discard"


def publish(monkeypatch, builder, paths, url=NOWHERE):
    """Lets files pass for those of a builder: addresses, sizes and checksums are theirs."""
    infos = {}
    for path in paths:
        content = path.read_bytes()
        infos[NOWHERE + path.name] = UrlInfo(
            len(content), hashlib.sha256(content).hexdigest(), path.name
        )
    monkeypatch.setattr(builder, "URL", url)
    monkeypatch.setattr(builder, "url_infos", infos)


def write_images(monkeypatch, folder: Path, name: str, train: int = 400, test: int = 100) -> None:
    """The files of a data set, of noise, labels in turn."""
    if name == "cifar10":
        _write_noise_cifar(monkeypatch, folder, train, test)
        return
    rng = np.random.default_rng(0)
    paths = []
    (folder / name).mkdir(parents=True)
    for split, count in (("train", train), ("test", test)):
        images, labels = image_builders._FILES[split]
        arrays = {
            images: rng.integers(0, 256, (count, 28, 28), np.uint8),
            labels: (np.arange(count) % 10).astype(np.uint8),
        }
        for file, array in arrays.items():
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            path = folder / name / file
            path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))
            paths.append(path)
    publish(monkeypatch, image_builders.BUILDERS[name], paths)


def _write_noise_cifar(monkeypatch, folder: Path, train: int, test: int) -> None:
    rng = np.random.default_rng(0)
    members, first = {}, 0
    names = cifar.FILES["train"]
    sizes = [len(part) for part in np.array_split(np.arange(train), len(names))]
    for name, count in zip((*names, *cifar.FILES["test"]), (*sizes, test), strict=True):
        records = rng.integers(0, 256, (count, 3073), np.uint8)
        records[:, 0] = (first + np.arange(count)) % 10
        members[name] = records.tobytes()
        first += count
    path = folder / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir(parents=True)
    write_cifar(path, members)
    publish(monkeypatch, cifar.BinaryCifar10, [path], NOWHERE + path.name)


def write_cifar(path: Path, members: Mapping[str, bytes | None]) -> None:
    """A gzip-compressed tar archive of files; None: a folder of that name."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content or b""))


def write_comments(
    monkeypatch, folder: Path, name: str, number: int = 480, further: tuple[str, ...] = ()
) -> None:
    """Comments as Jigsaw, Wikipedia toxicity or Civil Comments publish them."""
    if name == "jigsaw":
        jigsaw(folder, comment_rows(number, further=further))
        return
    builder = comment_builders.BUILDERS[name]
    path = folder / name / builder.URL.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    if name == "civil_comments":
        text = csv_text(_civil(number), ["id", "split", "comment_text", "toxicity", *CIVIL_TERMS])
    else:
        text = csv_text(comment_rows(number, further=further))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(builder.MEMBER, text)
    publish(monkeypatch, builder, [path], NOWHERE + path.name)


def _civil(number: int) -> list[list[str]]:
    """Rows with the identities that annotators saw: those that are named."""
    rows = []
    for identifier, text, toxic, _ in comment_rows(number):
        seen = [".6" if re.search(rf"\b{word}\b", text) else ".4" for word in CIVIL_TERMS.values()]
        rows.append([identifier, "train", text, ".5" if toxic == "1" else ".49", *seen])
    return rows
