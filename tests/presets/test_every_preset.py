"""Every preset of unlearning and of bias mitigation builds, and edits a tiny task of its kind."""

import jax
import numpy as np
import pytest
from matplotlib.markers import MarkerStyle

from modeledit_jax.editors.debiasing.refit import LastLayerRefit
from modeledit_jax.editors.editor import Editor
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.edits.parametrization import PerRow
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.presets.preset import load_preset, preset_names
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.training import TrainingConfig
from tests import tiny
from tests.editors import biased

TASKS = {"unlearning": tiny.task, "bias_mitigation": biased.task, "bias_real": biased.task}
MODULES = {
    "unlearning": MLP(tiny.CLASSES, (5, 4)),
    "bias_mitigation": biased.MODULE,
    "bias_real": biased.MODULE,
}
ALL = [f"{family}/{name}" for family in TASKS for name in preset_names(family)]

CHANGED = {  # leaves that a method changes; the others change the site
    "original": set(),
    "logit-mask": {"head/bias"},
    "last-layer-refit": {"head/kernel", "head/bias"},
    "leace": {"fc2/kernel", "fc2/bias"},
    "inlp": {"fc2/kernel", "fc2/bias"},
    "cf-1": {"head/kernel", "head/bias"},
    "eu-1": {"head/kernel", "head/bias"},
}
TRAINED_ANEW = (
    *("retrain", "retrain-2", "dixon-rebalancing", "reweighing", "other-seed"),
    *("dixon-retraining", "counterfactual-retraining"),
)
SEARCHES = ("ppo", "snes", "openes", "random-search", "sep-cma-es", "pgpe")
QUICK = ("snes-mask",)
"""Searches of unlearning that are run in every test; the command's own test runs `ppo-shift`."""
SLOW = (
    *("clp", "mindiff", "neuron-ablation", "random-edit", "dixon-rebalancing", "other-seed"),
    *("retrain-2", "neggrad-plus-published", "cf-1", "eu", "eu-1", "l1-sparse", "ga"),
    *("random-label", "salun", "boundary-shrink", "scrub", "scrub-r", "bad-teacher", "unsir"),
    *("ssd", "fisher", "influence", "prototype-projection"),
    *("dixon-retraining", "counterfactual-retraining"),
)
"""Methods whose own tests train or search already, or that differ from another in one number."""


def build(name):
    """The method as an experiment would build it, but small."""
    family = name.split("/")[0]
    context = {
        "budget": 40,
        "parametrization": PerRow(),
        "rank": 1,
        "module": MODULES[family],
        "training": TrainingConfig(epochs=1, batch_size=20),
        "steps": 5,
        "cycle": 2,  # of SCRUB, which forgets from the second on
        "ascents": 1,
        "observation": "time",
        "refits": 1,
        "trials": 1,
        "strengths": (1.0,),
    }
    return load_preset(name).build(**context)


@pytest.mark.parametrize("name", ALL)
def test_it_builds_and_is_drawn_unlike_the_others(name):
    found, editor = load_preset(name), build(name)
    assert isinstance(editor, Editor) and type(editor) is found.kind
    family, short = name.split("/")
    if isinstance(editor, SearchEditor):
        assert editor.world == short.rsplit("-", 1)[1] and editor.budget == 40
        assert editor.updates >= 1 and "trials" in found.tuned
    others = [load_preset(n, family).style for n in preset_names(family) if n != short]
    assert found.style is None or found.style not in others
    # The white edge that figures draw is refused by others, with a warning.
    assert found.style is None or MarkerStyle(found.style.marker).is_filled()


def _marked():
    for name in ALL:
        family, short = name.split("/")
        search = short.startswith(SEARCHES)
        # What real comments share with the others edits in the same way.
        slow = short in SLOW or (search and (family != "unlearning" or short not in QUICK))
        slow = slow or (family == "bias_real" and name.replace("real", "mitigation") in ALL)
        yield pytest.param(name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("name", list(_marked()))
def test_it_edits_a_tiny_task_to_the_end(name):
    family, short = name.split("/")
    editor, task = build(name), TASKS[family]()
    if isinstance(editor, LastLayerRefit):
        assert (editor.refits, editor.trials) == (1, 1)
    result = editor.edit(task, jax.random.key(0))
    leaves = [jax.tree.leaves(params) for params in (task.subject.params, result.params)]
    paths = leaf_paths(task.subject.params)
    changed = {path for path, a, b in zip(paths, *leaves, strict=True) if not np.array_equal(a, b)}
    if short in TRAINED_ANEW:
        assert "fc1/kernel" in changed
    elif short != "neuron-ablation":  # it may find nothing that helps
        assert changed == CHANGED.get(short, {"fc2/kernel"})
    for leaf in leaves[1]:
        assert np.all(np.isfinite(leaf))
    assert 0 <= result.cost.reward_evaluations <= 40
    assert (result.cost.reward_evaluations > 0) == (
        isinstance(editor, SearchEditor) or short == "neuron-ablation"
    )
