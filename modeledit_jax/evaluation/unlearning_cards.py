"""What each number of an unlearning report means: one card per metric, for reports and docs.

Names are those of `unlearning_metrics` and `edit_metrics`. *Forget* examples are those to be
forgotten, *retain* examples all others; *Retrain* is a network trained anew without the forget
examples, *original* the network before its edit.
"""

from modeledit_jax.evaluation.metric_card import MetricCard

_RUM = "RUM (Zhao et al. 2024)"
_MALIK = "Malik 2026 (arXiv 2606.13461)"


def _accuracies() -> list[MetricCard]:
    cards = []
    for name, better, before in (
        ("forget", "none", "as high as on any class; below it after forgetting"),
        ("retain", "higher", "the base of comparison"),
    ):
        for role in ("train", "test"):
            cards.append(
                MetricCard(
                    f"{name}_accuracy_{role}",
                    f"share of the {name} examples of {role} that are classified right; "
                    "Retrain's value is the goal",
                    "mean of 1[argmax logits = label]",
                    _RUM,
                    "0…1",
                    better,
                    before,
                )
            )
    return cards


def _distances() -> list[MetricCard]:
    return [
        MetricCard(
            f"total_variation_{name}_test",
            f"mean distance of the predictions from Retrain's on {name} examples of test, to be "
            "compared with that of a second retraining",
            "mean ½ Σ_c |p_c − p_c(Retrain)|",
            "standard; preferred to the ZRF score of Chundawat et al. 2023, which depends on the "
            "number of classes",
            "0…1",
            "lower",
            "large on forget examples, on retain examples that of two trainings",
        )
        for name in ("forget", "retain")
    ]


def _inside(layers: int = 2) -> list[MetricCard]:
    """Of `inner_metrics`; the gaps of networks with more layers are as those of two."""
    gaps = [
        MetricCard(
            f"prototype_gap_{shots}_layer_{layer}",
            f"how much better than in Retrain what the {_FROM_THE_END[layer]} layer reads tells "
            f"forget examples of test apart by {shots} labeled example(s) of each class; below 0 "
            "it is erased beyond that. Networks with more layers have more of these",
            "recall of the forget examples by nearest class mean − Retrain's, mean of 20 draws",
            "in the manner of the prototypical relearning attack (arXiv 2506.01318)",
            "−1…1",
            "none",
            "above 0",
        )
        for layer in range(1, layers + 1)
        for shots in (1, 5)
    ]
    relearning = [
        MetricCard(
            f"relearn_index{suffix}",
            f"how long training on all examples takes to bring the forgotten back{words}, relative "
            "to Retrain; at most 500 steps are taken, so that large values are lower bounds",
            "steps until forget accuracy on train is 95 % of the original's / max(Retrain's, 1)",
            "anamnesis index (Chundawat et al. 2023); with a fresh head: this project",
            "0…500",
            "none",
            before,
        )
        for suffix, words, before in (
            ("", "", "0"),
            ("_fresh", ", where the last layer starts anew", "below 1"),
        )
    ]
    membership = MetricCard(
        "membership_gap",
        "how much better than Retrain's the losses tell forget examples of train from examples "
        "that no network was trained on: of test, and of the same kind but for single samples",
        "AUC of −loss, trained on against not − Retrain's",
        "loss attack of Yeom et al. 2018, as an AUC in place of a fitted threshold",
        "−1…1",
        "none",
        "above 0 where training overfits",
    )
    return [*gaps, *relearning, membership]


_FROM_THE_END = {1: "last", 2: "second last"}


METRIC_CARDS: tuple[MetricCard, ...] = (
    *_accuracies(),
    MetricCard(
        "retain_drop_test",
        "retain accuracy on test that the edit costs; below 0 is a gain",
        "retain_accuracy_test of the original − that of the edited network",
        _MALIK,
        "−1…1",
        "lower",
        "0",
    ),
    MetricCard(
        "tow",
        "Tug-of-War: closeness to Retrain in three accuracies; blind to what accuracy cannot see, "
        "so that masking a logit scores like retraining",
        "Π (1 − |accuracy − accuracy of Retrain|) over forget train, retain train, retain test",
        _RUM,
        "0…1",
        "higher",
        "near 0 where the network knows what is to be forgotten",
    ),
    MetricCard(
        "tow_test",
        "Tug-of-War on test alone, as learning curves show it",
        "Π (1 − |accuracy − accuracy of Retrain|) over forget test, retain test",
        f"{_RUM}, restricted to test",
        "0…1",
        "higher",
        "near 0 where the network knows what is to be forgotten",
    ),
    *_distances(),
    MetricCard(
        "optimism",
        "how much more retain accuracy the edit gains where its reward was measured than on test",
        "gain of retain accuracy on reward − gain on test",
        "this project; the optimism of Efron 1983, for an edit",
        "−1…1",
        "lower",
        "0",
    ),
    MetricCard(
        "edit_size",
        "length of the edit, relative to the parameters that may be edited",
        "‖W − W₀‖ / ‖W₀‖ over all edited leaves, Frobenius",
        "standard",
        "0…∞",
        "lower",
        "0",
    ),
    MetricCard(
        "edit_rank",
        "rank of the edit: of a shift that of its parametrization, of a mask or gradient usually "
        "full",
        "singular values of W − W₀ above 10⁻⁴ of the largest, summed over edited leaves",
        "Golub & Van Loan, Matrix Computations",
        "0…rank",
        "none",
        "0",
    ),
    MetricCard(
        "evaluations_to_target",
        "reward evaluations of a search until its edit first has forget ≤ 1 % and retain ≥ "
        "original − 1 point on test; nan if never",
        "first update whose edit meets the target · evaluations of an update",
        "this project",
        "1…budget",
        "lower",
        "never",
    ),
    *_inside(),
)
"""One card per metric, in the order of a report."""
