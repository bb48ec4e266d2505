"""The lifelong editing command: a tiny run from end to end, a method of one's own, mistakes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.lifelong_editing.__main__ import command
from experiments.lifelong_editing.config import Config
from experiments.lifelong_editing.methods import load_methods
from modeledit_jax.report.summary import read_summary
from tests.experiments.collections_of_facts import write_collections
from tests.experiments.command_line import error_of
from tests.run import learned_noise

TIMED = {"ms_per_edit"}

pytestmark = pytest.mark.timeout(900)  # most of it compiling, minutes on a busy machine


OWN = """
class = "own_method:LearnedNoise"
role = "control"
[settings]
rate = 0.02
[options]
meta_updates = "steps"
[style]
color = "#123456"
marker = "*"
line = "-"
"""


@pytest.fixture(scope="module")
def own_method(tmp_path_factory):
    """A method of the user's, with training: one Python file and one TOML beside it."""
    folder = tmp_path_factory.mktemp("methods")
    (folder / "own_method.py").write_text(Path(learned_noise.__file__).read_text())
    (folder / "learned-noise.toml").write_text(OWN)
    return str(folder / "learned-noise.toml")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, own_method):
    return Config(
        methods=("original", "ultraedit", "hiedit", own_method),
        edits=6,
        batch_size=3,
        train_edits=6,
        modules=("layers/1/mlp/*",),
        meta_updates=3,
        judged_batches=2,
        width=16,
        mlp_width=32,
        layers=2,
        steps=20,
        plain=20,
        cache_dir=tmp_path_factory.mktemp("cache"),
    )


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    config = replace(tiny, run_dir=tmp_path_factory.mktemp("runs") / "finished")
    assert command.main(config) == 0
    return config


def numbers(run_dir):
    """All numbers of a run but times."""
    return [
        (row.method, row.seed, {k: v for k, v in row.metrics.items() if k not in TIMED})
        for row in read_summary(run_dir).rows
    ], (run_dir / "metrics.csv").read_bytes()


@pytest.mark.slow
def test_the_run_folder_holds_what_is_promised(finished):
    summary = read_summary(finished.run_dir)
    by_name = {row.method: row for row in summary.rows}
    assert tuple(by_name) == ("original", "ultraedit", "hiedit", "learned-noise")
    original, hiedit = by_name["original"].metrics, by_name["hiedit"].metrics
    assert original["weight_shift"] == 0 < hiedit["weight_shift"]
    assert abs(original["weight_growth"]) < 1e-6
    assert original["specificity_unedited"] == 1
    assert original["state_bytes"] == 0 < hiedit["state_bytes"]
    assert hiedit["modules_per_edit"] == 2  # half of three, rounded
    for own in by_name.values():
        four = ("efficacy", "generalization", "specificity", "retention")
        mean = np.mean([own.metrics[name] for name in four])
        np.testing.assert_allclose(own.metrics["overall"], mean, rtol=1e-6)
        assert own.metrics["perplexity"] > 1 and own.metrics["ms_per_edit"] > 0
    assert by_name["hiedit"].cost.gradient_steps == 3
    assert by_name["learned-noise"].cost.gradient_steps == 2 * 3
    assert by_name["learned-noise"].metrics["weight_shift"] > 0
    figures = {path.name for path in (finished.run_dir / "figures").iterdir()}
    assert figures == {
        *("methods.png", "trajectories.png", "retention_by_age.png", "selection.png")
    }
    lines = (finished.run_dir / "metrics.csv").read_text().splitlines()
    assert lines[0].startswith("method,task,seed,edits,overall,efficacy")
    assert len(lines) == 1 + 2 * len(finished.methods)  # two batches, asked after each


@pytest.mark.slow
def test_the_report_explains_itself(finished):
    report = (finished.run_dir / "report.md").read_text()
    for text in (
        *("`layers/1/mlp/gate", "| hiedit |", "`retention`", "selection.png"),
        *("training.objective.memory 2", "| learned-noise | control | rate 0.02, steps 3 |"),
    ):
        assert text in report


@pytest.mark.slow
def test_a_users_style_is_that_of_the_file(finished):
    *_, own = load_methods(finished.methods, finished)
    assert own.style.color == "#123456" and own.name == "learned-noise"


