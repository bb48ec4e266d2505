"""What the reports of the experiments share."""

import numpy as np

from experiments.common.methods import Method, Result
from experiments.common.reporting import comparison_lines, site_notes, speed_lines, styles_of
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.unlearning.references import Original
from modeledit_jax.evaluation.statistics import (
    holm,
    paired_difference,
    probability_of_improvement,
)
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.markdown import number
from modeledit_jax.report.table import Row
from tests import tiny
from tests.report.rows import rows_of


def test_site_notes_count_the_leaves_that_searches_have_changed():
    site = ("fc1/kernel", "fc2/kernel", "head/kernel")
    tasks = [tiny.task(0, seed=seed, site=site) for seed in (0, 1)]
    leaves = [
        {path: leaf + (path in changed) for path, leaf in task.leaves.items()}
        for task, changed in zip(tasks, (site[:2], site[1:2]), strict=True)
    ]
    search = Result("mine", [], [], leaves=leaves, evaluations=np.array([10]))
    others = [Result("ridge", [], [], leaves=leaves), Result("original", [], [])]
    assert site_notes(tasks, [*others, search]) == [
        "mine changed, of 2 final edits, `fc1/kernel` in 1, `fc2/kernel` in 2, `head/kernel` in 0"
    ]


def test_speed_lines_show_searches_alone():
    rows = [Row("original", "a", 0, {"tow": 0.5}, Cost())]
    levels = {"median": 0.5, "90th percentile": 0.9}
    assert speed_lines("to forget", rows, solved="solved", levels=levels) == []
    rows += [
        Row("snes-mask", "a", seed, {"evaluations_to_target": needed}, Cost())
        for seed, needed in enumerate((1000.0, 1200.0, np.nan))
    ]
    assert speed_lines("to forget", rows, solved="solved", levels=levels) == [
        "## Reward evaluations to forget",
        "",
        "| method | solved | median | 90th percentile |",
        "| --- | ---: | ---: | ---: |",
        "| snes-mask | 2/3 | 1,200 | not reached |",
        "",
    ]


def test_what_was_learned_is_compared_pair_by_pair(rng):
    one, two, other = (rng.uniform(size=(4, 3)) + shift for shift in (0.5, 0.0, 0.1))
    rows = rows_of("ppo-shift", one) + rows_of("ppo-mask", two) + rows_of("ridge", other)
    rows += rows_of("leace", np.full((4, 3), np.nan))
    learned, others = ["ppo-shift", "ppo-mask"], ["ppo-shift", "ridge", "leace", "absent"]
    heading, _, header, _, *lines, _, note, _ = comparison_lines(
        rows, learned, others, "tow", "Tug-of-War"
    )
    assert heading == "## Comparisons" and "corrected by Holm for all lines" in note
    assert header.startswith("| method | against | Tug-of-War: difference [95 %] | p |")
    pairs = [("ppo-shift", "ridge"), ("ppo-mask", "ppo-shift"), ("ppo-mask", "ridge")]
    scores = {"ppo-shift": one, "ppo-mask": two, "ridge": other}
    found = [paired_difference(scores[a], scores[b]) for a, b in pairs]
    adjusted = holm([difference.p_value for difference in found])
    for line, (a, b), difference, p in zip(lines, pairs, found, adjusted, strict=True):
        better = probability_of_improvement(scores[a], scores[b])
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:2] == [a, b]
        assert cells[2].startswith(number(difference.mean, 4, signed=True) + " [")
        assert cells[3] == f"{p:.3f}" and cells[4].startswith(number(better.point) + " [")


def test_without_anything_learned_there_is_no_comparison():
    rows = rows_of("ridge", [[0.5]]) + rows_of("projection", [[0.25]])
    assert comparison_lines(rows, [], ["ridge", "projection"], "tow", "Tug-of-War") == []


def test_styles_are_those_of_presets():
    style = Style("#123456", "o", "-")
    methods = [Method("mine", Original(), style=style), Method("plain", Original())]
    assert styles_of(methods) == {"mine": style}
