"""A run folder belongs to one configuration."""

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from modeledit_jax.run.folder import as_json, open_run, opened_run


@dataclass(frozen=True)
class Config:
    budget: int = 100
    site: tuple[str, ...] = ("fc2/kernel",)
    npz_path: Path | None = None
    rate: float = 0.1
    tensorboard: bool = False
    resume: bool = False


def test_the_configuration_is_written_and_found_again(tmp_path):
    folder = tmp_path / "new" / "run"
    config = Config(npz_path=Path("a/b.npz"))
    open_run(folder, config, resume=False, free=("tensorboard",))
    stored = json.loads((folder / "config.json").read_text())
    assert stored == {"budget": 100, "site": ["fc2/kernel"], "npz_path": "a/b.npz", "rate": 0.1}
    same = dataclasses.replace(config, resume=True, tensorboard=True)
    open_run(folder, same, resume=True, free=("tensorboard",))
    assert json.loads((folder / "config.json").read_text()) == stored


def test_another_configuration_is_refused_with_every_difference(tmp_path):
    open_run(tmp_path, Config(), resume=False)
    other = Config(budget=200, site=("fc1/kernel", "fc2/kernel"))
    with pytest.raises(ValueError, match="repeat its options, or choose another") as info:
        open_run(tmp_path, other, resume=True)
    message = str(info.value)
    assert "budget was 100, now 200" in message
    assert "site was ['fc2/kernel'], now ['fc1/kernel', 'fc2/kernel']" in message
    assert "rate" not in message and "\n" not in message


def test_a_field_the_stored_run_did_not_know_is_a_difference(tmp_path):
    open_run(tmp_path, Config(), resume=False)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    del stored["rate"]
    path.write_text(json.dumps(stored | {"gone": 3}))
    with pytest.raises(ValueError, match=re.escape("gone was 3, now None; rate was None, now 0.1")):
        open_run(tmp_path, Config(), resume=True)


def test_a_folder_in_use_and_one_without_a_run(tmp_path):
    with pytest.raises(ValueError, match=r"no run to resume in .*: leave out --resume"):
        open_run(tmp_path, Config(), resume=True)
    open_run(tmp_path, Config(), resume=False)
    with pytest.raises(ValueError, match="holds a run already: add --resume, or choose another"):
        open_run(tmp_path, Config(), resume=False)


def test_a_mistake_before_anything_was_saved_frees_the_folder(tmp_path):
    folder = tmp_path / "new" / "run"
    with pytest.raises(ValueError, match="bad option"), opened_run(folder, Config(), resume=False):
        assert (folder / "config.json").is_file()
        (folder / "checkpoints" / "ppo").mkdir(parents=True)
        raise ValueError("bad option")
    assert not folder.exists() and folder.parent.exists()
    with opened_run(folder, Config(budget=200), resume=False):
        pass
    assert json.loads((folder / "config.json").read_text())["budget"] == 200


@pytest.mark.parametrize(
    ("error", "saved", "resume"),
    [
        (KeyboardInterrupt, False, False),  # to be resumed
        (ValueError, True, False),
        (ValueError, False, True),
    ],
)
def test_what_can_be_resumed_stays(tmp_path, error, saved, resume):
    if resume:
        open_run(tmp_path, Config(), resume=False)
    with pytest.raises(error), opened_run(tmp_path, Config(), resume=resume):
        if saved:
            (tmp_path / "checkpoints").mkdir()
            (tmp_path / "checkpoints" / "3").write_text("state")
        raise error
    open_run(tmp_path, Config(), resume=True)
    assert (tmp_path / "checkpoints" / "3").exists() == saved


def test_files_of_the_user_are_never_removed(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OSError), opened_run(tmp_path, Config(), resume=False):
        raise OSError("no data")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_resuming_clears_what_a_kill_left_half_written(tmp_path):
    open_run(tmp_path, Config(), resume=False)
    for name in (".summary.json.1f.tmp", "figures/.edit.png.2e.tmp", "figures/edit.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "checkpoints" / ".20.3d.tmp.orbax" / "d").mkdir(parents=True)
    open_run(tmp_path, Config(), resume=True)
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"config.json", "edit.png"}


def test_a_run_of_another_process_is_left_alone(tmp_path):
    with opened_run(tmp_path, Config(), resume=False):
        for resume in (False, True):
            with (
                pytest.raises(ValueError, match="another process is at work"),
                opened_run(tmp_path, Config(), resume=resume),
            ):
                pass
        assert (tmp_path / "config.json").is_file()


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "3", '{"budget": 1, "budget": 1}', '{"budget": NaN}', "[" * 1_000_000],
    ids=range(7),
)
def test_a_configuration_that_is_none(tmp_path, text):
    """Of the kind: tests/reading/test_json_text.py."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged: choose another --run-dir \("):
        open_run(tmp_path, Config(), resume=True)


def test_a_damaged_configuration_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"budget": 1')
    with pytest.raises(ValueError, match=r"config\.json is damaged: choose another --run-dir"):
        open_run(tmp_path, Config(), resume=True)


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=rf"cannot write to the run folder .*{name} \(.*choose ano"):
        open_run(tmp_path / name, Config(), resume=False)
    assert (tmp_path / "file").read_text() == "in the way"


def test_configurations_become_json_values():
    expected = {
        "budget": 100,
        "site": ["a", "b"],
        "npz_path": "x/y",
        "rate": 0.1,
        "tensorboard": False,
        "resume": False,
    }
    assert as_json(Config(site=("a", "b"), npz_path=Path("x/y"))) == expected


@dataclass(frozen=True)
class Placed:
    run_dir: Path | None = None
    cache_dir: Path | None = None
    npz_path: Path | None = None
    budget: int = 1
    resume: bool = False


def test_where_a_run_lies_is_no_part_of_what_it_computes(tmp_path, monkeypatch):
    """Moved, reached through a link or another spelling, with another cache: the same run."""
    monkeypatch.chdir(tmp_path)
    first = Placed(Path("run"), Path("cache"), Path("data.npz"))
    open_run(Path("run"), first, resume=False)
    (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    for folder in (Path("moved"), tmp_path / "moved", Path("./moved/"), Path("x/../link")):
        (tmp_path / "x").mkdir(exist_ok=True)
        same = Placed(folder, tmp_path / "other", tmp_path / "data.npz")
        open_run(folder, same, resume=True)
    open_run(Path("moved"), dataclasses.replace(first, cache_dir=None), resume=True)


@pytest.mark.parametrize("changes", [{"npz_path": Path("other.npz")}, {"budget": 2}])
def test_what_is_computed_still_is(tmp_path, changes):
    open_run(tmp_path, Placed(tmp_path, None, Path("data.npz")), resume=False)
    other = dataclasses.replace(Placed(tmp_path, None, Path("data.npz")), **changes)
    with pytest.raises(ValueError, match="has another configuration"):
        open_run(tmp_path, other, resume=True)
