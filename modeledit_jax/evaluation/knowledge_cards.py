"""What each number of a knowledge-editing report means: one card per metric, for reports and docs.

Names are those of `edit_scores.summarize`, `lifelong.scoring.score_besides` and
`knowledge.weight_growth`.
``a`` is an answer of ``A`` tokens, ``p(·)`` the model after all edits, sums run over an answer's
tokens ``j``, and every share is a mean over edits.
"""

from modeledit_jax.evaluation.metric_card import MetricCard

_RLEDIT = "MEND (Mitchell et al. 2022), MALMEN (Tan et al. 2024), RLEdit (2025)"
_LOGITS = "RLEdit and HiEdit on CounterFact (`succ_ratios`), cut to the shorter answer"
_MEMIT = "ROME and MEMIT (Meng et al. 2022, 2023) on CounterFact"


def _shares() -> list[MetricCard]:
    questions = {
        "efficacy": ("edit prompt", "new", "old", "near 0: it gives the old answer"),
        "generalization": ("rephrased prompt", "new", "old", "near 0: it gives the old answer"),
        "specificity": ("locality prompt", "true", "new", "what it knows of the probes, at best 1"),
    }
    cards: list[MetricCard] = []
    for name, (prompt, wanted, rival, before) in questions.items():
        given = f"of the {wanted} answer after the {prompt}"
        prefers = f"the {wanted} answer is preferred to the {rival} one after the {prompt}"
        wins = "near 0" if rival == "old" else "near 1 where it knows the probes"
        cards += [
            MetricCard(
                name,
                f"share of tokens {given} that are most probable, teacher forced",
                "1/A Σ 1[argmax p(·|prompt, a_<j) = a_j]",
                _RLEDIT,
                "0…1",
                "higher",
                before,
            ),
            MetricCard(
                f"{name}_exact",
                f"greedy decoding gives all {given}",
                "Π 1[argmax p(·|prompt, a_<j) = a_j]",
                "exact match of generated text, cut after the answer",
                "0 or 1",
                "higher",
                before,
            ),
            MetricCard(
                f"{name}_by_token",
                f"share of tokens by which {prefers}, both under the {wanted} answer's input",
                "mean over j ≤ min(A, A′) of 1[logit(a_j) > logit(a′_j) | prompt, a_<j]",
                _LOGITS,
                "0…1",
                "higher",
                wins,
            ),
            MetricCard(
                f"{name}_by_probability",
                f"{prefers}, each in an input of its own, per token",
                "1[1/A Σ log p(a_j|prompt, a_<j) > 1/A′ Σ log p(a′_j|prompt, a′_<j)]",
                _MEMIT,
                "0 or 1",
                "higher",
                wins,
            ),
        ]
    return cards


METRIC_CARDS: tuple[MetricCard, ...] = (
    *_shares(),
    MetricCard(
        "specificity_unedited",
        "share of the true answer's positions after the locality prompt where the most probable "
        "token is the unedited model's",
        "1/A Σ 1[argmax p(·|prompt, a_<j) = argmax p₀(·|prompt, a_<j)]",
        "EasyEdit's locality (Wang et al. 2024)",
        "0…1",
        "higher",
        "1 by definition",
    ),
    MetricCard(
        "retention",
        "efficacy of the first edits of the sequence, after its end",
        "mean of efficacy over the first N edits",
        "HiEdit (2026), `Pre_ES`, N = 500",
        "0…1",
        "higher",
        "near 0: it gives the old answer",
    ),
    MetricCard(
        "retention_exact",
        "efficacy_exact of the first edits of the sequence, after its end",
        "mean of efficacy_exact over the first N edits",
        "as retention, by exact match",
        "0…1",
        "higher",
        "near 0: it gives the old answer",
    ),
    MetricCard(
        "retention_by_age",
        "efficacy of groups of edits, by the number of edits made since",
        "mean of efficacy over edits of like age; a curve",
        "this project; retention is its oldest end",
        "0…1",
        "higher",
        "near 0 at all ages",
    ),
    MetricCard(
        "perplexity",
        "how unlikely held-out sentences are to the model",
        "exp(−mean over tokens of log p(token | those before it))",
        "general ability; stands in for language benchmarks",
        "1…∞",
        "lower",
        "the base of comparison",
    ),
    MetricCard(
        "untouched_recall",
        "share of facts, which no edit concerns, that greedy decoding still gives",
        "mean over facts of Π 1[argmax p(·|prompt, a_<j) = a_j]",
        "this project; stands in for question-answering benchmarks",
        "0…1",
        "higher",
        "near 1 after training on the facts",
    ),
    MetricCard(
        "known_recall",
        "share of facts about other subjects, which the unedited model gives, that greedy decoding "
        "still gives",
        "as untouched_recall, over facts with a_j = argmax p₀(·|prompt, a_<j)",
        "this project; for models that know few of a collection's facts",
        "0…1",
        "higher",
        "1 by definition, but for rounding",
    ),
    MetricCard(
        "multiple_choice",
        "share of facts about other subjects whose true answer is preferred to three answers of "
        "the same relation, per token",
        "1[1/A Σ log p(a_j|prompt, a_<j) > max over the others of the same]",
        "facts and phrasings of ParaRel (Elazar et al. 2021); stands in for multiple-choice "
        "benchmarks",
        "0…1",
        "higher",
        "what it knows; 1/4 by chance",
    ),
    MetricCard(
        "weight_shift",
        "length of the way the edited weights have gone, relative to them",
        "‖W − W₀‖ / ‖W₀‖ over all edited matrices, Frobenius",
        "norm growth as in studies of collapse under sequential edits (e.g. AlphaEdit, 2025)",
        "0…∞",
        "lower",
        "0",
    ),
    MetricCard(
        "weight_growth",
        "growth of the norm of the edited weights",
        "‖W‖ / ‖W₀‖ − 1 over all edited matrices, Frobenius",
        "as weight_shift",
        "−1…∞",
        "none",
        "0",
    ),
)
"""One card per metric, in the order of a report."""
