"""Images from every source arrive in one shape, and bad files say what is wrong.

Of the kind "files that are not what they must be", for archives: members not named .npy, one name
twice, text for an array, shapes that no memory holds, more than the machine has when unpacked,
named pipes, cut and empty files, archives of something else.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from modeledit_jax.data.images import datasets as images
from modeledit_jax.data.images.datasets import ImageData, load_images

GOOD = {
    "x": np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2),
    "y": np.array([0, 1, 2, 1], np.int64),
}
GOOD_TEST = {"x_test": GOOD["x"][:2], "y_test": np.array([2, 0], np.uint8)}


def _load(tmp_path: Path, arrays: dict) -> ImageData:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    return load_images("npz", npz_path=path)


def test_digits_is_the_default_and_scikit_learns():
    data = load_images()
    bunch = load_digits()
    assert data.name == "digits" and data.num_classes == 10
    assert data.x.dtype == np.float32 and data.y.dtype == np.int32
    np.testing.assert_array_equal(data.x[..., 0] * 16, bunch.images)
    np.testing.assert_array_equal(data.y, bunch.target)
    assert data.x.max() == 1.0 and data.x_test is None and data.y_test is None


def test_digits_are_the_same_where_their_file_lies_elsewhere(monkeypatch):
    file, package = images._digits_file(), images._digits_of_sklearn()
    for one, other in zip(file, package, strict=True):
        np.testing.assert_array_equal(one, other)
    known = load_images().fingerprint
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    assert images._digits_file() is None and load_images().fingerprint == known


@pytest.mark.slow
def test_digits_do_not_import_scikit_learn():
    program = "import sys; from modeledit_jax.data.images.datasets import load_images"
    program += "; load_images(); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_digits_needs_no_tfds():
    code = (
        "import sys; from modeledit_jax.data.images.datasets import load_images; load_images();"
        "sys.exit('tensorflow_datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_npz_bytes_are_scaled_and_the_test_set_kept(tmp_path):
    data = _load(tmp_path, GOOD | GOOD_TEST)
    assert data.x.shape == (4, 3, 2, 1) and data.num_classes == 3
    np.testing.assert_allclose(data.x[..., 0], GOOD["x"] / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.x_test, data.x[:2])
    np.testing.assert_array_equal(data.y_test, [2, 0])
    assert data.y_test.dtype == np.int32


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 5), (4, 1, 5, 1)), ((4, 3, 2), (4, 3, 2, 1)), ((4, 3, 2, 3), (4, 3, 2, 3))],
)
def test_npz_floats_of_every_rank(tmp_path, shape, expected):
    x = np.linspace(0, 1, np.prod(shape)).reshape(shape)
    data = _load(tmp_path, {"x": x, "y": GOOD["y"]})
    assert data.x.shape == expected and data.x.dtype == np.float32
    np.testing.assert_allclose(data.x.ravel(), x.ravel(), atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "lacks x (found y)"),
        ({"y": None}, "lacks y (found x)"),
        ({"x_test": GOOD["x"]}, "lacks y_test (found x, x_test, y)"),
        ({"x": np.zeros(4)}, "shape (4,)"),
        ({"x": np.zeros((4, 0))}, "shape (4, 0)"),
        ({"x": np.zeros((4, 2), np.int64)}, "dtype int64; it must be uint8 or floating"),
        ({"x": np.full((4, 2), np.nan)}, "NaN or infinite"),
        ({"x": np.full((4, 2), np.inf)}, "NaN or infinite"),
        ({"x": np.full((4, 2), 1.5)}, "from 1.5 to 1.5: scale"),
        ({"x": np.full((4, 2), -0.5)}, "from -0.5 to -0.5: scale"),
        ({"x": np.zeros((4, 2), bool)}, "dtype bool; it must be uint8 or floating"),
        ({"x": np.ones((4, 2), np.uint8)}, "holds no value above 1, of 255: pass floats"),
        ({"x": np.full((4, 2), 16, np.uint8)}, "holds no value above 16, of 255"),
        ({"x": np.full((4, 2), 1.0001)}, "from 1.0001 to 1.0001: scale"),
        ({"x": np.zeros((4, 3, 5, 5))}, "looks like [N, channels, height, width]"),
        ({"x": np.zeros((4, 1, 8, 8))}, "numpy.moveaxis(x, 1, -1)"),
        ({"x": np.zeros((4, 4, 9, 2))}, "looks like [N, channels, height, width]"),
        ({"x": np.zeros((3, 2))}, "3 rows in x and 4 in y"),
        ({"y": np.array([0.0, 1, 2, 1])}, "dtype float64; it must be [N ≥ 1] integers"),
        ({"y": np.zeros((4, 3), np.int64)}, "shape (4, 3)"),
        ({"y": np.zeros(0, np.int64)}, "shape (0,)"),
        ({"y": np.array([0, -1, 1, 1])}, "label -1 … 1; labels must be"),
        ({"y": np.array([0, 2, 2, 0])}, "found 0, 2: renumber"),
        ({"y": np.array([1, 2, 2, 1])}, "found 1, 2: renumber"),
        ({"y": np.zeros(4, np.int64)}, "found 0: renumber"),
        (GOOD_TEST | {"x_test": np.zeros((2, 3, 3))}, "x_test (2, 3, 3, 1) must match"),
        (GOOD_TEST | {"y_test": np.array([0])}, "must match y_test (1,)"),
        (GOOD_TEST | {"y_test": np.array([0, 3])}, "class 3, y only 0…2"),
    ],
)
def test_npz_defects_are_named_in_one_line(tmp_path, change, message):
    arrays = {key: value for key, value in (GOOD | change).items() if value is not None}
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        _load(tmp_path, arrays)
    assert "\n" not in str(error.value) and "own.npz" in str(error.value)


def test_rounding_beyond_one_is_tolerated_and_clipped(tmp_path):
    x = np.array([[-1e-7, 0.5], [1.0000001, 1], [0, 0], [0, 0]])
    data = _load(tmp_path, {"x": x, "y": GOOD["y"]})
    assert data.x.min() == 0.0 and data.x.max() == 1.0


def test_small_images_with_channels_last_are_read_as_they_are(tmp_path):
    assert _load(tmp_path, {"x": np.ones((4, 3, 3, 3)), "y": GOOD["y"]}).x.shape == (4, 3, 3, 3)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.array([1, 2, 3, 1], np.int32), 3, "y of mine holds labels from 1 to 3"),
        (np.array([0, 1, -1, 1], np.int32), 3, "labels from -1 to 1"),
        (np.array([0, 1, 0, 1], np.int32), 2.0, "num_classes must be an integer"),
        (np.array([0, 1, 0, 1], np.int32)[:, None], 2, r"y of mine has shape"),
    ],
)
def test_data_made_by_hand_are_checked_as_files_are(
    labels, classes, message, unchecked_annotations
):
    with pytest.raises(ValueError, match=message):
        ImageData("mine", np.zeros((4, 2, 2, 1), np.float32), labels, None, None, classes)


def test_files_that_are_no_npz(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz: write one with"):
        load_images("npz", npz_path=tmp_path / "none.npz")
    text, single, objects = (tmp_path / name for name in ("a.npz", "b.npy", "c.npz"))
    text.write_text("x,y\n")
    np.save(single, GOOD["x"])
    np.savez(objects, x=np.array([{}, None], object), y=GOOD["y"])
    for path in (text, single, objects):
        with pytest.raises(ValueError, match=r"is no intact \.npz archive of plain arrays"):
            load_images("npz", npz_path=path)


def _archive(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


X, Y = _npy(GOOD["x"]), _npy(GOOD["y"])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("x", X), ("y.npy", Y)], "its member x is not named x.npy"),
        ([("x.npy", X), ("y.npy", Y), ("x_test", X)], "its member x_test is not named"),
        ([("x", X), ("x.npy", X), ("y.npy", Y)], "it holds x twice"),
        ([("x.npy", X), ("x.npy", X), ("y.npy", Y)], "it holds x twice"),
        ([("x.npy", b"hello"), ("y.npy", Y)], "lacks x (found y)"),
        ([("d/x.npy", X), ("y.npy", Y)], "lacks x (found d/x, y)"),
        ([("x.npy", X[:-3]), ("y.npy", Y)], "is no intact .npz archive"),
        ([("x.npy", X.replace(b"(4, 3, 2)", b"(-4, 3,2)")), ("y.npy", Y)], "is no intact .npz"),
        ([], "lacks x, y (found nothing)"),
    ],
    ids=range(9),
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_are_no_arrays(tmp_path, members, message):
    path = _archive(tmp_path / "own.npz", members)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_images("npz", npz_path=path)
    assert "\n" not in str(error.value) and "own.npz" in str(error.value)


def test_other_members_are_left_aside(tmp_path):
    path = _archive(tmp_path / "own.npz", [("x.npy", X), ("y.npy", Y), ("readme.txt", b"hello")])
    assert load_images("npz", npz_path=path).x.shape == (4, 3, 2, 1)


def test_an_archive_that_unpacks_to_more_than_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 4)
    with pytest.raises(ValueError, match=r"unpacks to \d+ bytes, this machine has 16\)"):
        load_images("npz", npz_path=_archive(tmp_path / "own.npz", [("x.npy", X), ("y.npy", Y)]))


@pytest.mark.timeout(20)
def test_a_named_pipe_and_a_device_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "own.npz")
    for path, kind in ((tmp_path / "own.npz", "a named pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(ValueError, match=f"{path} is {kind}: give the path of a regular file"):
            load_images("npz", npz_path=path)


def test_names_and_paths_must_go_together(tmp_path):
    with pytest.raises(ValueError, match=r"'cifar': choose one of digits, shapes, textures, mnist"):
        load_images("cifar")
    with pytest.raises(ValueError, match="npz_path goes with"):
        load_images("npz")
    with pytest.raises(ValueError, match="npz_path goes with"):
        load_images("digits", npz_path=tmp_path)


def test_fingerprint_is_stable_and_depends_on_content_alone():
    data = ImageData(
        "a", np.zeros((2, 1, 1, 1), np.float32), np.arange(2, dtype=np.int32), None, None, 2
    )
    expected = hashlib.sha256(
        b"num_classes=2;x=<f4(2, 1, 1, 1)" + bytes(8) + b";y=<i4(2,)" + b"\0\0\0\0\1\0\0\0"
        b";x_test=None;y_test=None"
    ).hexdigest()
    assert data.fingerprint == expected
    renamed = ImageData("b", data.x.copy(order="F"), data.y, None, None, 2)
    assert renamed.fingerprint == expected
    others = [
        ImageData("a", data.x + np.float32(1e-7), data.y, None, None, 2),
        ImageData("a", data.x, data.y[::-1], None, None, 2),
        ImageData("a", data.x, data.y, data.x, data.y, 2),
        ImageData("a", data.x, data.y, None, None, 3),
    ]
    assert len({expected, *(other.fingerprint for other in others)}) == 5


class _Source:
    """Stands for the TFDS reader and counts its calls."""

    def __init__(self):
        self.arrays = GOOD | GOOD_TEST
        self.calls: list = []

    def read_arrays(self, name, *, data_dir, cache_dir):
        self.calls.append(data_dir)
        return self.arrays


@pytest.fixture
def source(monkeypatch):
    from modeledit_jax.data.images import builders

    fake = _Source()
    monkeypatch.setattr(builders, "read_arrays", fake.read_arrays)
    monkeypatch.delenv("MODELEDIT_DATA_DIR", raising=False)
    return fake


def test_packed_cache_is_read_instead_of_the_source(source, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELEDIT_DATA_DIR", "/from/environment")
    first = load_images("mnist", cache_dir=tmp_path)
    assert source.calls == [Path("/from/environment")]
    assert os.listdir(tmp_path) == ["mnist.npz"]
    again = load_images("mnist", cache_dir=tmp_path)
    assert len(source.calls) == 1 and again.fingerprint == first.fingerprint
    load_images("fashion_mnist", cache_dir=tmp_path, data_dir=Path("/given"))
    assert source.calls[1:] == [Path("/given")]


def test_cache_goes_to_the_default_folder(source, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELEDIT_CACHE_DIR", str(tmp_path / "new"))
    load_images("mnist")
    assert (tmp_path / "new" / "mnist.npz").exists()


@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255))))
@settings(deadline=None, max_examples=25)
def test_damaged_cache_is_never_fatal(tmp_path_factory, cut, flips):
    from modeledit_jax.data.images import builders

    fake, folder = _Source(), tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builders, "read_arrays", fake.read_arrays)
        expected = load_images("mnist", cache_dir=folder).fingerprint
        damaged = bytearray((folder / "mnist.npz").read_bytes())
        for place, mask in flips:
            damaged[int(place * (len(damaged) - 1))] ^= mask
        (folder / "mnist.npz").write_bytes(damaged[: int(cut * len(damaged))])
        assert load_images("mnist", cache_dir=folder).fingerprint == expected
        assert load_images("mnist", cache_dir=folder).fingerprint == expected


def test_failed_write_leaves_nothing_behind(source, tmp_path, monkeypatch):
    monkeypatch.setattr(images.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        load_images("mnist", cache_dir=tmp_path)
    assert os.listdir(tmp_path) == []
