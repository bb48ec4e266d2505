"""Wikipedia toxicity and Civil Comments as TFDS builders that need no TensorFlow.

Both read the published zip archives with the standard library and write ArrayRecord. Importing this
module takes seconds, for it imports `tensorflow_datasets`; `data.comments.datasets` does so only
when one of these data sets is asked for. URLs, sizes and checksums stand in `checksums.tsv`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from modeledit_jax.data.comments.files import (
    CsvFile,
    RawComments,
    labeled,
    parse_fraction,
    read_rows,
)
from modeledit_jax.data.comments.terms import CIVIL_TERMS
from modeledit_jax.data.published import PublishedBuilder, prepare

_BASE = "https://storage.googleapis.com/jigsaw-unintended-bias-in-toxicity-classification/"


class _ZippedComments(PublishedBuilder):
    """Comments with toxicity in 0…1 (NaN: not labeled), from one member of a zip archive."""

    MEMBER: ClassVar[str]
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

    License: CC0; the texts CC BY-SA 3.0.
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
"""Builder classes by the data set names of `modeledit_jax.data.comments.datasets.load_comments`."""


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
    prepare(builder, name, data_dir)
    source = builder.as_data_source("train")
    rows = source.__getitems__(list(range(len(source))))  # together: faster than one by one
    identities = np.stack([row["identities"] for row in rows]) if builder.IDENTITIES else None
    return labeled(
        name,
        [row["id"].decode() for row in rows],
        [row["text"].decode() for row in rows],
        np.array([row["toxicity"] for row in rows], float),
        identities,
        tuple(builder.info.metadata["notes"]),
    )
