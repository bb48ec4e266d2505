"""Wikipedia toxicity and Civil Comments as TFDS builders that need no TensorFlow.

Both read the published zip archives with the standard library and write ArrayRecord. Importing this
module takes seconds, for it imports `tensorflow_datasets`; `modeledit_jax.data.toxicity` does so
only when one of these data sets is asked for. URLs, sizes and checksums stand in `checksums.tsv`.
"""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.download.checksums import load_url_infos
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from modeledit_jax.data.identity_terms import CIVIL_TERMS
from modeledit_jax.data.toxicity_sources import (
    CsvFile,
    RawComments,
    labelled,
    parse_fraction,
    read_rows,
)

_BASE = "https://storage.googleapis.com/jigsaw-unintended-bias-in-toxicity-classification/"


class _ZippedComments(tfds.core.GeneratorBasedBuilder):
    """Comments with toxicity in 0…1 (NaN: not labelled), from one member of a zip archive."""

    VERSION = tfds.core.Version("1.0.0")
    # Stated because TFDS looks for them by package name, which fails in some kinds of install.
    pkg_dir_path = epath.Path(__file__).parent
    url_infos = load_url_infos(pkg_dir_path / "checksums.tsv")
    URL: ClassVar[str]
    MEMBER: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    COLUMNS: ClassVar[tuple[str, str, str]]  # id, text, toxicity
    SPLIT: ClassVar[tuple[str, str] | None] = None  # column that names the split; the one to keep
    IDENTITIES: ClassVar[tuple[str, ...]] = ()

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "id": tfds.features.Text(),
            "text": tfds.features.Text(),
            "toxicity": tfds.features.Scalar(np.float32),
        }
        if self.IDENTITIES:
            features["identities"] = tfds.features.Tensor(
                shape=(len(self.IDENTITIES),), dtype=np.float32
            )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            disable_shuffling=True,  # in the order of the original file
            metadata=tfds.core.MetadataDict(notes=[]),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"train": self._generate_examples(dl_manager.download(self.URL))}

    def _generate_examples(self, path: os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
        file = CsvFile.in_zip(Path(path), self.MEMBER)
        split = self.SPLIT[:1] if self.SPLIT else ()
        total = other_split = unannotated = 0
        for where, values in read_rows(file, (*self.COLUMNS, *self.IDENTITIES, *split)):
            total += 1
            if self.SPLIT and values[-1] != self.SPLIT[1]:
                other_split += 1
                continue
            annotated = values[3 : 3 + len(self.IDENTITIES)]
            if not all(value.strip() for value in annotated):
                unannotated += 1
                continue
            example: dict[str, Any] = {
                "id": values[0],
                "text": values[1],
                "toxicity": parse_fraction(values[2], where, self.COLUMNS[2]),
            }
            if self.IDENTITIES:
                pairs = zip(annotated, self.IDENTITIES, strict=True)
                fractions = [parse_fraction(value, where, name) for value, name in pairs]
                example["identities"] = np.array(fractions, np.float32)
            yield total, example
        counts = {"of another split": other_split, "without identity annotation": unannotated}
        notes = [f"{n} of {total} rows {what} left out" for what, n in counts.items() if n]
        self.info.metadata["notes"] = notes


class WikipediaToxicity(_ZippedComments):
    """Wikipedia talk page comments of the Jigsaw Toxic Comment competition: 159,571 of ``train``.

    Licence: CC0; the texts CC BY-SA 3.0.
    """

    URL = _BASE + "wikipedia_toxicity_subtypes_v0.3.zip"
    MEMBER = "wikidata_train.csv"
    HOMEPAGE = "https://www.kaggle.com/c/jigsaw-toxic-comment-classification-challenge/data"
    COLUMNS = ("id", "comment_text", "toxic")


class CivilComments(_ZippedComments):
    """Civil Comments (Borkan et al. 2019), the rows of ``train`` with identity annotation; CC0."""

    URL = _BASE + "civil_comments_v1.2.zip"
    MEMBER = "civil_comments.csv"
    HOMEPAGE = "https://www.kaggle.com/c/jigsaw-unintended-bias-in-toxicity-classification/data"
    COLUMNS = ("id", "comment_text", "toxicity")
    SPLIT = ("split", "train")
    IDENTITIES = tuple(CIVIL_TERMS)


BUILDERS: dict[str, type[_ZippedComments]] = {
    "wikipedia_toxicity": WikipediaToxicity,
    "civil_comments": CivilComments,
}
"""Builder classes by the data set names of `modeledit_jax.data.toxicity.load_comments`."""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_source(builder: _ZippedComments, folder: Path | None, by_hand: str) -> None:
    """Checks the archive in `folder`, or that it can be reached.

    TFDS would retry an unreachable host for minutes before it says so.
    """
    path = folder / builder.URL.rsplit("/", 1)[1] if folder else None
    if path and path.exists():
        expected, found = builder.url_infos[builder.URL].checksum, _sha256(path)
        if found != expected:
            raise ValueError(
                f"{path} has SHA-256 {found}, expected {expected}: "
                f"delete it or download it again from {builder.URL}"
            )
        return
    request = urllib.request.Request(builder.URL, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError:
        pass  # the host answers: the download itself tells what is wrong
    except OSError as error:
        raise FileNotFoundError(f"cannot reach {builder.URL} ({error}): {by_hand}") from error


def _prepare(builder: _ZippedComments, folder: Path | None, by_hand: str) -> None:
    _check_source(builder, folder, by_hand)
    config = tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except tfds.download.DownloadError as error:
        raise FileNotFoundError(f"{error}: {by_hand}") from error
    except NonMatchingChecksumError as error:
        raise ValueError(f"{' '.join(str(error).split())}: {by_hand}") from error


def read_builder(name: str, *, data_dir: Path | None, cache_dir: Path) -> RawComments:
    """Prepares a data set with TFDS, once, and reads it.

    Args:
      name: a key of `BUILDERS`.
      data_dir: folder whose subfolder `name` may hold the published archive under its own name; it
        is checked and used, else the archive is downloaded.
      cache_dir: where TFDS keeps downloads and the prepared records.

    Raises:
      ValueError: the archive does not have the published checksum or content.
      FileNotFoundError: the archive is neither on disk nor to be downloaded.
    """
    builder = BUILDERS[name](data_dir=cache_dir / "tfds")
    if not builder.is_prepared():
        folder = data_dir / name if data_dir else None
        place = folder or f"a folder {name}/ and set MODELEDIT_DATA_DIR to its parent"
        _prepare(builder, folder, f"put {builder.URL} into {place}")
    source = builder.as_data_source("train")
    rows = source.__getitems__(list(range(len(source))))  # together: faster than one by one
    identities = np.stack([row["identities"] for row in rows]) if builder.IDENTITIES else None
    return labelled(
        name,
        [row["id"].decode() for row in rows],
        [row["text"].decode() for row in rows],
        np.array([row["toxicity"] for row in rows], float),
        identities,
        tuple(builder.info.metadata["notes"]),
    )
