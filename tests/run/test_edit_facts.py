"""Facts edited into a model in one call: what comes out, resumption, a method of the user's own."""

import json
import sys
from dataclasses import dataclass, field, replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.choices import ChoiceQuestion
from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.data.facts.questions import group_questions
from modeledit_jax.data.facts.records import Probe
from modeledit_jax.evaluation.edit_scores import score_edits, summarize
from modeledit_jax.lifelong.context_sampling import sample_contexts
from modeledit_jax.lifelong.fact_task import encode_task
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.hypernetwork import HypernetworkConfig
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.methods.meta_training import MetaTraining
from modeledit_jax.lifelong.methods.unedited import Unedited
from modeledit_jax.lifelong.scoring import predict_with
from modeledit_jax.presets.preset import preset
from modeledit_jax.run import fact_run, resumable
from modeledit_jax.run.edit_facts import edit_facts
from modeledit_jax.run.fact_run import run_fact_task
from modeledit_jax.run.known_facts import known_facts
from tests.lifelong.folders import write_facts, write_folder
from tests.run.learned_noise import LearnedNoise

edit_facts_module = sys.modules["modeledit_jax.run.edit_facts"]  # hidden by its function
KEY = jax.random.key(3)
TIMES = ("ms_per_edit",)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("models") / "llama")
    return read_language_model(folder, "layers/1/mlp/down")


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    path = write_facts(tmp_path_factory.mktemp("facts") / "own.json", 9)
    return load_facts(path, edits=6, train=3)


def edit(method, model, facts, **options):
    edits, train = facts
    return edit_facts(method, model, edits, train=train, key=KEY, batch_size=3, **options)


def assert_same(one, other):
    chex.assert_trees_all_equal(one.kernels, other.kernels)
    chex.assert_trees_all_equal(one.curves, other.curves)
    for name, value in one.metrics.items():
        if name not in TIMES:
            assert other.metrics[name] == value, name


@pytest.mark.slow
def test_fine_tuning_writes_what_it_is_given(model, facts):
    run = edit(FineTune(learning_rate=1e-2, steps=40), model, facts)
    assert set(run.scores) == {"efficacy", "generalization", "specificity", "retention"}
    assert run.scores["efficacy"] > 0.6
    np.testing.assert_array_equal(run.edits, [3, 6])
    np.testing.assert_array_equal(run.masks, [[1.0], [1.0]])
    assert run.curves["efficacy"][-1] == run.metrics["efficacy"]
    assert run.cost.gradient_steps == 80 and run.cost.seconds > 0
    task = encode_task(model, facts[0], batch_size=3)
    questions = group_questions(task.edits, lambda places: 2)
    predict = predict_with(model.editable, run.kernels)
    scores = score_edits(predict, questions, task.edits.real)
    np.testing.assert_allclose(run.scores["efficacy"], summarize(scores)["efficacy"], rtol=1e-6)
    assert run.metrics["weight_shift"] > 0 and run.metrics["perplexity"] > 1


@pytest.mark.slow
def test_a_method_of_the_users_own_learns_and_resumes(model, facts, tmp_path, monkeypatch):
    """Stopped in either of its trainings and in the stream, then resumed: the same bits."""
    whole = edit(LearnedNoise(), model, facts)
    assert whole.state["size"] > 0 and whole.cost.gradient_steps == 16
    real, saves = resumable.Checkpoints.save, []

    def save_and_stop(self, step, tree):
        real(self, step, tree)
        saves.append(step)
        if len(saves) in (2, 5, 7):
            raise KeyboardInterrupt

    monkeypatch.setattr(resumable.Checkpoints, "save", save_and_stop)
    monkeypatch.setattr(resumable, "SAVE_EVERY", 0.0)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            edit(LearnedNoise(), model, facts, folder=tmp_path / "run")
    assert_same(whole, edit(LearnedNoise(), model, facts, folder=tmp_path / "run"))
    assert saves == [3, 6, 8, 3, 6, 8, 1, 2]  # nothing that was done is done again
    assert (tmp_path / "run" / "training-2").is_dir()


@pytest.mark.slow
def test_a_folder_is_that_of_one_run(model, facts, tmp_path):
    one = edit(LearnedNoise(), model, facts, folder=tmp_path)
    assert_same(one, edit(LearnedNoise(), model, facts, folder=tmp_path))
    with pytest.raises(ValueError, match="is of another method: repeat"):
        edit(LearnedNoise(rate=0.02), model, facts, folder=tmp_path)
    other = replace(
        model, editable=model.editable.replace(params=jax.tree.map(jnp.zeros_like, model.params))
    )
    with pytest.raises(ValueError, match="is of another model: repeat"):
        edit(LearnedNoise(), other, facts, folder=tmp_path)
    with pytest.raises(ValueError, match="is of another edits and key"):
        edits, train = facts
        edit_facts(
            LearnedNoise(), model, edits.records[::-1], train=train, key=jax.random.key(4),
            batch_size=3, folder=tmp_path,
        )  # fmt: skip


@dataclass(frozen=True)
class UnderContexts(Unedited):
    """Changes nothing, and says how many contexts it was given."""

    contexts: int = 2

    def init(self, model, key):
        return jnp.zeros((), jnp.int32)

    def edit(self, model, kernels, state, batch, key):
        return {}, state + batch.contexts.contexts


