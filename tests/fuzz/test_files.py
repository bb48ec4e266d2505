"""Damaged files: a right result, or a refusal in one line that names the file. Never anything else.

The short version runs with the quick tests; the long one tries thousands of files.
"""

import collections
import json
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.damage import damaged_bytes, damaged_json
from tests.fuzz.readers import READERS, right_folder

LONGEST = 10.0
"""Seconds for one file."""

OUTCOMES: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)


def _strategy(data: bytes) -> st.SearchStrategy[bytes]:
    try:
        value = json.loads(data)
    except ValueError:
        return damaged_bytes(data)
    return st.one_of(damaged_json(value), damaged_bytes(data))


def _outcome(name: str, file: Path, data: bytes) -> str:
    """What reading a folder with one damaged file comes to; raises what must not be."""
    reader, folder = READERS[name], right_folder(name)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as copy:
        place = Path(copy) / "files"
        shutil.copytree(folder, place)
        (place / file).write_bytes(data)
        same = data == (folder / file).read_bytes()
        begin = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = reader.read(place)
        except (ValueError, FileNotFoundError) as error:
            message = str(error)
            assert "\n" not in message.strip(), message
            assert str(place) in message or file.stem in message, message
            assert not same, "the file as it was is refused"
            return "refused"
        finally:
            assert time.monotonic() - begin < LONGEST
        assert same or not reader.exact, "damage was not noticed"
        assert reader.right(result), "wrongly accepted"
        return "read"


@pytest.mark.parametrize(
    "count", [5, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_rightly_or_refused(name, count):
    folder = right_folder(name)
    files = sorted(path for path in folder.glob(READERS[name].file) if path.is_file())
    tried: set[bytes] = set()

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data):
        path = data.draw(st.sampled_from(files))
        found = data.draw(_strategy(path.read_bytes()))
        OUTCOMES[name][_outcome(name, path.relative_to(folder), found)] += found not in tried
        tried.add(found)

    run()
    print(f"{name}: {len(tried)} distinct files, {dict(OUTCOMES[name])}")


def test_what_is_no_file_is_refused(tmp_path):
    """Folders and pipes in the place of files; a pipe must not be waited for."""
    import os

    for name, reader in READERS.items():
        if "*" in reader.file:
            continue
        for make in (os.mkfifo, os.mkdir):
            place = tmp_path / f"{name} {make.__name__}"
            shutil.copytree(right_folder(name), place)
            (place / reader.file).unlink()
            make(place / reader.file)
            with pytest.raises((ValueError, FileNotFoundError)) as info:
                reader.read(place)
            assert "\n" not in str(info.value).strip()
