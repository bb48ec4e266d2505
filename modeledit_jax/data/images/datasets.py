"""Labeled images as plain NumPy arrays, from an embedded, a published or the user's own source."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from modeledit_jax.data.arrays import check_examples, check_num_classes
from modeledit_jax.data.folders import default_cache_dir, default_data_dir
from modeledit_jax.data.images.generated import GENERATED, generate_images
from modeledit_jax.reading.files import regular_file
from modeledit_jax.types import Examples

_ARRAYS = ("x", "y", "x_test", "y_test")

IMAGE_DATASETS = ("digits", *GENERATED, "mnist", "fashion_mnist", "cifar10", "npz")
"""Names that `load_images` knows."""


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labeled image data set; `x_test` and `y_test` are None without an official test set."""

    name: str
    x: Float32[np.ndarray, "n height width channels"]  # values in [0, 1]
    y: Int32[np.ndarray, " n"]  # class index, 0 … num_classes − 1, every class present
    x_test: Float32[np.ndarray, "m height width channels"] | None
    y_test: Int32[np.ndarray, " m"] | None
    num_classes: int

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        check_examples(Examples(self.x, self.y), self.num_classes, self.name)
        if self.x_test is not None or self.y_test is not None:
            test = Examples(self.x_test, self.y_test)
            check_examples(test, self.num_classes, f"the test set of {self.name}")

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the arrays and their shapes, whatever the name; hashed at every access.

        Fit as a key of caches on disk: equal content gives equal keys on every machine.
        """
        digest = hashlib.sha256(f"num_classes={self.num_classes}".encode())
        for key in _ARRAYS:
            array = getattr(self, key)
            if array is None:
                digest.update(f";{key}=None".encode())
                continue
            little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            digest.update(f";{key}={little_endian.dtype.str}{array.shape}".encode())
            digest.update(little_endian.data)
        return digest.hexdigest()


def load_images(
    name: str = "digits",
    *,
    data_dir: Path | None = None,
    npz_path: Path | None = None,
    cache_dir: Path | None = None,
) -> ImageData:
    """Loads a labeled image data set.

    Args:
      name: ``"digits"`` (1,797 8×8 digits that scikit-learn carries, no download), ``"shapes"``
        or ``"textures"`` (28×28, drawn by rule, see `data.images.generated`), ``"mnist"``,
        ``"fashion_mnist"`` (28×28), ``"cifar10"`` (32×32 in color; the five have a test set), or
        ``"npz"``, the user's own arrays:
        ``x`` [N, height, width], [N, height, width, channels] or [N, features] (kept as images of
        height 1), uint8 in 0…255 or floating in 0…1,
        channels last; ``y`` [N] integers 0…C−1 with every class
        present; optionally ``x_test`` and ``y_test`` alike.
      data_dir: folder with original files at ``<data_dir>/<name>/<original file name>``; default
        ``$MODELEDIT_DATA_DIR``. What is not there is downloaded.
      npz_path: the file that ``"npz"`` reads.
      cache_dir: for downloads and packed arrays; default `default_cache_dir`.

    Raises:
      ValueError: unknown name, or a file whose content is not what it must be.
      FileNotFoundError: a file is neither on disk nor to be downloaded.
    """
    if name not in IMAGE_DATASETS:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(IMAGE_DATASETS)}")
    if (name == "npz") != (npz_path is not None):
        raise ValueError(f"npz_path goes with the data set 'npz' and no other; got {name!r}")
    if name == "digits":
        return _digits()
    if name in GENERATED:
        return _image_data(name, generate_images(name), f"the generated data set {name}")
    if npz_path is not None:
        return _image_data(name, _read_npz(npz_path), str(npz_path))
    return _published(name, data_dir or default_data_dir(), cache_dir or default_cache_dir())


def _digits() -> ImageData:
    images, labels = _digits_file() or _digits_of_sklearn()
    return _image_data("digits", {"x": images / 16.0, "y": labels}, "scikit-learn's digits")


def _digits_file() -> tuple[np.ndarray, np.ndarray] | None:
    """What `load_digits` reads, without importing scikit-learn, which takes longer than the rest
    of a second run's loading; None where the file is not where releases up to now have it."""
    spec = find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            rows = np.loadtxt(path, delimiter=",")
            if rows.shape == (1797, 65):
                return rows[:, :64].reshape(-1, 8, 8), rows[:, 64].astype(np.int64)
    return None


