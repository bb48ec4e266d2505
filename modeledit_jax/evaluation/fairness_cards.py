"""What each number of a bias-mitigation report means: one card per metric, for reports and docs.

Names are those of `debiasing_metrics`. A *term* names an identity, a rate of a term is over the
texts that mention it, and decisions are at the threshold of the classifier's own equal error rate
on ``select``. Without a prefix, fairness is measured on the counterfactuals of ``test``, sentence
frames with every term in turn, and usefulness on its comments; ``template_`` is usefulness on the
counterfactuals, ``comments_`` fairness on the comments, and the name of a suite stands before what
is measured on that suite.
"""

from modeledit_jax.evaluation.metric_card import MetricCard

_DIXON = "Dixon et al. 2018, as a mean over terms where they print the sum"
_BORKAN = "Borkan et al. 2019 (arXiv 1903.04561)"
_HELD_OUT = "over the terms that no reward has seen"
_CELLS = {
    "subgroup": "toxic against other texts that mention the term",
    "bpsn": "toxic texts without the term against other texts with it; low: false positives",
    "bnsp": "toxic texts with the term against other texts without it; low: false negatives",
}


def _differences() -> list[MetricCard]:
    cards = []
    for name, rate in (("fped", "false positive rate"), ("fned", "false negative rate")):
        symbol = rate.split()[1][0].upper()
        gap = f"|F{symbol}R(term) − F{symbol}R|"
        whole = f"distance of the {rate} of a term from that of all texts"
        cards += [
            MetricCard(
                name,
                f"{whole}, mean over terms; read beside the rates, for a classifier that calls "
                "everything toxic scores 0",
                f"mean over terms of {gap}",
                _DIXON,
                "0…1",
                "lower",
                "the bias to be mitigated",
            ),
            MetricCard(
                f"{name}_held_out",
                f"{whole}, mean {_HELD_OUT}",
                f"mean over held-out terms of {gap}",
                _DIXON,
                "0…1",
                "lower",
                "the bias to be mitigated",
            ),
            MetricCard(
                f"{name}_worst",
                f"{whole}, of the worst term",
                f"max over terms of {gap}",
                _DIXON,
                "0…1",
                "lower",
                "the bias to be mitigated",
            ),
            MetricCard(
                f"{name}_terms",
                f"terms with a {rate} of their own, over which the mean is taken",
                "number of terms with such texts",
                "this project",
                "0…number of terms",
                "none",
                "the same",
            ),
        ]
    return cards


def _areas() -> list[MetricCard]:
    cards = []
    for name, about in _CELLS.items():
        title = f"{name if name == 'subgroup' else name.upper()} AUC"
        cards += [
            MetricCard(
                f"{name}_m5",
                f"power mean of {title} over terms, near the worst term: {about}",
                "(mean over terms of AUC(term)⁻⁵)^(−1/5)",
                _BORKAN,
                "0…1",
                "higher",
                "low where terms decide",
            ),
            MetricCard(
                f"{name}_min",
                f"{title} of the worst term",
                "min over terms of AUC(term)",
                _BORKAN,
                "0…1",
                "higher",
                "low where terms decide",
            ),
            MetricCard(
                f"{name}_terms",
                f"terms whose {title} is defined",
                "number of terms with texts of both kinds",
                "this project",
                "0…number of terms",
                "none",
                "the same",
            ),
        ]
    return cards


def _usefulness() -> list[MetricCard]:
    return [
        MetricCard(
            "accuracy",
            "share of decisions that are right",
            "mean of 1[score ≥ threshold] = label",
            "standard",
            "0…1",
            "higher",
            "the base of comparison",
        ),
        MetricCard(
            "accuracy_drop",
            "accuracy that the edit costs",
            "accuracy of the original − that of the edited classifier",
            "this project",
            "−1…1",
            "lower",
            "0",
        ),
        MetricCard(
            "auc",
            "share of pairs of a toxic and another text in which the toxic one is scored higher",
            "Mann–Whitney U / number of pairs, ties count ½",
            "standard",
            "0…1",
            "higher",
            "the base of comparison",
        ),
        MetricCard(
            "auc_drop",
            "AUC that the edit costs",
            "AUC of the original − that of the edited classifier",
            "this project",
            "−1…1",
            "lower",
            "0",
        ),
    ]


def _errors() -> list[MetricCard]:
    return [
        MetricCard(
            "fpr",
            "share of texts that are not toxic and called so",
            "false positives / negatives",
            "standard",
            "0…1",
            "lower",
            "near the false negative rate",
        ),
        MetricCard(
            "fnr",
            "share of toxic texts that are not called so",
            "false negatives / positives",
            "standard",
            "0…1",
            "lower",
            "near the false positive rate",
        ),
        MetricCard(
            "ece",
            "expected calibration error: mean distance of the probability of toxicity from its "
            "observed frequency",
            "Σ_b (n_b / n) |frequency − mean probability| over 15 bins of equal width",
            "Guo et al. 2017, with the probability of the positive class",
            "0…1",
            "lower",
            "the base of comparison",
        ),
        MetricCard(
            "positive_rate_change",
            "change of the share of comments called toxic at the threshold of the original",
            "rate of the edited classifier − rate of the original, on select",
            "this project; a gate against gaming",
            "−1…1",
            "none",
            "0",
        ),
    ]


METRIC_CARDS: tuple[MetricCard, ...] = (
    *_usefulness(),
    *_errors(),
    *_differences(),
    *_areas(),
    MetricCard(
        "bpsn_m5_held_out",
        f"power mean of BPSN AUC {_HELD_OUT}",
        "(mean over held-out terms of AUC(term)⁻⁵)^(−1/5)",
        _BORKAN,
        "0…1",
        "higher",
        "low where terms decide",
    ),
    MetricCard(
        "kaggle_score",
        "final score of the Jigsaw Unintended Bias challenge",
        "¼ AUC + ¼ (power means of subgroup, BPSN and BNSP AUC)",
        "Jigsaw Unintended Bias in Toxicity Classification (Kaggle, 2019)",
        "0…1",
        "higher",
        "low where terms decide",
    ),
    *(
        MetricCard(
            f"{name}_aeg",
            f"average equality gap among {kind} texts: how far a term moves a text in their order",
            "mean over terms of |P(score with the term > score without) − ½|",
            _BORKAN,
            "0…½",
            "lower",
            "high where terms decide",
        )
        for name, kind in (("positive", "toxic"), ("negative", "other"))
    ),
    MetricCard(
        "worst_group_accuracy",
        "lowest accuracy of texts of one label that mention one term",
        "min over (term, label) of accuracy",
        "CivilComments in WILDS (Koh et al. 2021)",
        "0…1",
        "higher",
        "low where terms decide",
    ),
    MetricCard(
        "ece_worst_group",
        "expected calibration error of the worst term; grows as a group gets smaller",
        "max over terms of ece(term)",
        "as ece",
        "0…1",
        "lower",
        "the base of comparison",
    ),
    MetricCard(
        "counterfactual_dispersion",
        "share of the variance of the scores that the term decides; needs no threshold and no "
        "label",
        "E_context Var_term(score) / Var(score)",
        "this project; the law of total variance",
        "0…1",
        "lower",
        "high where terms decide",
    ),
    MetricCard(
        "evaluations_to_target",
        "reward evaluations of a search until its edit first halves FPED on test, without a rise "
        "of FNED and with at most a point of accuracy lost; nan if never",
        "first update whose edit meets the target · evaluations of an update",
        "this project",
        "1…budget",
        "lower",
        "never",
    ),
)
"""One card per metric, in the order of a report."""