@pytest.mark.slow
def test_a_run_in_pieces_is_the_whole_run(tiny, finished, tmp_path, monkeypatch):
    """Stopped in the middle of two streams and of the user's training, then resumed: same bits."""
    from modeledit_jax.run import resumable as chunks

    config = replace(tiny, run_dir=tmp_path / "pieces", methods=finished.methods)
    real = chunks.Checkpoints.save
    saves = []

    def save_and_stop(self, step, tree):
        real(self, step, tree)
        saves.append(step)
        if len(saves) in (1, 6, 8):  # of original's stream, the trained editor's, the user's
            raise KeyboardInterrupt

    monkeypatch.setattr(chunks.Checkpoints, "save", save_and_stop)
    monkeypatch.setattr(chunks, "SAVE_EVERY", 0.0)
    assert command.main(config) == 130
    assert command.main(replace(config, resume=True)) == 130
    assert command.main(replace(config, resume=True)) == 130
    assert command.main(replace(config, resume=True)) == 0
    assert saves == [1, 2, 1, 2, 3, 1, 2, 3, 3, 1, 2]  # nothing that was done is done again
    assert numbers(config.run_dir) == numbers(finished.run_dir)


@pytest.mark.slow
def test_methods_and_seeds_may_join_a_run(tiny, finished, own_method, tmp_path, capsys):
    """What was done is not done again, and a method whose file has changed is refused."""
    config = replace(tiny, run_dir=tmp_path / "run", methods=("hiedit", own_method))
    assert command.main(config) == 0
    done = config.run_dir / "checkpoints" / "learned-noise-seed-0"
    written = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()}
    assert command.main(replace(config, resume=True, methods=finished.methods)) == 0
    assert numbers(config.run_dir) == numbers(finished.run_dir)
    assert written == {path: path.stat().st_mtime_ns for path in written}
    assert command.main(replace(config, resume=True, methods=("hiedit",), seeds=2)) == 0
    rows = read_summary(config.run_dir).rows
    assert [(row.method, row.seed) for row in rows] == [("hiedit", 0), ("hiedit", 1)]
    again = replace(config, resume=True, methods=("hiedit", own_method))
    Path(own_method).write_text(OWN.replace("0.02", "0.03"))
    try:
        assert "is of another method: repeat" in error_of(command.main, again, capsys)
    finally:
        Path(own_method).write_text(OWN)


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten_nor_taken_for_another(finished, capsys):
    assert "--resume" in error_of(command.main, finished, capsys)
    message = error_of(command.main, replace(finished, resume=True, judged_batches=3), capsys)
    assert "judged_batches was 2, now 3" in message


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"edits": 0}, ["--edits", "at least 1"]),
        ({"batch_size": 0}, ["--batch-size", "at least 1"]),
        ({"meta_updates": 0}, ["--meta-updates"]),
        ({"judged_batches": 0}, ["--judged-batches"]),
        ({"width": 12}, ["--width", "multiple of 8"]),
        ({"fraction": 0.0}, ["--fraction", "at most 1"]),
        ({"first": 9}, ["--first", "--edits = 6"]),
        ({"methods": ()}, ["--methods"]),
        ({"methods": ("rledit", "rledit")}, ["--methods names rledit twice", "once"]),
        ({"methods": ("rledt",)}, ["unknown method 'rledt'", "top-norm-k"]),
        ({"methods": ("none.toml",)}, ["no method file none.toml"]),
        ({"methods": ("original", "ft-m")}, ["--meta-updates sets nothing in original, ft-m"]),
        ({"corpus": "wikidata"}, ["--corpus", "zsre", "'wikidata'"]),
        ({"corpus": "own.json"}, ["--corpus", "with --model"]),
        ({"model": Path("nowhere")}, ["--model", "nowhere"]),
        ({"modules": ("layers/7/*",)}, ["layers/7/*", "layers/1/mlp/down"]),
        ({"seeds": 0}, ["--seeds"]),
        ({"resume": True}, ["no run to resume"]),
    ],
)
def test_mistakes_name_their_cure_and_leave_no_run_behind(tiny, tmp_path, capsys, changes, parts):
    message = error_of(command.main, replace(tiny, run_dir=tmp_path / "run", **changes), capsys)
    assert all(part in message for part in parts), message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("corpus", "file"), [("counterfact", "pararel"), ("zsre", "zsre_mend")])
def test_collections_need_their_files(tiny, tmp_path, capsys, monkeypatch, corpus, file):
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path))
    config = replace(tiny, corpus=corpus, run_dir=tmp_path / "run")
    assert file in error_of(command.main, config, capsys)
    assert not config.run_dir.exists()


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["counterfact", "zsre"])
def test_collections_run_to_the_report(tiny, tmp_path, monkeypatch, corpus):
    """A small network is first taught the true answers of a few records in the right layout."""
    write_collections(tmp_path)
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path))
    config = replace(
        tiny,
        corpus=corpus,
        methods=("original",),
        meta_updates=None,
        judged_batches=None,
        edits=3,
        train_edits=3,
        run_dir=tmp_path / "run",
    )
    assert command.main(config) == 0
    (row,) = read_summary(config.run_dir).rows
    assert row.task == corpus and row.metrics["perplexity"] > 1
