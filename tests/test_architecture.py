"""The floors of the house: what may import what, and how long files and functions may be."""

import pytest

from tests.architecture import ROOT, circles, imports, modules

FLOORS = (
    ("types", "presets"),
    ("edits", "data", "agents"),
    ("subjects", "language", "evaluation"),
    ("tasks", "lifelong"),
    ("envs",),
    ("editors",),
    ("run",),
    ("report",),
    ("modeledit_jax",),  # the short names, gathered in __init__
    ("experiments",),
)
"""From the ground up. A module imports from lower floors and from its own package."""

FAMILIES = {
    "unlearning": (
        "modeledit_jax.tasks.unlearning",
        "modeledit_jax.editors.unlearning",
        "modeledit_jax.evaluation.forgetting",
        "experiments.unlearning",
        "experiments.transfer",
        "experiments.ppo_ablation",
        "experiments.tuning.unlearning",
    ),
    "debiasing": (
        "modeledit_jax.tasks.debiasing",
        "modeledit_jax.editors.debiasing",
        "modeledit_jax.evaluation.fairness",
        "modeledit_jax.data.comments",
        "experiments.bias_mitigation",
        "experiments.transfer_bias",
        "experiments.tuning.bias_mitigation",
    ),
    "lifelong": (
        "modeledit_jax.lifelong",
        "modeledit_jax.data.facts",
        "modeledit_jax.language",
        "experiments.lifelong_editing",
        "experiments.rledit_ablation",
        "experiments.tuning.lifelong_editing",
    ),
}
"""Beginnings of the names of what is about one family of tasks; no family imports another."""

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def package(name: str) -> str:
    """The part of the house that a module is in, as `FLOORS` calls it."""
    first, _, rest = name.partition(".")
    return rest.split(".")[0] if first == "modeledit_jax" and rest else first


def floor(name: str) -> int:
    return next(height for height, names in enumerate(FLOORS) if package(name) in names)


def family(name: str) -> str | None:
    found = (key for key, names in FAMILIES.items() if any(map(name.startswith, names)))
    return next(found, None)


def test_every_package_has_a_floor():
    known = {name for names in FLOORS for name in names}
    assert {package(name) for name in modules()} == known


@pytest.mark.parametrize("name", modules())
def test_imports_go_down(name):
    wrong = [
        other
        for other in imports(name)
        if package(other) != package(name) and floor(other) >= floor(name)
    ]
    assert not wrong, f"{name} imports {', '.join(wrong)}: not of a lower floor"


@pytest.mark.parametrize("name", modules())
def test_families_of_tasks_do_not_know_each_other(name):
    wrong = [other for other in imports(name) if family(name) and family(other)]
    wrong = [other for other in wrong if family(other) != family(name)]
    assert not wrong, f"{name} is about {family(name)} and imports {', '.join(wrong)}"


def test_no_file_imports_itself_in_a_circle():
    assert circles() == []


@pytest.mark.parametrize("name", modules())
def test_files_and_functions_are_short(name):
    module = modules()[name]
    assert module.lines <= LONGEST_FILE
    long = {own: lines for own, lines in module.functions() if lines > LONGEST_FUNCTION}
    assert not long


def test_experiments_are_folders():
    beside = [path.name for path in (ROOT / "experiments").iterdir() if path.is_file()]
    assert beside == ["__init__.py"]
