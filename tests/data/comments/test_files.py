"""CSV files of comments: what is no regular, complete CSV file in UTF-8 is said in one line.

Of the kind: named pipes and folders in the place of files, columns named twice, headers with line
breaks or without end, encrypted or damaged archives, and what tests/data/comments/test_datasets.py
tries through `load_comments`.
"""

import gzip
import os
import zipfile

import pytest

from modeledit_jax.data.comments.files import CsvFile, parse_fraction, read_rows

COLUMNS = ("id", "text", "label")


def rows(path, content):
    path.write_bytes(content.encode())
    return list(read_rows(CsvFile.on_disk(path), COLUMNS))


def test_columns_in_any_order_and_a_mark(tmp_path):
    found = rows(tmp_path / "a.csv", '\ufefflabel,id,other,text\n1,2,3,"a\nb"\n')
    assert found == [(f"{tmp_path}/a.csv, line 3", ["2", "a\nb", "1"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text,label,label\n1,a,0,1\n", "has the column label 2 times: keep one of them"),
        ("id,text,text,label,text\n", "has the column text 3 times"),
        ('"a\nb",c\n', "lacks the columns id, text, label; it has a b, c: rename or add"),
        (",".join(map(str, range(5000))) + "\n", "it has 0, 1, 2"),
        ("id,text,label\n1,a\n", "line 2: 2 values, the header has 3"),
        ("id,text,label\n1,a,0,\n", "line 2: 4 values, the header has 3"),
    ],
    ids=range(6),
)
def test_headers_and_rows_that_do_not_fit(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        rows(tmp_path / "a.csv", content)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt"])
def test_a_compressed_file_is_known_by_its_content(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"id,text,label\n1,a,0\n"))
    found = list(read_rows(CsvFile.on_disk(tmp_path / name), COLUMNS))
    assert found == [(f"{tmp_path / name}, line 2", ["1", "a", "0"])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text,label\n1,é,0\n".encode("utf-16"), "is UTF-16: .* iconv -f utf-16 -t utf-8"),
        ("id,text,label\n1,é,0\n".encode("latin1"), "line 2 is not UTF-8: .* iconv -f latin1"),
        (b"PK\x03\x04\x14\x00\x00\x00\xff\xff", r"a\.csv is a zip archive: unpack it"),
    ],
    ids=["utf-16", "latin1", "zip"],
)
def test_other_encodings_have_cures_of_their_own(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_rows(CsvFile.on_disk(tmp_path / "a.csv"), COLUMNS))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_what_is_no_file(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        CsvFile.on_disk(tmp_path / name)
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is a named pipe"):
        CsvFile.on_disk(tmp_path / name)
    with pytest.raises(ValueError, match="is a folder"):
        CsvFile.on_disk(tmp_path)


@pytest.mark.timeout(20)
def test_archives(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "id,text,label\n1,a,0\n")
    assert len(list(read_rows(CsvFile.in_zip(path, "a.csv"), COLUMNS))) == 1
    with pytest.raises(ValueError, match=r"has no b\.csv, it holds a\.csv"):
        CsvFile.in_zip(path, "b.csv")
    encrypted = path.read_bytes().replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
    )
    path.write_bytes(encrypted.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01"))
    with pytest.raises(ValueError, match=r"is damaged or cut off \(.*encrypted"):
        list(read_rows(CsvFile.in_zip(path, "a.csv"), COLUMNS))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"a\.zip is a named pipe"):
        CsvFile.in_zip(path, "a.csv")


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "1e999", "1.0000001", "yes", "0x1"])
def test_labels_out_of_range(value):
    with pytest.raises(ValueError, match=f"here: toxic is '{value}', it must be in 0…1"):
        parse_fraction(value, "here", "toxic")
