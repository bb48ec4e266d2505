"""What holds for every specialized editor, at the site and in the whole network.

The table is that of the presets, so that a new method is checked by being one.
"""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.presets.preset import load_preset, preset_names
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.training import TrainingConfig, train_subjects
from modeledit_jax.tasks.unlearning import forget_samples
from tests import tiny

KEY = jax.random.key(0)
FORGOTTEN = 2
ALSO = {  # settings that make a method forget this small a class, in few steps
    "ga": {"learning_rate": 0.05},
    "boundary-shrink": {"learning_rate": 0.1, "steps": 60},
    "bad-teacher": {"learning_rate": 0.02},
    "unsir": {"learning_rate": 0.1},
    "scrub": {"learning_rate": 0.03, "cycle": 20},
    "scrub-r": {"learning_rate": 0.03, "cycle": 20},
    "neggrad-plus": {"alpha": 0.8, "learning_rate": 0.1},
    "neggrad-plus-published": {"alpha": 0.8, "learning_rate": 0.1},
    "random-label": {"learning_rate": 0.1, "retain_weight": 1.0},
    "salun": {"learning_rate": 0.1, "retain_weight": 1.0},
    "ssd": {"selection": 1.0},
    "fisher": {"noise": 3e-3},
    "influence": {"strength": 5.0, "damping": 1e-2},
    "ft": {"learning_rate": 1.0},
    "cf-1": {"learning_rate": 1.0},
    "l1-sparse": {"learning_rate": 0.3, "sparsity": 0.01},
}
IN_NETWORK = {  # likewise where all layers change
    "ga": {"learning_rate": 0.012},
    "scrub": {"learning_rate": 0.01},
    "scrub-r": {"learning_rate": 0.01},
    "neggrad-plus": {"learning_rate": 0.03},
    "neggrad-plus-published": {"learning_rate": 0.03},
    "l1-sparse": {"learning_rate": 0.1},
}
SHORT = {"steps": 60, "batch_size": 20}


def _names():
    """Presets of editors that have a scope."""
    found = {name: load_preset(name, "unlearning") for name in preset_names("unlearning")}
    return [n for n, one in found.items() if "scope" in one.kind.__dataclass_fields__]


NAMES = _names()


def build(name, **settings):
    preset = load_preset(name, "unlearning")
    editor = preset.with_settings(settings).build()
    fields = type(editor).__dataclass_fields__
    wanted = SHORT | ALSO.get(name, {})
    if settings.get("scope") == "network":
        wanted |= IN_NETWORK.get(name, {})
    also = {k: v for k, v in wanted.items() if k in fields}
    return replace(editor, **also)


@lru_cache
def task():
    train = tiny.splits().train
    examples = replace(train, x=jnp.asarray(train.x), y=jnp.asarray(train.y))
    config = TrainingConfig(40, 20, learning_rate=0.02)
    key = jax.random.split(KEY, 1)
    subject = train_subjects(MLP(tiny.CLASSES, (8, 8)), examples, config, key)[0]
    return tiny.task(FORGOTTEN, base=subject)


@lru_cache
def edited(name, scope):
    editor = build(name, scope=scope)
    return editor, editor.edit(task(), KEY).params


def _probability(params, name):
    """Mean probability of the true class on a set of the training examples."""
    sets = task().roles["train"]
    logits = np.asarray(task().subject.apply(params, jnp.asarray(sets.x)))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = (p / p.sum(1, keepdims=True))[np.arange(60), sets.targets]
    return p[sets.weights[name] > 0].mean()


def test_the_table_has_all_specialized_editors():
    gradients = {"ft", "cf-1", "eu", "eu-1", "ga", "neggrad-plus", "random-label", "salun"}
    gradients |= {"l1-sparse", "scrub", "scrub-r", "bad-teacher", "unsir", "boundary-shrink"}
    assert {*gradients, "ssd", "fisher", "influence"} <= set(NAMES)
    assert not any(issubclass(load_preset(n, "unlearning").kind, SearchEditor) for n in NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["site", "network"])
@pytest.mark.parametrize("name", NAMES)
def test_it_moves_what_it_may_move_and_forgets_in_part(name, scope):
    if name.endswith("-1") and scope == "site":
        scope = 1
    params = edited(name, scope)[1]
    before, after = (jax.tree.leaves(p) for p in (task().subject.params, params))
    moved = {
        path
        for path, a, b in zip(leaf_paths(params), before, after, strict=True)
        if np.asarray(a).tobytes() != np.asarray(b).tobytes()
    }
    allowed = {"site": {"fc2/kernel"}, 1: {"head/bias", "head/kernel"}}
    if scope == "network":
        assert {"fc1/kernel", "head/kernel"} <= moved
    else:
        assert moved == allowed[scope]
    lost = _probability(task().subject.params, "forget") - _probability(params, "forget")
    assert lost > 0.01, f"the class is as probable as before: {lost}"
    assert _probability(params, "retain") > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_its_key_decides_all(name):
    editor, params = edited(name, 1 if name.endswith("-1") else "site")
    again = editor.edit(task(), KEY).params
    jax.tree.map(np.testing.assert_array_equal, params, again)
    other = editor.edit(task(), jax.random.key(1)).params
    draws = name not in ("ssd", "influence")
    same = [
        np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (params, other)), strict=True)
    ]
    assert all(same) != draws


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n != "unsir"])
def test_single_samples_can_be_forgotten_too(name):
    samples = forget_samples(task().subject, tiny.splits(), [3, 4, 5])
    params = build(name).edit(samples, KEY).params
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))
