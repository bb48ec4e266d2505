"""A folder belongs to one method with its settings, on the facts and under the texts it reads."""

from dataclasses import dataclass, replace

import jax
import pytest

from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.lifelong.fact_task import encode_task
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.lifelong.methods.unedited import Unedited
from modeledit_jax.run.fact_folder import IDENTITY, claim
from tests.lifelong.folders import write_facts, write_folder

KEY = jax.random.key(3)


@dataclass(frozen=True)
class Named(Unedited):
    """Changes nothing; with a setting, and texts to edit under."""

    rate: float = 0.1
    contexts: int = 0


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The same facts without and with contexts."""
    folder = tmp_path_factory.mktemp("given")
    model = read_language_model(write_folder(folder / "llama"), "layers/1/mlp/down")
    edits, train = load_facts(write_facts(folder / "own.json", 9), edits=6, train=3)
    return [encode_task(model, edits, train, batch_size=3, contexts=texts)
            for texts in ((), ("I. ", "You. "))]  # fmt: skip


def test_the_same_work_goes_on(tasks, tmp_path):
    for _ in range(2):
        claim(tmp_path, Named(), tasks[0], KEY)


def test_texts_for_other_methods_do_not_count(tasks, tmp_path):
    claim(tmp_path / "none", Named(), tasks[0], KEY)
    claim(tmp_path / "none", Named(), tasks[1], KEY)
    claim(tmp_path / "two", Named(contexts=2), tasks[1], KEY)
    others = replace(tasks[1], contexts=("He. ", "She. "))
    with pytest.raises(ValueError, match="is of another contexts: repeat"):
        claim(tmp_path / "two", Named(contexts=2), others, KEY)


def test_other_work_is_refused_and_what_differs_is_named(tasks, tmp_path):
    claim(tmp_path, Named(), tasks[0], KEY)
    train = jax.tree.map(lambda leaf: leaf[:, ::-1], tasks[0].train)
    for method, task, key, what in (
        (Named(rate=0.2), tasks[0], KEY, "method"),
        (Unedited(), tasks[0], KEY, "method"),
        (Named(), replace(tasks[0], train=train), KEY, "train"),
        (Named(), replace(tasks[0], edits=tasks[0].train), KEY, "edits"),
        (Named(), tasks[0], jax.random.key(4), "key"),
    ):
        with pytest.raises(ValueError, match=f"is of another {what}: repeat"):
            claim(tmp_path, method, task, key)


def test_a_damaged_claim_is_no_claim(tasks, tmp_path):
    (tmp_path / IDENTITY).write_text("{")
    with pytest.raises(ValueError, match=r"edit_facts\.json is damaged: choose another"):
        claim(tmp_path, Named(), tasks[0], KEY)