def _digits_of_sklearn() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # slow to import

    bunch = load_digits()
    return bunch.images, bunch.target


def _published(name: str, data_dir: Path | None, cache_dir: Path) -> ImageData:
    """A TFDS data set, from its packed cache if that is intact."""
    cache = cache_dir / f"{name}.npz"
    try:
        packed = _read_npz(cache)
        data = _image_data(name, packed, str(cache))
        if str(packed.get("fingerprint")) == data.fingerprint:
            return data
    except (FileNotFoundError, ValueError):
        pass  # not there yet, or corrupt: made again below
    from modeledit_jax.data.images import builders  # slow to import

    arrays = builders.read_arrays(name, data_dir=data_dir, cache_dir=cache_dir)
    data = _image_data(name, arrays, name)
    # The checksums of a zip archive miss some damage (to names, lengths, flags): keep our own.
    _write_npz(cache, {**arrays, "fingerprint": np.array(data.fingerprint)})
    return data


def _read_npz(path: str | Path) -> dict[str, np.ndarray]:
    path = regular_file(path, "no file {path}: write one with numpy.savez(path, x=…, y=…)")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive, or cut off")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _check_members(archive)
            found = {name: archive[name] for name in archive.files}
    except Exception as error:  # damaged bytes make zipfile and NumPy raise almost anything
        raise ValueError(
            f"{path} is no intact .npz archive of plain arrays ({' '.join(str(error).split())}): "
            "write it with numpy.savez(path, x=…, y=…)"
        ) from error
    # A member that is not named .npy comes as its bytes.
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}


def _check_members(archive: Any) -> None:
    """Raises ValueError if an archive has a name twice, or arrays that no memory holds."""
    names = archive.files
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"it holds {', '.join(sorted(twice))} twice")
    plain = {entry.filename for entry in archive.zip.infolist()}
    if bare := [name for name in _ARRAYS if name in plain]:
        raise ValueError(f"its member {bare[0]} is not named {bare[0]}.npy")
    size = sum(entry.file_size for entry in archive.zip.infolist())
    if size > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise ValueError(f"it unpacks to {size:,} bytes, this machine has {memory:,}")


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes to a name of its own, then renames: no reader ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            np.savez(file, allow_pickle=False, **arrays)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _image_data(name: str, arrays: Mapping[str, np.ndarray], source: str) -> ImageData:
    """Checks raw arrays and brings them to the shapes and dtypes of `ImageData`."""
    has_test = "x_test" in arrays or "y_test" in arrays
    needed = _ARRAYS if has_test else _ARRAYS[:2]
    if missing := [key for key in needed if key not in arrays]:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{source} lacks {', '.join(missing)} (found {found}): add them")
    _check_bytes([arrays[key] for key in ("x", "x_test") if key in arrays], source)
    x, y = _pixels(arrays["x"], f"x of {source}"), _labels(arrays["y"], f"y of {source}")
    if len(x) != len(y):
        raise ValueError(f"{source} has {len(x)} rows in x and {len(y)} in y: they must agree")
    classes = np.unique(y)
    num_classes = len(classes)
    if num_classes < 2 or classes[-1] != num_classes - 1:
        raise ValueError(
            f"y of {source} must hold every class 0…C−1 (C ≥ 2); found {_brief(classes)}: renumber"
        )
    if not has_test:
        return ImageData(name, x, y, None, None, num_classes)
    x_test = _pixels(arrays["x_test"], f"x_test of {source}")
    y_test = _labels(arrays["y_test"], f"y_test of {source}")
    if len(x_test) != len(y_test) or x_test.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"{source}: x_test {x_test.shape} must match y_test {y_test.shape} and x {x.shape}"
        )
    if y_test.max() >= num_classes:
        raise ValueError(f"y_test of {source} has class {y_test.max()}, y only 0…{num_classes - 1}")
    return ImageData(name, x, y, x_test, y_test, num_classes)


