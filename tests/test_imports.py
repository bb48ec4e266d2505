"""What is put off when the package is imported, and modules that wait for their first use."""

import importlib
import subprocess
import sys
import threading

import pytest

from modeledit_jax.imports import _Unexecuted, executed_at_first_use

SLOW = (
    "distrax",
    "matplotlib.pyplot",
    "orbax.checkpoint",
    "pandas",
    "scipy.stats",
    "seaborn",
    "sklearn",
    "tensorflow_datasets",
    "tensorflow_probability",
)


def run(script):
    """Runs a script in a process of its own."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_what_takes_long_waits_for_its_first_use():
    found = run(
        "import sys, types, experiments.unlearning.run\n"
        f"print([n for n in {SLOW} if type(sys.modules.get(n)) is types.ModuleType])"
    )
    assert found.stdout == "[]\n", found.stderr


@pytest.mark.slow
def test_gymnax_draws():
    found = run("""
import types, modeledit_jax, matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt, seaborn as sns
from gymnax.environments.misc import pong
assert pong.plt is plt and pong.sns is sns and len(pong.sns.color_palette("cubehelix", 3)) == 3
assert plt.subplots()[0] is plt.gcf() and type(plt) is type(sns) is types.ModuleType
print("drawn")
""")
    assert found.stdout == "drawn\n", found.stderr


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module that counts its executions, and imports it to be executed later."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "executions", [], raising=False)
    made = []

    def make(name, text="value = 5"):
        (tmp_path / f"{name}.py").write_text(f"import sys\nsys.executions.append(1)\n{text}\n")
        importlib.invalidate_caches()
        made.append(name)
        with executed_at_first_use(name):
            return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


def test_a_module_is_executed_once_at_its_first_use(module):
    later = module("waits_one")
    assert type(later) is _Unexecuted and later.__spec__.name == later.__name__ == "waits_one"
    assert importlib.import_module("waits_one") is later  # an import is no use
    assert sys.executions == [] and later.__file__.endswith("waits_one.py")
    assert not hasattr(later, "__warningregistry__") and sys.executions == []
    assert later.value == 5 and later.value == 5 and sys.executions == [1]
    assert type(later) is type(sys)
    with pytest.raises(AttributeError, match=r"waits_one.* has no attribute 'other'"):
        later.other  # noqa: B018


@pytest.mark.parametrize("statement", ["from waits_two import value", "from waits_two import *"])
def test_what_is_imported_from_it_is_there(module, statement):
    module("waits_two", "__all__ = ['value']\nvalue = 5")
    names = {}
    exec(statement, names)
    assert names["value"] == 5 and sys.executions == [1]


def test_it_may_look_at_itself_while_it_is_executed(module):
    text = "me = sys.modules[__name__]\nvalue = 5\nfound = me.value, hasattr(me, 'late')\nlate = 1"
    later = module("waits_three", text)
    assert later.found == (5, False) and sys.executions == [1]


def test_an_error_is_raised_at_every_use(module):
    later = module("waits_four", "raise OSError('gone')")
    for count in (1, 2):
        with pytest.raises(OSError, match="gone"):
            later.value  # noqa: B018
        assert len(sys.executions) == count


def test_threads_wait_until_it_is_whole(module):
    later = module("waits_five", "import time\ntime.sleep(0.05)\nvalue = 5")
    found = []
    threads = [threading.Thread(target=lambda: found.append(later.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5] * 4 and sys.executions == [1]


def test_a_module_that_was_imported_before_stays(module):
    import json.tool as before

    with executed_at_first_use("json.tool"):
        import json.tool as after
    assert before is after and type(after) is type(sys)


def test_a_module_that_is_not_there_is_missed_at_once():
    with pytest.raises(ModuleNotFoundError, match="no_such"), executed_at_first_use("no_such"):
        importlib.import_module("no_such")
