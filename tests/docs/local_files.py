"""Files that a reader of the documentation is supposed to have, as small as can be."""

import jax

import modeledit_jax as me
from modeledit_jax.editors.policy.training import PolicyTrainer, PolicyTraining


def policy(folder, monkeypatch):
    """A policy, hardly trained."""
    splits = me.split_images(me.load_images("digits"))
    subject = me.train_subject(me.MLP(10), splits.train, jax.random.key(1))
    tasks = [me.forget_classes(subject, splits, digit) for digit in (3, 4)]
    training = PolicyTraining(updates=1, tasks=1, trials=4)
    trainer = PolicyTrainer.of(training, "shift", [tasks])
    trainer.editor(trainer.init(jax.random.key(0))).save(folder / "shift.safetensors")
