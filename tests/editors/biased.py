"""A toy of identity bias: a small classifier that has learned to distrust two of four terms."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.data.comments.comments import CommentData, Comments, no_blocks, swap_identities
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.evaluation.fairness import counterfactual_dispersion
from modeledit_jax.subjects.subject import Subject, flax_apply, predict
from modeledit_jax.subjects.text_classifiers import BagOfEmbeddings
from modeledit_jax.subjects.training import TrainingConfig, train_classifier
from modeledit_jax.tasks.debiasing import mitigate_bias
from modeledit_jax.types import Examples

TERMS = range(2, 6)  # token ids
TOXIC_SHARE = (0.9, 0.8, 0.4, 0.2)
WORDS = {0: (6, 7, 10), 1: (8, 9, 10)}  # cue words by label; the last tells nothing
SIZES = {"train": 1200, "reward": 400, "select": 200, "test": 400}
MODULE = BagOfEmbeddings(11, features=8, hidden=(16, 8))
CONFIG = TrainingConfig(epochs=12, batch_size=64, learning_rate=1e-2)


def comments(size, seed):
    """One term or none, and three cues of which one in three is that of the other label."""
    rng = np.random.default_rng(seed)
    label = np.arange(size) % 2
    p = np.array(TOXIC_SHARE)
    term = np.array([rng.choice(4, p=(q := np.where(y, p, 1 - p)) / q.sum()) for y in label])
    named = rng.random(size) < 0.6
    cue_label = np.where(rng.random((size, 3)) < 1 / 3, 1 - label[:, None], label[:, None])
    cues = np.array([[rng.choice(WORDS[y]) for y in row] for row in cue_label])
    tokens = np.concatenate([cues, np.where(named, term + TERMS[0], 10)[:, None]], axis=1)
    groups = (np.eye(4)[term] * named[:, None]).astype(np.float32)
    return Comments(tokens.astype(np.int32), label.astype(np.int32), groups, no_blocks())


@lru_cache
def data():
    roles = {role: comments(size, seed) for seed, (role, size) in enumerate(SIZES.items())}
    swaps = {
        role: swap_identities(roles[role], TERMS, TERMS, range(4), contexts=60)
        for role in ("reward", "select", "test")
    }
    added = {"sentences": comments(60, 9).replace(label=np.zeros(60, np.int32))}
    names = ("<pad>", "<unknown>", "ada", "bea", "cea", "dea", *"efghi")
    return CommentData("toy", names, names[2:6], (False,) * 4, roles, swaps, added=added)


@lru_cache
def subject_params():
    train = data().roles["train"]
    examples = Examples(jnp.asarray(train.tokens), jnp.asarray(train.label))
    run = jax.jit(train_classifier, static_argnums=(0, 2))
    return run(MODULE, examples, CONFIG, jax.random.key(0))


def evenness(sets, edit):
    """A reward that compiles faster than the default."""
    own = sets["counterfactuals"]
    return -counterfactual_dispersion(own.outputs[:, 0], own.targets.blocks)


@lru_cache
def task(site="fc2/kernel"):
    subject = Subject(subject_params(), flax_apply(MODULE))
    return mitigate_bias(subject, data(), site=site, reward=evenness)


def scores(params, role="test"):
    """Logits of a role: those of its comments, and of its counterfactuals ``[K, V]``."""
    sets = task().roles[role]
    logits = jax.jit(predict, static_argnums=(0, 3))(flax_apply(MODULE), params, sets.x)
    logits = np.asarray(logits)[:, 0]
    return logits[: SIZES[role]], logits[np.asarray(sets.targets.blocks)]


def dispersion(params):
    """Share of the variance of the test counterfactuals' scores that the term decides."""
    blocks = scores(params)[1]
    return blocks.var(axis=1).mean() / blocks.var()


def accuracy(params):
    label = task().roles["test"].label[: SIZES["test"]]
    return np.mean((scores(params)[0] >= 0) == (label == 1))


def changed(params):
    """Paths of the leaves that are not bit for bit those of the subject."""
    before, after = (jax.tree.leaves(p) for p in (subject_params(), params))
    return {
        path
        for path, a, b in zip(leaf_paths(params), before, after, strict=True)
        if np.asarray(a).tobytes() != np.asarray(b).tobytes()
    }
