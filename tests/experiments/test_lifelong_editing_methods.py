"""From names to methods: what each is, and that the controls differ in one thing."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.lifelong_editing.config import (
    ALL_METHODS,
    AMORTIZED,
    CHOSEN_LAYERS,
    CLOSED_FORM,
    JOINT,
    LONG_TRAINING,
    PRECONDITIONED,
    REPLAYED,
    Config,
)
from experiments.lifelong_editing.methods import build_method, load_methods
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.unedited import Unedited
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.presets.preset import preset, preset_names

CONFIG = Config(judged_batches=3, meta_updates=7, fraction=0.25)
EVERY = (
    *(ALL_METHODS + CLOSED_FORM + AMORTIZED + JOINT + CHOSEN_LAYERS + REPLAYED),
    *(PRECONDITIONED + LONG_TRAINING),
)
ROUTED = ("hiedit", "hiedit-ste", "random-k", "fixed-k", "top-norm-k")


@pytest.fixture(scope="module")
def methods():
    return {own.name: build_method(own) for own in load_methods(EVERY, CONFIG)}


def test_every_preset_is_run_by_default_or_to_be_named():
    assert sorted(EVERY) == list(preset_names("lifelong"))


def test_every_preset_is_a_method_with_a_style_and_a_role(methods):
    for own in load_methods(EVERY, CONFIG):
        assert isinstance(methods[own.name], StreamEditor)
        hash(methods[own.name])  # it is static under jit
        assert own.style is not None
        assert (own.role == "control") == (own.name in ("original", *ROUTED[2:]))
        assert own.tuned or not own.settings
    styles = [own.style for own in load_methods(EVERY, CONFIG)]
    assert len(set(styles)) == len(styles)


def test_which_are_trained_and_how(methods):
    trained = {name for name, own in methods.items() if own.gradient_steps(0)}
    along = set(ALL_METHODS) - {"original", "ft-l", "ft-m", "ultraedit"} | {"rledit-text"}
    assert trained == along | set(LONG_TRAINING) | set(AMORTIZED) | set(CHOSEN_LAYERS)
    assert methods["memit-amortized"].gradient_steps(2) == 200 + 2 * 3
    assert methods["dafnet"].training.updates == methods["dafnet"].gradient_steps(9) == 7
    for name in along:
        own = methods[name]
        training = (own.editor if name in PRECONDITIONED else own).training
        alone = name in ("mend", "malmen")
        assert training.updates == methods[name].gradient_steps(9) == 7
        assert training.keep_edits != alone
        assert training.objective.memory == (1 if alone else 3)
    assert isinstance(methods["original"], Unedited)
    assert isinstance(methods["ft-l"], FineTune)
    assert methods["ft-l"].loss == "last" and methods["ft-m"].loss == "teacher"
    assert methods["ft-m"].gradient_steps(4) == 100


def test_controls_are_rledit_but_for_the_routing(methods):
    for name in ROUTED:
        own = methods[name]
        assert replace(own, routing=None) == methods["rledit"]
        assert own.routing.fraction == 0.25
    assert methods["hiedit"].routing.gradient == "reinforce"
    assert methods["hiedit-ste"].routing.gradient == "ste"


def test_ours_are_the_methods_they_are_called_after(methods):
    given = Config(model=Path("anywhere"))
    for name in PRECONDITIONED:
        alone = name.removesuffix("-text")
        assert methods[name].editor == methods[alone]
        own, inner = (build_method(*load_methods([n], given)) for n in (name, alone))
        assert own.editor == inner


def test_amortized_methods_differ_in_how_values_are_found(methods):
    for name in AMORTIZED:
        own, alone = methods[name], methods[name.removesuffix("-amortized")]
        assert replace(own, writer=None, values=alone.values) == alone


def test_joint_methods_take_the_values_and_the_division_that_are_ours(methods):
    for name, alone in (("memit-joint", "memit-seq"), ("alphaedit-joint", "alphaedit")):
        own, alone = methods[name], methods[alone]
        assert (own.source, own.sharing) == ("unedited", "least")
        assert (alone.source, alone.sharing) == ("current", "even")
        same = {"source": "current", "sharing": "even", "values": alone.values}
        assert replace(own, **same, weight=alone.weight) == alone
        assert replace(own.values, clamp=alone.values.clamp) == alone.values


def test_routed_closed_form_is_the_method_it_is_called_after_with_values_found_ahead():
    for model in (None, Path("anywhere")):
        given = Config(model=model, judged_batches=3, meta_updates=7)
        for name in CHOSEN_LAYERS:
            names = (name, name.removesuffix("-routed"))
            own, alone = map(build_method, load_methods(names, given))
            assert replace(own.editor, source="current") == alone
            assert own.editor.source == "unedited" and own.finds_ahead is not None
            assert own.routing.router.learn_count and own.routing.how == "learned"
            assert own.gradient_steps(0) == own.training.updates == 7
            assert own.training.objective.memory == 3


def test_the_library_builds_what_the_command_runs_by_default():
    for name in EVERY:
        (own,) = load_methods([name], Config())
        assert preset(f"lifelong/{name}") == build_method(own)
    assert preset("lifelong/rledit").training.objective.memory == 6
    assert preset("lifelong/rledit", meta_updates=5).training.updates == 5


def test_a_class_that_edits_no_stream_is_refused(tmp_path):
    (tmp_path / "no-method.toml").write_text(
        'class = "modeledit_jax.lifelong.methods.router:RouterConfig"\n'
    )
    (own,) = load_methods([str(tmp_path / "no-method.toml")], Config())
    with pytest.raises(ValueError, match="no-method: the class RouterConfig edits no stream"):
        build_method(own)


def test_contexts_are_those_of_the_command():
    for name in CLOSED_FORM + AMORTIZED + JOINT + CHOSEN_LAYERS + REPLAYED:
        (own,) = load_methods([name], Config(contexts=2))
        assert build_method(own).contexts == 2
        assert preset(f"lifelong/{name}").contexts == 5


def test_options_that_set_nothing_are_refused():
    with pytest.raises(ValueError, match=r"--fraction sets nothing in rledit: leave it out"):
        load_methods(["rledit"], Config(fraction=0.5))


def test_two_methods_of_one_name_are_refused(tmp_path):
    (tmp_path / "original.toml").write_text(
        'class = "modeledit_jax.lifelong.methods.unedited:Unedited"\n'
    )
    with pytest.raises(ValueError, match="two called original: rename"):
        load_methods(["original", str(tmp_path / "original.toml")], Config())
