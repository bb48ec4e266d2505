"""Every notebook runs from top to bottom, keeps its promises and is stored clean.

The kernel is this interpreter and imports this checkout; it works in an empty folder at the small
sizes that ``MODELEDIT_NOTEBOOK_SMALL`` asks for.
"""

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

import modeledit_jax as me
from tests.data.comment_files import comment_rows, jigsaw
from tests.lifelong.folders import write_folder

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FACTS = {  # one expression of JSON values per notebook, evaluated after its last cell
    "quickstart": """{
        "interpreter": sys.executable,
        "package": modeledit_jax.tasks.__path__[0],
        "rows": [[*name, dict(row)] for name, row in measured[ACCURACIES].iterrows()],
        "called_one": {name: float(share) for name, share in called_one.items()},
        "after": after.tolist(),
        "scores": {name: values.mean(0).tolist() for name, values in scores.items()},
        "same": same,
        "files": sorted(str(path) for path in Path().rglob("*.png")),
    }""",
    "bias_mitigation": """{
        "before": means["original"],
        "after": means["ppo-shift"],
        "paired": dict(me.table(pairing_tasks, {"paired": paired}).loc["paired"].mean()),
        "verdicts": verdicts,
        "held_out": held_out,
        "real": [unedited, mended] if at_hand else None,
        "files": sorted(str(path) for path in Path().rglob("*.png")),
    }""",
    "lifelong_editing": """{
        "losses": loss_curve,
        "found": {name: run.scores for name, run in runs.items()},
        "curves": {
            name: [{metric: float(run.curves[metric][place]) for metric in run.scores}
                   for place in range(len(run.edits))]
            for name, run in runs.items()
        },
        "said": answers(networks["descent"]),
        "rewards": {name: float(reward) for name, reward in rewards.items()},
        "pretrained": joint.scores,
        "said_of_pretrained": dict(zip(prompts, said, strict=True)),
        "saved": sorted(path.name for path in (FOLDER / "edited").iterdir()),
        "files": sorted(str(path) for path in Path().rglob("*.png")),
    }""",
    "learn_to_edit": """{
        "rewards": rewards,
        "evaluations": first_results[0].cost.reward_evaluations,
        "asked": sorted({digit for task in tasks for digit in task.forget_classes}),
        "scores": {
            name: rows.values.tolist() for name, rows in measured[ACCURACIES].groupby("method")
        },
        "wide": {
            name: rows.values.tolist() for name, rows in wide_measured[ACCURACIES].groupby("method")
        },
        "apart": [same_outputs, distance(straight, turned), distance(straight, back)],
        "sklearn": sklearn_measured[ACCURACIES].values.tolist(),
        "called_seven": int(called[7]),
        "loaded": np.array_equal(
            policy.edit(first, key).params["fc2"]["kernel"],
            loaded.edit(first, key).params["fc2"]["kernel"],
        ),
        "turns": {name: rows.tolist() for name, rows in turns.items()},
        "adapted": adapted,
        "files": sorted(str(path) for path in Path().rglob("*.*")),
    }""",
    "scale": """{
        "devices": len(devices),
        "mesh": None if mesh is None else dict(mesh.shape),
        "tasks": len(tasks),
        "before": before.to_numpy().tolist(),
        "forgotten": forgotten.tolist(),
        "drop": drop.tolist(),
        "seconds": seconds,
        "files": sorted(str(path) for path in Path().rglob("*.*")),
    }""",
}


@pytest.fixture(autouse=True)
def small_and_isolated(monkeypatch, tmp_path):
    """What a user's fresh kernel would see, writing nowhere but into the test's folder."""
    monkeypatch.setenv("MODELEDIT_NOTEBOOK_SMALL", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # Sized for compile time: at the small sizes programs run for less time than they compile.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # the eight host devices of the other tests
    for variable in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))


