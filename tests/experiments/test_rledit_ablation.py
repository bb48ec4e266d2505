"""Variants of RLEdit: each differs in one thing, and a tiny run of one question."""

import dataclasses
from dataclasses import fields, replace

import jax.numpy as jnp
import pytest

from experiments.lifelong_editing.config import Config
from experiments.rledit_ablation.__main__ import command
from experiments.rledit_ablation.config import AblationConfig
from experiments.rledit_ablation.variants import make_variants
from modeledit_jax.report.summary import read_summary
from modeledit_jax.report.table import group_by
from tests.experiments.command_line import error_of


@pytest.fixture(scope="module")
def found():
    return make_variants(AblationConfig(meta_updates=30))


def differing(one, other):
    return {own.name for own in fields(one) if getattr(one, own.name) != getattr(other, own.name)}


def test_every_question_has_rledit_and_others(found):
    assert tuple(found) == AblationConfig().questions
    for variants in found.values():
        first, *others = variants.items()
        assert first[0].startswith("rledit") and first[1].is_rledit and others
        assert not any(variant.is_rledit for _, variant in others)


def test_variants_differ_in_what_their_names_say(found):
    rledit = found["size"]["rledit (0.0001)"].method
    assert rledit.training.updates == 30
    for question, part in (("size", {"size", "size_gradient"}), ("memory", {"memory"})):
        for name, variant in list(found[question].items())[1:]:
            assert differing(variant.method, rledit) == {"training"}
            training = variant.method.training
            assert differing(training, rledit.training) == {"objective"}
            changed = differing(training.objective, rledit.training.objective)
            assert len(changed) == 1 and changed <= part, name
    names = list(found["updates"])
    assert names == ["rledit (30)", "untrained", "1 of a whole trajectory", "3", "10"]
    for name in names[3:]:
        training = found["updates"][name].method.training
        assert differing(training, rledit.training) == {"updates"}
        assert training.updates == int(name)
    assert found["updates"]["untrained"].method == replace(rledit, training=None)
    assert found["updates"]["1 of a whole trajectory"].method.training.steps(60) == 60
    assert found["accumulator"]["bfloat16"].dtype == jnp.bfloat16
    assert found["accumulator"]["ft-m bfloat16"].preset == "ft-m"


def test_it_has_no_option_that_it_does_not_read():
    names = {own.name for own in dataclasses.fields(AblationConfig)}
    unread = {"methods", "fraction", "save", "mesh", "contexts", "statistics"}
    shared = {own.name for own in dataclasses.fields(Config)} - unread
    assert names == shared | {"questions"}


def test_questions_are_checked(tmp_path, capsys):
    config = AblationConfig(questions=(), run_dir=tmp_path / "run")
    assert "--questions must name at least one" in error_of(command.main, config, capsys)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_report_has_every_variant(tmp_path):
    config = AblationConfig(
        questions=("accumulator",),
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
        cache_dir=tmp_path / "cache",
        run_dir=tmp_path / "run",
    )
    assert command.main(config) == 0
    rows = group_by(read_summary(config.run_dir).rows, "variant")
    assert set(rows) == {
        *("rledit", "bfloat16", "ft-m", "ft-m bfloat16", "ultraedit", "ultraedit bfloat16")
    }
    assert {row.method for row in rows["ft-m bfloat16"]} == {"ft-m"}
    assert all(row.factors["question"] == "accumulator" for (row,) in rows.values())
    assert (config.run_dir / "figures" / "accumulator.png").exists()
    assert "| ultraedit bfloat16 |" in (config.run_dir / "report.md").read_text()
    assert command.main(config) == 2  # not overwritten
    assert command.main(replace(config, resume=True)) == 0
