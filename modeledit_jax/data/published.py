"""What the builders of published files share: checksums, files put there by hand, preparation.

Importing this module takes seconds, for it imports `tensorflow_datasets`.
"""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.download.checksums import load_url_infos
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from modeledit_jax.data.folders import where_to_put


class PublishedBuilder(tfds.core.GeneratorBasedBuilder):
    """A data set in files whose URLs, sizes and checksums stand in `checksums.tsv`."""

    VERSION = tfds.core.Version("1.0.0")
    # Stated because TFDS looks for them by package name, which fails in some kinds of install.
    pkg_dir_path = epath.Path(__file__).parent
    url_infos = load_url_infos(pkg_dir_path / "checksums.tsv")
    URL: ClassVar[str]
    HOMEPAGE: ClassVar[str]

    @classmethod
    def urls(cls) -> list[str]:
        """Addresses of the files."""
        return [cls.URL]


def prepare(builder: PublishedBuilder, name: str, data_dir: Path | None) -> None:
    """Prepares a data set with TFDS, unless that is done.

    Args:
      builder: of the data set.
      name: of the data set.
      data_dir: folder whose subfolder `name` may hold the published files under their own names;
        those present are checked and used, the others are downloaded.

    Raises:
      ValueError: a file does not have the published checksum or content.
      FileNotFoundError: a file is neither on disk nor to be downloaded.
    """
    if builder.is_prepared():
        return
    folder = data_dir / name if data_dir else None
    by_hand = f"put {', '.join(builder.urls())} into {where_to_put(name, data_dir)}"
    _check_sources(builder, folder, by_hand)
    config = tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except tfds.download.DownloadError as error:
        raise FileNotFoundError(f"{error}: {by_hand}") from error
    except NonMatchingChecksumError as error:
        raise ValueError(f"{' '.join(str(error).split())}: {by_hand}") from error


def _check_sources(builder: PublishedBuilder, folder: Path | None, by_hand: str) -> None:
    """Checks files already in `folder`, and that the others can be reached.

    TFDS would retry an unreachable host for minutes before it says so.
    """
    for url in builder.urls():
        path = folder and folder / url.rsplit("/", 1)[1]
        if path and path.exists():
            _check_file(path, builder.url_infos[url].checksum, url)
            continue
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
        except urllib.error.HTTPError:
            pass  # the host answers: the download itself tells what is wrong
        except OSError as error:
            raise FileNotFoundError(f"cannot reach {url} ({error}): {by_hand}") from error


def _check_file(path: Path, expected: str, url: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {expected}: "
            f"delete it or download it again from {url}"
        )
