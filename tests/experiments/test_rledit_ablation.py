"""Variants of RLEdit: each differs in one thing, and a tiny run of one question."""

import json
from dataclasses import fields, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.rledit_ablation.__main__ import command
from experiments.rledit_ablation.config import QuestionConfig
from experiments.rledit_ablation.run import variants
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import pad_batch


@pytest.fixture(scope="module")
def found():
    rows = jax.tree.map(lambda leaf: leaf[None], pad_batch([[1, 2, 3]], [[4]], length=8))
    stream = FactBatch(rows, rows, rows, None, None, None, np.zeros((1, 1), np.int32))
    bench = SimpleNamespace(
        config=QuestionConfig(), model=SimpleNamespace(modules=("m",)), edits=stream
    )
    bench.training = stream
    return variants(bench)


def differing(one, other):
    return {own.name for own in fields(one) if getattr(one, own.name) != getattr(other, own.name)}


def test_every_question_has_rledit_and_others(found):
    assert tuple(found) == QuestionConfig().questions
    for own in found.values():
        first = next(iter(own))
        assert first.startswith("rledit") and len(own) > 1
        assert own[first].trained_as == "rledit" and own[first].dtype is None


def test_variants_differ_in_what_their_names_say(found):
    rledit = found["size"]["rledit (0.0001)"].method
    for question, part in (("size", {"size", "size_gradient"}), ("memory", {"memory"})):
        for name, own in list(found[question].items())[1:]:
            assert own.method.editor == rledit.editor
            assert differing(own.method.training, rledit.training) == {"objective"}
            changed = differing(own.method.training.objective, rledit.training.objective)
            assert len(changed) == 1 and changed <= part, name
    for name, own in list(found["updates"].items())[3:]:
        assert differing(own.method.training, rledit.training) == {"updates"}
        assert own.method.training.updates == int(name)
    assert found["updates"]["untrained"].method.training is None
    assert found["updates"]["1 of a whole trajectory"].method.training.steps(60) == 60
    assert found["accumulator"]["bfloat16"].dtype == jnp.bfloat16


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_answers_are_written(tmp_path):
    config = QuestionConfig(
        questions=("accumulator",),
        edits=6,
        batch_size=3,
        train_edits=6,
        modules=("layers/1/mlp/*",),
        meta_updates=3,
        memory=2,
        width=16,
        mlp_width=32,
        layers=2,
        steps=20,
        plain=20,
        cache_dir=tmp_path / "cache",
        run_dir=tmp_path / "run",
    )
    assert command.main(config) == 0
    values = json.loads((config.run_dir / "questions.json").read_text())["values"]
    assert set(values["accumulator"]["overall"]) == {
        *("rledit", "bfloat16", "ft-m", "ft-m bfloat16", "ultraedit", "ultraedit bfloat16")
    }
    assert (config.run_dir / "figures" / "accumulator.png").exists()
    assert "bfloat16" in (config.run_dir / "questions.md").read_text()
    assert command.main(config) == 2  # not overwritten
    assert command.main(replace(config, resume=True)) == 0
