"""A user's reward named on the command line: what was found there, if it is no reward.

Belongs to the kind: names of no function, modules that fail as they are imported, functions that
take other arguments or raise; everything is a line about the name that was given.
"""

import pytest

from experiments.common.rewards import import_reward

MODULE = """
import sys
import numpy as np
value = 3
def good(sets, edit):
    return sets["retain"]
def more(sets, edit, scale=2.0):
    return scale
def one(sets):
    return 0.0
def keyword(sets, *, edit):
    return 0.0
def leaves(sets, edit):
    sys.exit(3)
def wrong(sets, edit):
    return sets["retian"]
class Reward:
    def __call__(self, sets, edit):
        return 1.0
instance = Reward()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rewards_of_a_user.py").write_text(MODULE)
    (tmp_path / "rewards_broken.py").write_text("def f(:\n")
    (tmp_path / "rewards_leaving.py").write_text("import sys\nsys.exit('bye')\n")
    (tmp_path / "rewards_failing.py").write_text("x = 1\nx / 0\n")
    return "rewards_of_a_user"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("math:pi", ["math:pi is 3.14", "float", "f(sets, edit)"]),
        ("./x:y", ["'./x:y' is no name of a function", "module:function"]),
        ("folder/file.py:f", ["is no name of a function"]),
        (":f", ["is no name of a function"]),
        ("math:", ["is no name of a function"]),
        ("a:b:c", ["is no name of a function"]),
        ("..:f", ["is no name of a function"]),
        ("no_such_module_here:f", ["cannot import", "no_such_module_here"]),
        ("rewards_of_a_user:none", ["cannot import", "none"]),
        ("rewards_of_a_user:value", ["is 3, of type int"]),
        ("rewards_of_a_user:np", ["of type module"]),
        ("rewards_of_a_user:one", ["cannot be called as f(sets, edit)"]),
        ("rewards_of_a_user:keyword", ["cannot be called as f(sets, edit)", "edit"]),
        ("rewards_of_a_user:Reward", ["cannot be called as f(sets, edit)"]),
        ("rewards_broken:f", ["SyntaxError"]),
        ("rewards_leaving:f", ["SystemExit: bye"]),
        ("rewards_failing:f", ["ZeroDivisionError", "line 2 of"]),
    ],
)
def test_what_is_no_reward_is_named(module, name, parts):
    with pytest.raises(ValueError) as error:
        import_reward(name)
    message = str(error.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message and len(message) < 400


def test_functions_are_called(module):
    assert import_reward(f"{module}:good")({"retain": 5}, None) == 5
    assert import_reward(f"{module}:more")({}, None) == 2.0
    assert import_reward(f"{module}:instance")({}, None) == 1.0
    assert import_reward(f"{module}:good") is import_reward(f"{module}:good")


def test_a_function_that_raises_is_named_with_its_place(module):
    with pytest.raises(ValueError) as error:
        import_reward(f"{module}:wrong")({"retain": 5, "forget": 6}, None)
    message = str(error.value)
    assert message.startswith(f"the reward {module}:wrong raised KeyError: 'retian' in line 16 of")
    assert message.endswith("(the sets are retain, forget)")
    with pytest.raises(ValueError, match=r"leaves raised SystemExit: 3 in line 14 of"):
        import_reward(f"{module}:leaves")({}, None)


def test_a_reward_that_is_one_already_is_taken_as_it_is(tmp_path, monkeypatch):
    from modeledit_jax.tasks.reward import Reward

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rewards_ready.py").write_text(
        "from modeledit_jax.tasks.reward import as_reward\n"
        "ready = as_reward(lambda sets, edit: 0.0)\n"
    )
    assert isinstance(import_reward("rewards_ready:ready"), Reward)
