"""Every value of every option of lifelong editing and its ablation, run to its report.

See `option_rows`.
"""

import pytest

from experiments.lifelong_editing.__main__ import command
from experiments.lifelong_editing.config import CORPORA, Config
from experiments.rledit_ablation.__main__ import command as ablate
from experiments.rledit_ablation.config import AblationConfig
from modeledit_jax.presets.preset import preset_names
from modeledit_jax.report.summary import read_summary
from tests.experiments.collections_of_facts import write_collections
from tests.experiments.option_rows import run_row, untried
from tests.lifelong.folders import write_facts, write_folder

EDITS = {"edits": "4", "batch_size": "2", "train_edits": "4"}
SMALL = EDITS | {
    "modules": "layers/1/mlp/*", "width": "16", "mlp_width": "32", "steps": "20", "plain": "20",
}  # fmt: skip
GIVEN = EDITS | {"model": "gpt2", "modules": "layers/1/mlp/down", "methods": "ft-m"}
ROWS = [
    SMALL | {"methods": " ".join(preset_names("lifelong")), "meta_updates": "1",
             "judged_batches": "1",
             "fraction": "0.5", "save": "kept", "layers": "3"},
    SMALL | {"corpus": "counterfact", "methods": "ft-l", "first": "1",
             "memory": "2GB"},
    SMALL | {"corpus": "zsre", "methods": "original ultraedit", "save": "~/kept"},
    SMALL | {"methods": "original memit", "modules": "layers/1/mlp/down", "layers": "3",
             "statistics": "own.json"},
    GIVEN | {"corpus": "fact-world"},
    GIVEN | {"corpus": "counterfact"},
    GIVEN | {"corpus": "zsre"},
    GIVEN | {"corpus": "own.json", "train_edits": "0", "seeds": "2"},
    SMALL | {"mesh": "data=2,model=4", "methods": "ft-m mend ultraedit rledit hiedit",
             "meta_updates": "1", "judged_batches": "1"},
    GIVEN | {"mesh": "model=2", "corpus": "zsre"},
    EDITS | {"model": "gpt2", "corpus": "counterfact", "contexts": "1", "meta_updates": "1",
             "methods": "original memit rledit ultraedit-text"},
]  # fmt: skip
ABLATIONS = [
    SMALL | {"meta_updates": "3", "judged_batches": "1", "memory": "2GB"},
    SMALL | {"questions": "accumulator", "corpus": "counterfact", "meta_updates": "1"},
    SMALL | {"questions": "size", "corpus": "zsre", "meta_updates": "1"},
]


def test_every_value_is_in_a_row():
    named = {"corpus": CORPORA, "methods": preset_names("lifelong")}
    assert untried(Config, ROWS, **named) == set()
    assert untried(AblationConfig, ABLATIONS, corpus=CORPORA) == set()
    assert ("corpus", "zsre") in untried(Config, ROWS[:1], **named)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A home and a current folder with all that the rows name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    write_collections(tmp_path / "data")
    write_facts(tmp_path / "own.json", 6)
    write_folder(tmp_path / "gpt2", "gpt2")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: "-".join(map(str, map(row.get, ("model", "corpus", "mesh"))))
)
def test_it_runs_to_the_report(row, files):
    run = run_row(command, row, files, files / "cache")
    found = {entry.method for entry in read_summary(run).rows}
    assert found == set(row["methods"].split())
    folder = {"kept": files / "kept", "~/kept": files / "home" / "kept"}.get(row.get("save", ""))
    if folder or "model" in row:
        assert any((folder or run / "networks").iterdir())
    assert not (files / "~").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ABLATIONS, ids=lambda row: row.get("corpus", "fact-world"))
def test_the_ablation_runs_to_the_report(row, files):
    run = run_row(ablate, row, files, files / "cache")
    asked = row.get("questions", "updates size memory past accumulator").split()
    assert {entry.factors["question"] for entry in read_summary(run).rows} == set(asked)
