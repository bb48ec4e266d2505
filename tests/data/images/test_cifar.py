"""CIFAR-10's binary version on small archives in its format; the published one is not at hand."""

import gzip

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import load_url_infos

from modeledit_jax.data.images import blocks, builders, cifar
from modeledit_jax.data.images.datasets import load_images
from modeledit_jax.data.images.splits import ROLES, split_images
from modeledit_jax.data.published import PublishedBuilder
from tests.data.published_files import publish, write_cifar, write_images

SIZES = (3, 5, 4, 6, 2)  # images of the five training files


def _parts(seed=0):
    """Images and labels of every member, as a user sees them: channels last."""
    rng = np.random.default_rng(seed)
    parts = {}
    for name, size in zip((*cifar.FILES["train"], *cifar.FILES["test"]), (*SIZES, 7), strict=True):
        images = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
        parts[name] = images, rng.integers(0, 10, size, np.uint8)
    return parts


def _bytes(images, labels):
    """The format from its definition, byte by byte and independently of the reader."""
    out = bytearray()
    for image, label in zip(images, labels, strict=True):
        out.append(label)
        for channel in range(3):
            for row in range(32):
                out += bytes(int(image[row, column, channel]) for column in range(32))
    return bytes(out)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A function that writes an archive as if it were the published one; returns its path."""

    def make(members):
        path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
        path.parent.mkdir(exist_ok=True)
        write_cifar(path, members)
        publish(monkeypatch, cifar.BinaryCifar10, [path], "http://127.0.0.1:9/" + path.name)
        return path

    return make


def _read(tmp_path):
    return builders.read_arrays("cifar10", data_dir=tmp_path, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("block", [1_000, 2, 5])
def test_images_come_in_the_order_of_the_files(archive, tmp_path, monkeypatch, block):
    monkeypatch.setattr(blocks, "BLOCK", block)
    monkeypatch.setattr(cifar, "BLOCK", block)
    parts = _parts()
    content = {name: _bytes(*part) for name, part in parts.items()}
    # the archive has them in another order, among other files
    archive(dict(reversed(content.items())) | {f"{cifar.FOLDER}/readme.html": b"<p>"})
    found = _read(tmp_path)
    train = [parts[name] for name in cifar.FILES["train"]]
    expected = {
        "x": np.concatenate([images for images, _ in train]),
        "y": np.concatenate([labels for _, labels in train]),
        "x_test": parts[cifar.FILES["test"][0]][0],
        "y_test": parts[cifar.FILES["test"][0]][1],
    }
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].dtype == np.uint8
        np.testing.assert_array_equal(found[key], array)


def test_a_record_by_hand():
    data = bytes([3]) + bytes([1, 2]) + bytes(1022) + bytes([10]) * 1024 + bytes(1023) + b"\xff"
    images, labels = cifar.read_records(data, "it")
    assert images.shape == (1, 32, 32, 3) and labels.tolist() == [3]
    assert images[0, 0, 0].tolist() == [1, 10, 0] and images[0, 0, 1].tolist() == [2, 10, 0]
    assert images[0, 31, 31].tolist() == [0, 10, 255]


def _valid():
    return {name: _bytes(*part) for name, part in _parts().items()}


THIRD = cifar.FILES["train"][2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop(THIRD), f"has no file {THIRD}, it is another archive"),
        (lambda c: c.update({THIRD: None}), f"has no file {THIRD}"),  # a folder of this name
        (lambda c: c.update({THIRD: b""}), f"{THIRD} of .* is empty"),
        (lambda c: c.update({THIRD: c[THIRD][:-1]}), f"{THIRD} of .* ends with 3072 bytes of a"),
        (lambda c: c.update({THIRD: b"\x0a" + c[THIRD][1:]}), f"{THIRD} of .* has the label 10"),
    ],
)
def test_the_defect_is_named_with_the_cure(archive, tmp_path, change, message):
    content = _valid()
    change(content)
    archive(content)
    with pytest.raises(ValueError, match=f"{message}.*: delete it, and it is downl") as error:
        _read(tmp_path)
    assert "cifar-10-binary.tar.gz" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[: len(b) // 2],
        lambda b: b[:-3_000],
        lambda b: b"no gzip",
        lambda b: b[:200] + b"\0" * 50 + b[250:],
        lambda b: gzip.compress(b"no tar" * 200),
        lambda b: gzip.compress(gzip.decompress(b)[:20_000]),
    ],
    ids=["half", "end", "text", "hole", "no tar", "cut tar"],
)
def test_a_damaged_archive_is_named(tmp_path, damage):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_cifar(path, _valid())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path}.*: delete it, and it is downloaded") as error:
        list(cifar.read_members(path, sum(cifar.FILES.values(), ())))
    assert "\n" not in str(error.value)


def test_another_file_than_the_published_one(archive, tmp_path):
    path = archive(_valid())
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match=f"{path} has SHA-256 .* delete it or download it again"):
        _read(tmp_path)


def test_no_network_names_address_and_folder(archive, tmp_path, monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    archive(_valid()).unlink()
    with pytest.raises(FileNotFoundError, match=r"cannot reach http.*cifar-10-binary\.tar\.gz"):
        _read(tmp_path)


def test_the_published_file_is_the_one_that_tfds_knows():
    """URL, size and SHA-256 are those of the builder that comes with TFDS."""
    import tensorflow_datasets as tfds

    theirs = tfds.core.tfds_path("url_checksums/cifar10.txt")
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    ours = PublishedBuilder.url_infos[url]
    assert ours == load_url_infos(theirs)[url]
    assert cifar.BinaryCifar10.urls() == [url] and ours.filename == url.rsplit("/", 1)[1]


def test_loaded_and_split_as_other_images(monkeypatch, tmp_path):
    write_images(monkeypatch, tmp_path, "cifar10", train=200, test=50)
    data = load_images("cifar10", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    again = load_images("cifar10", data_dir=tmp_path / "gone", cache_dir=tmp_path / "cache")
    assert data.fingerprint == again.fingerprint and data.num_classes == 10
    assert data.x.shape == (200, 32, 32, 3) and 0 <= data.x.min() < data.x.max() <= 1
    splits = split_images(data)
    assert [len(getattr(splits, role)) for role in ROLES] == [126, 50, 24, 50]
