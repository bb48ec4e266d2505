"""What is to be forgotten, as the options say: the data, the tasks, and the methods that fit."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.common.methods import Method
from experiments.unlearning.config import SHARES, EditorOptions, ForgetOptions
from modeledit_jax.data.images.splits import Splits
from modeledit_jax.editors.unlearning.in_turn import InTurn
from modeledit_jax.tasks.unlearning_scenarios import (
    Scenario,
    backdoor,
    confused_labels,
    random_samples,
    sub_class,
)

FORGET_SETS = {
    "classes": "",
    "random": "What is forgotten are training samples drawn at random; held-out roles hold the "
    "same samples to forget. A network that never saw them knows about as many of them as of any "
    "others: the goal is Retrain's accuracy, not 0.",
    "sub-class": "The classes of the network are the pairs 0 and 1, 2 and 3, …; what is forgotten "
    "is one label of a pair. A network that never saw it may still guess its pair: the goal is "
    "Retrain's accuracy.",
    "backdoor": "What is forgotten are the poisoned training images. Forget accuracy on test is "
    "the success rate of the attack, on images of other classes with the trigger; retain accuracy "
    "is that on clean images.",
    "confusion": "What is forgotten are the training examples of two classes whose labels were "
    "swapped. Forget accuracy on test is how often one of the two is taken for the other; retain "
    "accuracy is that of the true labels.",
    "in-turn": "The classes are forgotten one after another: every editor edits the network that "
    "it has left behind, with its whole budget for each request. Numbers are after the last one.",
}
"""What the reader of a report has to know of the forget sets."""


def scenarios_of(config: ForgetOptions, splits: Splits) -> list[Scenario]:
    """The scenarios that the options name; none where whole classes or given rows are forgotten.

    Raises:
      ValueError: classes or a share that the data do not allow.
    """
    if not isinstance(config, EditorOptions):
        return []
    share = config.forget_share
    if share is None:
        share = SHARES.get(config.scenario, 0.0)
    if config.scenario == "random":
        return [random_samples(splits, share)]
    requests = config.requests(splits.num_classes)
    if config.scenario == "sub-class":
        return [sub_class(splits, request) for request in requests]
    if config.scenario == "backdoor":
        return [backdoor(splits, requests[0][0], share)]
    if config.scenario == "confusion":
        return [confused_labels(splits, requests[0], share)]
    return []


def fitting(config: EditorOptions, methods: Sequence[Method]) -> list[Method]:
    """The methods as the scenario asks for them."""
    if config.scenario != "in-turn":
        return list(methods)
    (order,) = config.requests()
    return [replace(method, editor=InTurn(method.editor, order)) for method in methods]
