"""Every number of a report has a card, and every card is complete."""

import jax
import pytest

from modeledit_jax.evaluation import fairness_cards, knowledge_cards, unlearning_cards
from modeledit_jax.tasks.inner_forgetting import (
    InnerMeasurement,
    inner_measurements,
    inner_metrics,
)
from modeledit_jax.tasks.outputs import edit_metrics, role_outputs
from modeledit_jax.tasks.unlearning_metrics import EVALUATED_ROLES, unlearning_metrics
from tests import tiny

FAMILIES = (unlearning_cards, fairness_cards, knowledge_cards)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.split(".")[-1])
def test_cards_are_complete(family):
    names = [card.name for card in family.METRIC_CARDS]
    assert len(set(names)) == len(names)
    for card in family.METRIC_CARDS:
        assert all(vars(card).values()) and card.better in ("higher", "lower", "none")
        assert not any("\n" in text for text in vars(card).values())


@pytest.mark.slow
def test_every_number_of_an_unlearning_report_has_a_card():
    task = tiny.task(1)
    outputs = role_outputs(task, task.subject.params, EVALUATED_ROLES)
    found = unlearning_metrics(task, outputs, outputs, outputs)
    found |= edit_metrics(task.leaves, jax.tree.map(lambda leaf: 2 * leaf, task.leaves))
    measured = inner_measurements(task, task.subject.params, InnerMeasurement(repeats=1, steps=2))
    found |= inner_metrics(measured, measured)
    names = {card.name for card in unlearning_cards.METRIC_CARDS}
    assert names == {*found, "evaluations_to_target"}
