"""Damaged archives in one line.

Of the kind: cut off in front and behind, no archive at all, a member that is not there, encrypted,
of another compression, with another checksum, a name that is not UTF-8; gzip and lzma cut off.
"""

import errno
import gzip
import lzma
import zipfile

import pytest

from modeledit_jax.reading.archives import archive_errors


def archive(path, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.csv", "id,text\n" * 50)
    return path.read_bytes()


def read(path, member="a.csv"):
    with archive_errors(path), zipfile.ZipFile(path) as file:
        return file.read(member)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[3:],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data.replace(b"a.csv", b"b.csv"),
        lambda data: data.replace(b"a.csv", b"a.cs\xff"),
        lambda data: data[:50] + b"\0\0\0\0" + data[54:],
        lambda data: data.replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0"),
        lambda data: data.replace(b"\x14\0\0\0\x08\0", b"\x14\0\x01\0\x08\0"),
    ],
    ids=["head", "end", "empty", "member", "name", "bytes", "compression", "encrypted"],
)
def test_damaged_archives_are_refused_in_one_line(tmp_path, change):
    path = tmp_path / "a.zip"
    data = archive(path)
    assert read(path).startswith(b"id,text")
    path.write_bytes(change(data))
    with pytest.raises(ValueError, match=r"a\.zip is damaged or cut off \(.+\): delete") as info:
        read(path)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("module", [gzip, lzma])
def test_compressed_files_that_are_cut_off(module):
    data = module.compress(b"id,text\n" * 50)
    for damaged in (data[:-9], b"no", data[:20] + b"\0" * 9 + data[29:]):
        with pytest.raises(ValueError, match=r"x is damaged or cut off"), archive_errors("x"):
            module.decompress(damaged)


def test_what_the_system_says_is_left_alone():
    for number in (errno.EACCES, errno.ENOSPC):
        with pytest.raises(OSError, match="own"), archive_errors("x"):
            raise OSError(number, "own")
    with pytest.raises(ValueError, match=r"^own$"), archive_errors("x"):
        raise ValueError("own")