def _pixels(raw: np.ndarray, label: str) -> Float32[np.ndarray, "n height width channels"]:
    if raw.ndim not in (2, 3, 4) or 0 in raw.shape:
        raise ValueError(
            f"{label} has shape {raw.shape}; it must be non-empty [N, features], "
            "[N, height, width] or [N, height, width, channels]"
        )
    check_layout(raw.shape, label)
    x = _brightness(raw, label)
    if x.ndim == 2:
        return x[:, None, :, None]
    return x if x.ndim == 4 else x[..., None]


DARKEST = 16
"""Images of uint8 whose brightest value is not above this count in other units than 255."""

ROUNDING = 1e-5
"""How far floats may lie outside of 0…1; they are clipped."""


def _brightness(raw: np.ndarray, label: str) -> Float32[np.ndarray, "..."]:
    """The values as floats in 0…1."""
    if raw.dtype == np.uint8:
        x = raw.astype(np.float32)
        x /= np.float32(255)  # in place: a second array would take CIFAR-10 600 MB
        return x
    if not np.issubdtype(raw.dtype, np.floating):
        raise ValueError(
            f"{label} has dtype {raw.dtype}; it must be uint8 or floating: convert it, e.g. with "
            "x.astype('uint8') if it holds 0 … 255"
        )
    if not np.isfinite(raw).all():
        raise ValueError(f"{label} has NaN or infinite values: replace them")
    least, largest = float(raw.min()), float(raw.max())
    if least < -ROUNDING or largest > 1 + ROUNDING:
        raise ValueError(
            f"{label} has values from {least:.7g} to {largest:.7g}: scale to 0…1, or pass uint8"
        )
    x = raw.astype(np.float32)
    return x if least >= 0 and largest <= 1 else x.clip(0, 1)


def _check_bytes(images: Sequence[np.ndarray], source: str) -> None:
    """Raises ValueError where uint8 images are so dark that they count in other units than 255."""
    brightest = max((int(x.max()) for x in images if x.dtype == np.uint8 and x.size), default=0)
    if 0 < brightest <= DARKEST:
        raise ValueError(
            f"x of {source} is uint8 and holds no value above {brightest}, of 255: pass floats in "
            f"0…1, e.g. x.astype('float32') / {brightest}"
        )


def check_layout(shape: tuple[int, ...], label: str) -> None:
    """Raises ValueError where images ``[N, height, width, channels]`` have their channels first.

    Args:
      shape: of the images.
      label: what the user calls them.
    """
    channels = (1, 3, 4)
    if len(shape) == 4 and shape[1] in channels and shape[3] not in channels:
        raise ValueError(
            f"{label} has shape {shape}, which looks like [N, channels, height, width]; it must be "
            "[N, height, width, channels]: numpy.moveaxis(x, 1, -1)"
        )


def _labels(raw: np.ndarray, label: str) -> Int32[np.ndarray, " n"]:
    if raw.ndim != 1 or len(raw) == 0 or not np.issubdtype(raw.dtype, np.integer):
        raise ValueError(
            f"{label} has shape {raw.shape} and dtype {raw.dtype}; it must be [N ≥ 1] integers"
        )
    if raw.min() < 0 or raw.max() > np.iinfo(np.int32).max:
        raise ValueError(f"{label} has label {raw.min()} … {raw.max()}; labels must be 0…C−1")
    return raw.astype(np.int32)


def _brief(classes: np.ndarray) -> str:
    shown = ", ".join(map(str, classes[:8]))
    return shown + (f", … {classes[-1]}" if len(classes) > 8 else "")
