"""Files of users: what is no regular file of UTF-8 is refused in one line, and at once.

Of the kind: whatever a path can lead to (folders, named pipes, sockets, devices, links to nothing,
names that no file can have), whatever bytes can be instead of UTF-8 (other encodings with and
without their mark, binary files), and sizes that such a file cannot have. All readers of users'
files pass here: checkpoints, policies, data sets, facts, method files, folders of runs.
"""

import gzip
import os
import socket

import pytest

from modeledit_jax.reading.files import decode, read_text, regular_file

pytestmark = pytest.mark.timeout(20)  # nothing here may wait for a pipe


def test_a_file_and_a_link_to_it(tmp_path):
    (tmp_path / "a").write_text("ü")
    (tmp_path / "link").symlink_to("a")
    assert regular_file(str(tmp_path / "link")) == tmp_path / "link"
    assert read_text(tmp_path / "link") == "ü"


def test_a_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbftext")
    assert read_text(tmp_path / "a") == "text"


def test_what_is_no_file_is_named_and_not_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        kinds = {"pipe": "a named pipe", "socket": "a socket", ".": "a folder"}
        for name, kind in (kinds | {"/dev/zero": "a device"}).items():
            with pytest.raises(ValueError, match=f"{name} is {kind}: give the path of a regular"):
                read_text(name)


@pytest.mark.parametrize("name", ["absent", "link", "file/below"])
def test_what_is_not_there_is_named(tmp_path, name):
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=rf"no file .*/{name}: give the path of one"):
        read_text(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=rf"nothing at .*/{name}, look again"):
        regular_file(tmp_path / name, "nothing at {path}, look again")


@pytest.mark.parametrize(
    ("name", "reason"), [("a\0b", "embedded null byte"), ("a" * 5000, "File name too long")]
)
def test_names_that_no_file_can_have(name, reason):
    with pytest.raises(ValueError, match=rf"cannot be read \({reason}\)") as error:
        read_text(name)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a".encode("utf-16"), "x is UTF-16: convert it"),
        ("a".encode("utf-32"), "x is UTF-32: convert it"),
        (gzip.compress(b"a", mtime=0), "x is compressed by gzip: unpack it"),
        (b"PK\x03\x04", "x is a zip archive: unpack it"),
        ("aé".encode("latin1"), r"x is not UTF-8 \(byte 1\): convert it, or get it again"),
        (b"\x80", r"x is not UTF-8 \(byte 0\)"),
        (b"\xc0\x80", r"x is not UTF-8 \(byte 0\)"),  # an overlong zero
        ("\ud800".encode("utf-8", "surrogatepass"), "x is not UTF-8"),
    ],
)
def test_other_encodings_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        decode(data, "x")


def test_sizes_that_such_a_file_cannot_have(tmp_path):
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)  # a hole, not a terabyte
    with pytest.raises(ValueError, match=r"huge has 1,099,511,627,776 bytes, more than 1,000"):
        read_text(tmp_path / "huge", largest=1000)


def test_a_file_without_permission(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0)
    if os.access(tmp_path / "a", os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(ValueError, match=r"cannot be read \(Permission denied\): check path"):
        read_text(tmp_path / "a")


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "secret.csv"
    path.write_text("a")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read anything
    with pytest.raises(
        ValueError, match=r"secret\.csv' cannot be read \(Permission denied\): check"
    ):
        regular_file(path)