def execute(path: Path, folder: Path) -> dict:
    """Runs a notebook in an empty folder and returns its facts.

    Raises:
      CellExecutionError: a cell raised an error; the message shows the cell and the traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    source = f"import json, sys\nimport modeledit_jax\nprint(json.dumps({FACTS[path.stem]}))"
    notebook.cells.append(nbformat.v4.new_code_cell(source))
    work, specs = folder / "work", folder / "kernels"
    work.mkdir()
    write_kernel_spec(specs / "python3")  # of this interpreter, whatever else is installed
    manager = AsyncKernelManager(
        kernel_name=notebook.metadata.kernelspec.name,
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(specs)]),
    )
    resources = {"metadata": {"path": str(work)}}
    client = NotebookClient(notebook, km=manager, timeout=300, resources=resources)
    client.execute(cleanup_kc=True)  # ends a kernel of ours, too
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert "warning" not in output.get("text", "").lower(), (cell.source, output.text)
    return json.loads(notebook.cells[-1].outputs[-1].text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_clean(path):
    text = path.read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert not re.search(r"(?<![\w.:/])/(home|root|work|tmp|Users|content|usr)/", text)
    # The package may be absent until the first cell has run.
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
    place = f"{address.removeprefix('https://github.com/')}/blob/main/notebooks/{path.name}"
    assert f"(https://colab.research.google.com/github/{place})" in notebook.cells[0].source
    assert f"git+{address}" in code[0].source
    assert "%pip install" in code[0].source and "import modeledit_jax" not in code[0].source


def test_every_notebook_has_facts():
    assert {path.stem for path in NOTEBOOKS} == FACTS.keys()


@pytest.mark.slow
@pytest.mark.timeout(600)  # half a minute, on a machine that is not busy otherwise
def test_quickstart(tmp_path):
    facts = execute(ROOT / "notebooks" / "quickstart.ipynb", tmp_path)
    assert facts["interpreter"] == sys.executable
    assert Path(facts["package"]) == ROOT / "modeledit_jax" / "tasks"

    metrics = {(method, number): values for method, _, number, values in facts["rows"]}
    for seed in (0, 1):
        original = metrics["original", seed]
        assert original["forget_accuracy_test"] > 0.8 and original["retain_accuracy_test"] > 0.9
        for editor in ("ppo-shift", "ppo-mask", "logit-mask", "retrain", "retrain-2"):
            edited = metrics[editor, seed]
            assert edited["forget_accuracy_test"] < 0.1, editor
            assert edited["retain_accuracy_test"] > original["retain_accuracy_test"] - 0.1, editor
    for editor, curve in facts["scores"].items():
        assert curve[-1] > curve[0] + 0.5, editor

    assert facts["called_one"]["before"] < 0.1 and facts["called_one"]["after"] > 0.5
    after = np.delete(np.array(facts["after"]), 7, axis=0)
    assert np.delete(after, 7, axis=1).trace() > 0.75 * after.sum()
    assert facts["same"] is True
    folder = "quickstart-results"
    names = ("confusion", "edit", "learning_curves", "renamed")
    assert facts["files"] == [f"{folder}/{name}.png" for name in names]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bias_mitigation(tmp_path, monkeypatch):
    monkeypatch.delenv("MODELEDIT_DATA_DIR", raising=False)
    facts = execute(ROOT / "notebooks" / "bias_mitigation.ipynb", tmp_path)
    assert len(facts["held_out"]) == 4 and facts["real"] is None
    before, after = facts["before"], facts["after"]
    assert before["accuracy"] > 0.8 and before["fped"] > 0.1
    assert after["fped"] < 0.8 * before["fped"] and after["accuracy"] > before["accuracy"] - 0.03
    assert after["counterfactual_dispersion"] < 0.7 * before["counterfactual_dispersion"]
    assert facts["paired"]["counterfactual_dispersion"] < before["counterfactual_dispersion"]
    assert facts["verdicts"]["all scores lowered by 3"] is False
    assert facts["files"] == ["bias-mitigation-results/terms.png"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bias_mitigation_on_real_comments(tmp_path, monkeypatch):
    """Its last part, on a few comments and a language model of random weights."""
    jigsaw(tmp_path / "data", comment_rows(480))
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MODELEDIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELEDIT_NOTEBOOK_MODEL", str(write_folder(tmp_path / "tiny")))
    facts = execute(ROOT / "notebooks" / "bias_mitigation.ipynb", tmp_path)
    before, after = facts["real"]
    assert after["windows_dispersion"] < before["windows_dispersion"]
    assert after.keys() == before.keys() and 0.0 <= before["accuracy"] <= 1.0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_lifelong_editing(tmp_path):
    facts = execute(ROOT / "notebooks" / "lifelong_editing.ipynb", tmp_path)
    assert facts["losses"][-1] < 0.8 * facts["losses"][0]
    metrics = {"efficacy", "generalization", "specificity", "retention"}
    assert facts["curves"].keys() == {"original", "ultraedit", "rledit", "descent"}
    for editor, curve in facts["curves"].items():
        assert len(curve) == 3, editor
        assert all(scores.keys() == metrics for scores in curve), editor
        assert all(0 <= score <= 1 for scores in curve for score in scores.values()), editor
        assert curve[-1] == facts["found"][editor]
    assert facts["found"]["descent"] != facts["found"]["original"]  # the reader's own editor edits
    assert len(facts["said"]) == 6
    rewards = facts["rewards"]
    assert rewards["a random action"] < rewards["nothing"]
    assert facts["files"] == ["lifelong-editing-results/trajectories.png"]
    assert facts["pretrained"].keys() == metrics and len(facts["said_of_pretrained"]) == 12
    assert {"config.json", "tokenizer.json"} < set(facts["saved"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lifelong_editing_of_the_real_model(tmp_path, monkeypatch):
    """SmolLM2-135M as the notebook has it; where it cannot be had, the test is skipped."""
    try:
        me.load_language_model("smollm2-135m", modules="layers/10/mlp/down")
    except (OSError, ValueError) as error:
        pytest.skip(f"no SmolLM2-135M: {error}")
    monkeypatch.setenv("MODELEDIT_NOTEBOOK_MODEL", "smollm2-135m")
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    facts = execute(ROOT / "notebooks" / "lifelong_editing.ipynb", tmp_path)
    assert facts["pretrained"]["efficacy"] > 0.9
    said = facts["said_of_pretrained"]
    assert said["The Eiffel Tower is in the city of"].startswith("Rome")
    assert said["The Louvre is in the city of"].startswith("Paris")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_learn_to_edit(tmp_path):
    facts = execute(ROOT / "notebooks" / "learn_to_edit.ipynb", tmp_path)
    assert np.mean(facts["rewards"][-5:]) > facts["rewards"][0] + 0.5
    assert facts["asked"] == [0, 1, 2, 3, 5, 6, 8, 9]  # 4 and 7 are new to the policy
    assert facts["evaluations"] == 0
    for scores in (facts["scores"], facts["wide"]):
        before, after = np.array(scores["original"]), np.array(scores["policy"])
        assert before.min() > 0.8
        assert after[:, 0].mean() < 0.1  # of the forgotten digit, on networks it never saw
        assert after[:, 1].mean() > before[:, 1].mean() - 0.06
        assert np.mean(scores["ridge"], axis=0)[0] < 0.1
    outputs, shuffled, back = facts["apart"]
    assert outputs < 1e-5 and shuffled > 0.5 and back < 1e-2
    (forget_before, retain_before), (forget_after, retain_after) = facts["sklearn"]
    assert forget_before > 0.8 and forget_after < 0.3 and retain_after > retain_before - 0.1
    assert facts["called_seven"] < 11  # of 36 sevens
    assert facts["loaded"] is True
    for name, rows in facts["turns"].items():
        rows = np.array(rows)
        assert rows.shape == (4, 10), name
        assert rows[1, 7] < 0.2 and rows[0].min() > 0.8, name  # the first request
    adapted = facts["adapted"]
    assert adapted["policy"] > max(adapted["original"], adapted["PPO, 50 evaluations"]) + 0.3
    assert adapted["policy + 50"] > adapted["policy"] - 0.05
    folder = "learn-to-edit-results"
    names = ("in_turn.png", "neurons.png", "policy.safetensors", "reward.png")
    assert facts["files"] == [f"{folder}/{name}" for name in names]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("devices", [1, 8])
def test_scale(devices, tmp_path, monkeypatch):
    """Six tasks on eight devices, so that two are padding."""
    monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count={devices}")
    facts = execute(ROOT / "notebooks" / "scale.ipynb", tmp_path)
    assert facts["devices"] == devices and facts["tasks"] == 6
    assert facts["mesh"] == (None if devices == 1 else {"tasks": devices})
    before, forgotten, drop = map(np.array, (facts["before"], facts["forgotten"], facts["drop"]))
    assert before.shape == (6, 2) and before.min() > 80  # percent
    assert forgotten.shape == drop.shape == (6,)
    assert forgotten.mean() < 15 and drop.mean() < 10
    assert facts["seconds"].keys() == {"training", "search", "measuring"}
    assert facts["files"] == ["scale-results/tasks.png"]
