"""The floors of the house: what may import what, and how long files and functions may be."""

from tests.architecture import ROOT, circles, imports, modules

FLOORS = (
    ("reading", "imports"),
    ("struct",),
    ("types", "presets", "processes"),
    ("mesh", "memory"),
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
        "modeledit_jax.tasks.unlearning_metrics",
        "modeledit_jax.editors.unlearning",
        "experiments.unlearning",
        "experiments.unlearning_benchmark",
        "experiments.transfer",
        "experiments.ppo_ablation",
        "experiments.tuning.unlearning",
    ),
    "debiasing": (
        "modeledit_jax.tasks.debiasing",
        "modeledit_jax.tasks.debiasing_metrics",
        "modeledit_jax.tasks.debiasing_reward",
        "modeledit_jax.tasks.debiasing_suites",
        "modeledit_jax.editors.debiasing",
        "modeledit_jax.data.comments",
        "experiments.bias_mitigation",
        "experiments.transfer_bias",
        "experiments.tuning.bias_mitigation",
        "experiments.tuning.bias_reward",
    ),
    "lifelong": (
        "modeledit_jax.lifelong",
        "modeledit_jax.data.facts",
        "modeledit_jax.language",
        "experiments.convert",
        "experiments.lifelong_editing",
        "experiments.rledit_ablation",
        "experiments.tuning.lifelong_editing",
    ),
}
"""Modules and packages that are about one family of tasks; none imports another's."""

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def package(name: str) -> str:
    """The part of the house that a module is in, as `FLOORS` calls it."""
    first, _, rest = name.partition(".")
    return rest.split(".")[0] if first == "modeledit_jax" and rest else first


def floor(name: str) -> int:
    return next(height for height, names in enumerate(FLOORS) if package(name) in names)


def family(name: str) -> str | None:
    for key, names in FAMILIES.items():
        if any(name == own or name.startswith(f"{own}.") for own in names):
            return key
    return None


def test_every_package_has_a_floor():
    known = {name for names in FLOORS for name in names}
    assert {package(name) for name in modules()} == known


def arrows():
    """All imports of the project: ``(module, what it imports)``."""
    return {(name, other) for name in modules() for other in imports(name)}


def test_imports_go_down():
    between = [(name, other) for name, other in arrows() if package(name) != package(other)]
    assert [(name, other) for name, other in between if floor(other) >= floor(name)] == []


def test_families_of_tasks_do_not_know_each_other():
    inside = [(name, other) for name, other in arrows() if family(name) and family(other)]
    assert [(name, other) for name, other in inside if family(name) != family(other)] == []


def test_no_file_imports_itself_in_a_circle():
    assert circles() == []


def test_files_and_functions_are_short():
    lengths = {name: module.lines for name, module in modules().items()}
    assert {name for name, lines in lengths.items() if lines > LONGEST_FILE} == set()
    for name, module in modules().items():
        for function, lines in module.functions():
            assert lines <= LONGEST_FUNCTION, f"{function} of {name} has {lines} lines"


def test_experiments_are_folders():
    beside = [path.name for path in (ROOT / "experiments").iterdir() if path.is_file()]
    assert beside == ["__init__.py"]
