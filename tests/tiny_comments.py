"""A small corpus and an untrained classifier for tests of bias mitigation."""

from functools import cache

import jax
import jax.numpy as jnp

from modeledit_jax.data.comments.synthetic import identity_corpus
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.subjects.text_classifiers import make_text_classifier
from modeledit_jax.subjects.training import TrainingConfig, train_classifiers
from modeledit_jax.tasks.debiasing import DebiasingTask, mitigate_bias
from modeledit_jax.types import Examples


@cache
def corpus():
    """Comments enough to learn something from, few enough to be quick."""
    return identity_corpus(train=1_500, validation=500, test=300, contexts=24)


@cache
def subject(seed=0):
    """A briefly trained, biased classifier."""
    data = corpus()
    module = make_text_classifier("boe", len(data.vocabulary), data.vectors)
    train = data.roles["train"]
    examples = Examples(jnp.asarray(train.tokens), jnp.asarray(train.label))
    config = TrainingConfig(epochs=12, batch_size=64, learning_rate=3e-3)
    params = train_classifiers(module, examples, config, jax.random.split(jax.random.key(seed), 1))
    return Subject(jax.tree.map(lambda leaf: leaf[0], params), flax_apply(module))


@cache
def task() -> DebiasingTask:
    """Less bias of that classifier, all else as `mitigate_bias` has it."""
    return mitigate_bias(subject(), corpus())
