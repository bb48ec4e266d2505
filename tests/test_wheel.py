"""The wheel, installed into an empty environment, brings its data files and its command."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("modeledit_jax", "experiments", "pyproject.toml", "README.md", "LICENSE")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*line, **options):
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(line, capture_output=True, text=True, env=outside, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an environment that holds the wheel, and finds its dependencies in this one's."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:  # building leaves files beside the sources
        source, copy = ROOT / name, folder / "source" / name
        copy.parent.mkdir(exist_ok=True)
        skipped = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, copy, ignore=skipped)
        else:
            shutil.copy(source, copy)
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source")
    (wheel,) = (folder / "dist").glob("*.whl")
    assert len(list((folder / "dist").glob("*.tar.gz"))) == 1
    venv.create(folder / "venv", with_pip=True)
    path = folder / "venv" / "bin" / "python"
    run(path, "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    site = Path(run(path, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A path file adds the folder alone: the editable install of the project there stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return path


def test_data_files_are_installed(python, tmp_path):
    program = """
import json
from importlib.resources import files
package = files("modeledit_jax")
paths = [str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()]
print(json.dumps([str(package), paths]))
"""
    place, paths = json.loads(run(python, "-c", program, cwd=tmp_path))
    assert Path(place).is_relative_to(Path(python).parents[1])
    source = Path(python).parents[2] / "source" / "modeledit_jax"
    ours = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()}
    skipped = {path for path in ours if "__pycache__" in path}
    assert {path for path in paths if "__pycache__" not in path} == ours - skipped
    assert {"py.typed", "data/checksums.tsv", "presets/unlearning/ppo-shift.toml"} <= set(paths)


def test_presets_are_read_where_there_is_no_source(python, tmp_path):
    program = """
from modeledit_jax.presets.preset import load_preset
print(load_preset("ppo-shift", "unlearning").name)
"""
    assert run(python, "-c", program, cwd=tmp_path).strip() == "ppo-shift"


def test_the_command_lists_the_experiments_and_runs_one(python, tmp_path):
    modeledit = Path(python).with_name("modeledit")
    listed = run(modeledit, "--help", cwd=tmp_path)
    assert "tuning.lifelong_editing" in listed and "Forget classes" in listed
    assert "usage: modeledit unlearning" in run(modeledit, "unlearning", "--help", cwd=tmp_path)
    options = (
        *("--seeds", "1", "--epochs", "1", "--methods", "original"),
        *("--run-dir", tmp_path / "run", "--cache-dir", tmp_path / "cache"),
    )
    assert "report.md" in run(modeledit, "unlearning", *options, cwd=tmp_path)
    assert (tmp_path / "run" / "report.md").is_file()
