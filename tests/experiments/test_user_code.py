"""Errors of a user's methods: in one line, with their place; those of the project as they are."""

import sys

import jax
import pytest

from experiments.common.methods import check_methods
from experiments.common.user_code import errors_of
from experiments.unlearning.config import Config
from modeledit_jax.editors.search.evolution import SNES

MODULE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Crashes:
    number: int = 0

    def edit(self, task, key):
        raise [SystemExit("bye"), KeyError("forget"), TypeError("two\\nlines")][self.number]

@dataclass(frozen=True)
class Nothing:
    number: int = 0
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "method_of_a_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "method_of_a_user", raising=False)
    import method_of_a_user

    return method_of_a_user


@pytest.mark.parametrize(
    ("number", "message"),
    [(0, "SystemExit: bye"), (1, "KeyError: 'forget'"), (2, "TypeError: two lines")],
)
def test_errors_of_a_users_method_have_their_place(module, number, message):
    method = module.Crashes(number)
    with pytest.raises(ValueError) as info, errors_of("mine", method):
        method.edit(None, jax.random.key(0))
    said = str(info.value)
    assert said.startswith(f"the method mine raised {message} in line 9 of")
    assert said.endswith("method_of_a_user.py") and "\n" not in said


def test_other_errors_are_left_alone(module):
    with pytest.raises(KeyError), errors_of("snes", SNES()):
        raise KeyError("ours")
    with pytest.raises(ValueError, match=r"^one line$"), errors_of("mine", module.Crashes()):
        raise ValueError("one line")
    with pytest.raises(KeyboardInterrupt), errors_of("mine", module.Crashes()):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "name", ["method_of_a_user:Nothing", "modeledit_jax.lifelong.methods.fine_tuning:FineTune"]
)
def test_a_class_that_edits_no_task_is_refused_before_any_work(module, tmp_path, name):
    """FineTune edits a stream of facts, which takes other arguments."""
    (tmp_path / "own.toml").write_text(f'class = "{name}"\n')
    config = Config(methods=(str(tmp_path / "own.toml"),))
    with pytest.raises(ValueError, match=r"'own': the class \w+ has no edit\(task, key\): name a"):
        check_methods(config, "unlearning")