@pytest.mark.slow
def test_contexts_are_sampled_once_and_kept(model, facts, tmp_path, monkeypatch):
    run = edit(UnderContexts(), model, facts, folder=tmp_path)
    assert int(run.state) == 2 * 2 and len(run.contexts) == 2
    assert run.contexts == sample_contexts(model, 2, jax.random.fold_in(KEY, 3))
    kept = json.loads((tmp_path / "edit_facts.json").read_text())
    assert kept["contexts"] == list(run.contexts)
    # Another device could draw other texts: a run goes on with those that it began with.
    monkeypatch.setattr(edit_facts_module, "sample_contexts", lambda *_: ("I. ", "You. "))
    assert edit(UnderContexts(), model, facts, folder=tmp_path).contexts == run.contexts
    assert edit(UnderContexts(), model, facts).contexts == ("I. ", "You. ")
    with pytest.raises(ValueError, match="is of another method and edits and contexts"):
        edit(UnderContexts(contexts=1), model, facts, folder=tmp_path)
    assert edit(Unedited(), model, facts).contexts == ()


@pytest.mark.slow
def test_further_questions_become_metrics(model, facts, tmp_path):
    """An unedited model gives what it says; one that is changed beyond recognition does not."""
    prompts = ["The dog slept", "She closed the", "It rained all", "He could not"]
    said = model.complete(prompts, tokens=1)
    own = [Probe(prompt, word) for prompt, word in zip(prompts, said, strict=True)]
    known = known_facts(model, own, cache_dir=tmp_path)  # a piece of a word is read otherwise
    assert known
    choices = [ChoiceQuestion(probe.prompt, probe.answer, ("the door",)) for probe in known]
    options = {"known": known, "choices": choices}
    run = edit(Unedited(), model, facts, **options)
    assert run.metrics["known_recall"] == 1
    edited = edit(FineTune(learning_rate=1.0, steps=5), model, facts, **options)
    assert edited.metrics["known_recall"] < 1 and 0 <= edited.metrics["multiple_choice"] <= 1


@pytest.mark.slow
def test_sizes_come_from_the_task(model, facts):
    method = preset("lifelong/ultraedit")
    assert method.rows is None
    run = edit(method, model, facts)
    assert run.metrics["state_bytes"] > 0 and run.cost.gradient_steps == 0
    task = encode_task(model, facts[0], facts[1], batch_size=3)
    sized = method.sized_for(task.model, task.streams)
    assert sized.rows % 8 == 0 and sized == replace(method, rows=sized.rows)
    assert sized.sized_for(task.model, []) is sized  # what is given stays
    assert_same(run, run_fact_task(sized, task, KEY))


def test_a_learned_method_needs_something_to_learn_from(model, facts):
    method = preset("lifelong/rledit", meta_updates=2)
    with pytest.raises(ValueError, match="learns from facts about other subjects"):
        edit_facts(method, model, facts[0], key=KEY)
    untrained = replace(method, training=None)
    assert isinstance(untrained, HypernetworkEditor) and untrained.gradient_steps(5) == 0


def test_a_method_without_room_is_refused_before_it_claims_the_folder(model, facts, tmp_path):
    method = HypernetworkEditor("ultraedit", rows=2)
    with pytest.raises(ValueError, match=r"rows=2: a batch has \d+ answer tokens"):
        edit(method, model, facts, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_small_memory_gives_the_same_edits(model, facts):
    """Rounded otherwise: some facts of the batch, and some questions, are read at a time."""
    network, training = HypernetworkConfig(rank=2, num_blocks=1), MetaTraining(updates=3)
    method, lines = HypernetworkEditor("malmen", network=network, training=training), []

    def run(**options):
        edits, train = facts
        return edit_facts(
            method, model, edits, train=train, key=KEY, batch_size=6, announce=lines.append,
            **options,
        )  # fmt: skip

    whole, few = run(), run(memory=420_000)
    training, editing, few_training, few_editing = lines
    assert "100 questions at a time, 6 of 6 facts of a batch in training" in training
    assert "6 questions at a time, 3 of 6 facts of a batch in training" in few_training
    assert editing.endswith("6 of 6 facts of a batch in editing")
    assert few_editing.endswith("of 420 KB: 6 of 6 facts of a batch in editing")
    for module, kernel in whole.kernels.items():
        np.testing.assert_allclose(few.kernels[module], kernel, rtol=1e-3, atol=1e-4)
    for metric, curve in whole.curves.items():
        np.testing.assert_allclose(few.curves[metric], curve, rtol=1e-2, atol=1e-2)


@dataclass(frozen=True)
class Observed(FineTune):
    """Fine-tuning that says how many facts it may read at a time."""

    rows: list[int | None] = field(default_factory=list, hash=False, compare=False)

    def edit(self, model, kernels, state, batch, key):
        self.rows.append(model.rows_at_once)
        return super().edit(model, kernels, state, batch, key)


@pytest.mark.slow
def test_a_stream_is_edited_as_it_was_planned(model, facts, monkeypatch):
    method, plan = Observed(learning_rate=1e-2, steps=2), fact_run.plan_editing
    whole = edit(method, model, facts)
    assert set(method.rows) == {None}
    monkeypatch.setattr(fact_run, "plan_editing", lambda *given: replace(plan(*given), facts=1))
    few = edit(method, model, facts)
    assert method.rows[-1] == 1
    for module, kernel in whole.kernels.items():
        np.testing.assert_allclose(few.kernels[module], kernel, rtol=1e-3, atol=1e-5)


def test_a_memory_that_holds_no_question_is_refused_before_it_claims_the_folder(
    model, facts, tmp_path
):
    with pytest.raises(ValueError, match="too small for one question to the model, which takes"):
        edit(FineTune(), model, facts, memory=200_000, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_kernels_that_are_not_finite_are_no_result(model, facts):
    with pytest.raises(ValueError, match="layers/1/mlp/down hold values that are not finite"):
        edit(FineTune(learning_rate=1e38, steps=3), model, facts)
