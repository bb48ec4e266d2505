"""Every value of every option of bias mitigation, run to its report; see `option_rows`."""

import pytest

from experiments.bias_mitigation.__main__ import command
from experiments.bias_mitigation.config import REWARDS, Config
from modeledit_jax.presets.preset import preset_names
from modeledit_jax.report.summary import read_summary
from tests.data.comment_files import write_sentences
from tests.data.published_files import write_comments
from tests.experiments.option_rows import FLAG, run_row, small_corpus, untried
from tests.lifelong.folders import write_folder

SMALL = {"seeds": "1", "epochs": "1", "budget": "20", "methods": "ppo-shift"}
PUBLISHED = ("jigsaw", "wikipedia_toxicity", "civil_comments")
HIDDEN = {"dataset": "jigsaw", "contexts": "real", "model": "tiny"}
ROWS = [
    {"methods": " ".join(preset_names("bias_mitigation")), "seeds": "2", "budget": "160"},
    {"dataset": "jigsaw", "contexts": "swapped", "subject": "cnn", "size": "400",
     "parametrization": "per-weight", "precision": "bfloat16"},
    {"dataset": "wikipedia_toxicity", "contexts": "swapped", "reward": "rates",
     "parametrization": "per-row", "observation": "weights", "precision": "tf32"},
    {"dataset": "civil_comments", "reward": "fped", "parametrization": "per-column"},
    {"cues": "0.5", "reward": "own_reward_of_debiasing:reward", "observation": "time",
     "tensorboard": FLAG, "horizon": "2", "sites_drawn": FLAG,
     "site": "fc1/kernel fc2/kernel", "sites_chosen": "1", "methods": "ppo-mask random-edit"},
    HIDDEN
    | {"methods": " ".join(preset_names("bias_real")), "seeds": "2", "budget": "80", "layer": "1",
       "reward": "fidelity",
       "folds": "0 2"},
    HIDDEN
    | {"methods": " ".join({*preset_names("bias_real")} - {"leace"}), "seeds": "2",
       "budget": "80", "layer": "2", "folds": "1", "site": "language_model/down/kernel"},
    HIDDEN | {"subject": "hidden", "pooling": "last", "layer": "0", "reward": "fairness",
              "tokens": "8", "folds": "1"},
    {"dataset": "wikipedia_toxicity", "subject": "boe", "balanced": FLAG, "pairing": "5",
     "term_rates": "0", "block_mean": "1",
     "folds": "2"},
    {
        "mesh": "tasks=4,population=2",
        "memory": "2GB",
        "seeds": "3",
        "methods": "ppo-shift snes-mask leace",
    },
]  # fmt: skip


def test_every_value_is_in_a_row():
    rows = [SMALL | row for row in ROWS]
    presets = {*preset_names("bias_mitigation"), *preset_names("bias_real")}
    named = {"reward": REWARDS, "methods": presets}
    assert untried(Config, rows, **named) == set()
    assert ("reward", "fped") in untried(Config, [SMALL], **named)
    assert ("subject", "hidden") in untried(Config, [SMALL])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: list(row.values())[-1].split()[0])
def test_it_runs_to_the_report(row, tmp_path, monkeypatch):
    small_corpus(monkeypatch)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    if row.get("dataset") in PUBLISHED:
        write_comments(monkeypatch, tmp_path / "data", row["dataset"])
    if row.get("model"):
        row = row | {"model": str(write_folder(tmp_path / "tiny"))}
        write_sentences(tmp_path / "data")
    (tmp_path / "own_reward_of_debiasing.py").write_text(
        "def reward(sets, edit):\n    return -edit.size()\n"
    )
    run = run_row(command, SMALL | row, tmp_path, tmp_path / "cache")
    found = {entry.method for entry in read_summary(run).rows}
    assert found >= {*(SMALL | row)["methods"].split(), "original", "tfidf"}


@pytest.mark.parametrize(
    "options",
    [
        ["--dataset", "jigsaw", "--layer", "0"],
        ["--dataset", "jigsaw", "--subject", "boe"],
        [],
    ],
)
def test_a_site_in_a_language_model_that_is_not_there_is_refused(options, capsys):
    with pytest.raises(SystemExit):
        command(["--site", "language_model/down/kernel", *options])
    assert "--subject hidden, --layer 1 or more" in capsys.readouterr().err
