"""The TFDS builders on small synthetic IDX files, and on the real ones where they are at hand."""

import gzip
import hashlib
import http.server
import os
import struct
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

from modeledit_jax.data.images import builders
from modeledit_jax.data.images.datasets import load_images
from modeledit_jax.data.images.splits import ROLES, split_images
from tests.data.published import require_published

UNREACHABLE = "http://127.0.0.1:9/"  # nothing listens on the port named "discard"


def _idx(array: np.ndarray) -> bytes:
    """The IDX format written from its definition, independently of the reader."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def _gz(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def test_read_idx_against_hand_made_bytes(tmp_path):
    by_hand = b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03\x01\x02\x03\xff\0\x07"
    array = builders.read_idx(_gz(tmp_path / "a.gz", by_hand))
    np.testing.assert_array_equal(array, [[1, 2, 3], [255, 0, 7]])
    assert array.dtype == np.uint8
    cube = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(builders.read_idx(_gz(tmp_path / "b.gz", _idx(cube))), cube)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic number 0x,"),
        (b"\0\0\x0d\x01\0\0\0\0", "magic number 0x00000d01"),
        (b"\x01\0\x08\x01\0\0\0\0", "magic number 0x01000801"),
        (b"\0\0\x08\x03\0\0\0\x02", "truncated: 8 bytes, its header needs 16"),
        (b"\0\0\x08\x01\0\0\0\x05abcd", r"12 bytes, its header \(5,\) needs 13"),
        (b"\0\0\x08\x01\0\0\0\x03abcd", r"12 bytes, its header \(3,\) needs 11"),
    ],
)
def test_read_idx_names_the_defect(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        builders.read_idx(_gz(tmp_path / "bad.gz", content))


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"no gzip", lambda b: b[:20]])
def test_read_idx_on_broken_gzip(tmp_path, damage):
    path = _gz(tmp_path / "bad.gz", _idx(np.arange(200, dtype=np.uint8)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"bad\.gz is no intact gzip file"):
        builders.read_idx(path)


def test_published_checksums_are_registered_for_every_file():
    for builder in builders.BUILDERS.values():
        infos = [builder.url_infos[url] for url in builder.urls()]
        assert len(infos) in (1, 4) and all(len(info.checksum) == 64 for info in infos)
        assert [info.filename for info in infos] == [url.split("/")[-1] for url in builder.urls()]


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        f"{kind}{suffix}": rng.integers(0, high, (rows, *shape), np.uint8)
        for suffix, rows in (("", 40), ("_test", 15))
        for kind, high, shape in (("x", 256, (28, 28)), ("y", 10, ()))
    }


@pytest.fixture
def originals(tmp_path, arrays, monkeypatch):
    """Small MNIST files in ``tmp_path/mnist`` whose checksums pass for the published ones."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    names = [name for pair in builders._FILES.values() for name in pair]
    paths = [_gz(folder / name, _idx(arrays[key])) for name, key in zip(names, arrays, strict=True)]
    _register(monkeypatch, UNREACHABLE, paths)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return folder


def _register(monkeypatch: pytest.MonkeyPatch, url: str, paths: list[Path]) -> None:
    infos = {}
    for path in paths:
        content = path.read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        infos[url + path.name] = UrlInfo(len(content), checksum, path.name)
    monkeypatch.setattr(builders.IdxMnist, "URL", url)
    monkeypatch.setattr(builders.IdxMnist, "url_infos", infos)


@pytest.fixture
def server(originals, monkeypatch):
    """Serves the folder of `originals` over HTTP and points the builder there."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=originals))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    _register(monkeypatch, f"http://127.0.0.1:{httpd.server_port}/", sorted(originals.iterdir()))
    yield originals
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def _assert_equal(found: dict, arrays: dict) -> None:
    assert found.keys() == arrays.keys()
    for key, array in arrays.items():
        assert found[key].dtype == np.uint8
        np.testing.assert_array_equal(found[key], array[..., None] if key[0] == "x" else array)


def test_files_on_disk_are_prepared_in_their_order(originals, arrays, tmp_path):
    cache = tmp_path / "cache"
    _assert_equal(builders.read_arrays("mnist", data_dir=tmp_path, cache_dir=cache), arrays)
    assert "tensorflow" not in sys.modules
    for path in originals.iterdir():
        path.unlink()
    prepared = builders.read_arrays("mnist", data_dir=None, cache_dir=cache)
    _assert_equal(prepared, arrays)


def test_missing_files_are_downloaded(server, arrays, tmp_path):
    (tmp_path / "partly" / "mnist").mkdir(parents=True)
    name = "train-labels-idx1-ubyte.gz"
    os.link(server / name, tmp_path / "partly" / "mnist" / name)
    found = builders.read_arrays(
        "mnist", data_dir=tmp_path / "partly", cache_dir=tmp_path / "cache"
    )
    _assert_equal(found, arrays)


def test_wrong_file_on_disk(originals, tmp_path):
    path = originals / "t10k-labels-idx1-ubyte.gz"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    message = f"{path} has SHA-256 {found}, expected {expected}: delete it or download it again"
    with pytest.raises(ValueError, match=message + f" from {UNREACHABLE}{path.name}"):
        builders.read_arrays("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_wrong_file_on_the_server(server, tmp_path):
    (server / "t10k-labels-idx1-ubyte.gz").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"wrong checksum.*set MODELEDIT_DATA_DIR") as error:
        builders.read_arrays("mnist", data_dir=None, cache_dir=tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_file_gone_from_the_server(server, tmp_path):
    (server / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"404.*set MODELEDIT_DATA_DIR"):
        builders.read_arrays("mnist", data_dir=None, cache_dir=tmp_path / "cache")


def test_no_network_names_urls_and_folder(originals, tmp_path):
    (originals / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=f"cannot reach {UNREACHABLE}t10k") as error:
        builders.read_arrays("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    message = str(error.value)
    assert all(url in message for url in builders.IdxMnist.urls())
    assert f"into {originals}, or set MODELEDIT_DATA_DIR" in message and "\n" not in message


def test_numbers_of_images_and_labels_must_agree(originals, arrays, tmp_path, monkeypatch):
    _gz(originals / "train-labels-idx1-ubyte.gz", _idx(arrays["y"][:-1]))
    _register(monkeypatch, UNREACHABLE, sorted(originals.iterdir()))
    with pytest.raises(ValueError, match=r"has 40 images, .* 39 labels"):
        builders.read_arrays("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_load_images_through_the_builder(originals, arrays, tmp_path):
    data = load_images("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert data.name == "mnist" and data.num_classes == 10
    np.testing.assert_allclose(data.x_test[..., 0], arrays["x_test"] / 255, rtol=1e-6)
    assert (tmp_path / "cache" / "mnist.npz").exists()


@pytest.mark.slow
def test_real_mnist(tmp_path):
    require_published("mnist/train-images-idx3-ubyte.gz")
    data = load_images("mnist", cache_dir=tmp_path)
    again = load_images("mnist", cache_dir=tmp_path, data_dir=Path("/nowhere"))
    assert data.fingerprint == again.fingerprint
    assert data.x.shape == (60_000, 28, 28, 1) and data.x_test.shape == (10_000, 28, 28, 1)
    np.testing.assert_array_equal(data.y[:5], [5, 0, 4, 1, 9])
    # the published mean and deviation of the training pixels
    np.testing.assert_allclose([data.x.mean(), data.x.std()], [0.1307, 0.3081], atol=1e-4)
    splits = split_images(data)
    assert [len(getattr(splits, role)) for role in ROLES] == [50_000, 5_000, 5_000, 10_000]
