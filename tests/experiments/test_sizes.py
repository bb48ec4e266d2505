"""Searches and networks that cannot fit into memory are refused before any work.

Belongs to the kind: sizes typed with some zeros too many, in any option that sizes an array.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import modeledit_jax.memory as memory_module
from experiments.common import sizes
from experiments.common.memory import check_memory
from experiments.common.options import ActionOptions
from experiments.lifelong_editing.config import Config as Lifelong
from experiments.transfer.config import Config as Transfer
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.edits.parametrization import LowRank, PerWeight
from modeledit_jax.subjects.image_classifiers import MLP

SHAPES = {"fc2/kernel": (128, 32)}


def test_shapes_of_a_site_without_a_network():
    images = np.zeros((5, 8, 8, 1), np.float32)
    found = sizes.site_shapes(MLP(10), images, ("fc2/*",))
    assert found == {"fc2/bias": (32,), "fc2/kernel": (128, 32)}
    params = MLP(10).init(jax.random.key(0), jnp.asarray(images[:1]))["params"]
    assert found["fc2/kernel"] == params["fc2"]["kernel"].shape
    with pytest.raises(ValueError, match="matches the site pattern 'fc9'"):
        sizes.site_shapes(MLP(10), images, ("fc9",))


@pytest.mark.parametrize(
    ("rank", "budget", "tasks", "cure"),
    [
        (10**6, 2000, 1, "lower --rank 1000000; 32 reaches every edit"),
        (4, 10**8, 1, "lower --budget 100000000"),
        (4, 2000, 10**8, "--seeds 3"),
    ],
)
def test_a_search_too_large(rank, budget, tasks, cure):
    search = PPO(budget=budget, parametrization=LowRank(rank))
    config = ActionOptions(rank=rank, budget=budget)
    with pytest.raises(ValueError, match=r"takes some [\d,]+ GB of memory") as error:
        sizes.check_search_memory(config, [search], SHAPES, tasks)
    assert cure in str(error.value)


def test_what_fits_is_left_alone():
    searches = [PPO(), PPO(budget=10_000, parametrization=PerWeight())]
    sizes.check_search_memory(ActionOptions(), searches, SHAPES, 50)
    sizes.check_search_memory(ActionOptions(rank=1000), [PPO()], SHAPES, 50)


def test_the_budget_that_is_named_fits():
    config = ActionOptions(budget=10**8)
    with pytest.raises(ValueError, match=r"\(to \d+\)") as error:
        sizes.check_search_memory(config, [PPO(budget=10**8)], SHAPES, 3)
    named = int(str(error.value).split("(to ")[1].split(")")[0])
    sizes.check_search_memory(config, [PPO(budget=named)], SHAPES, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Lifelong(width=10**6, mlp_width=10**6), "--layers 2 --width 1000000"),
        (Lifelong(layers=1000, mlp_width=10**6), "--layers 1000"),
        (Transfer(networks=("mlp-1000000x1000000",)), "mlp-1000000x1000000"),
        (Transfer(other_networks=("cnn-99999999x4x99999999x99",)), "GB of memory"),
    ],
)
def test_networks_too_large(options, message):
    with pytest.raises(ValueError, match="GB of memory") as error:
        options.check()
    assert message in str(error.value)


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("1000000\n")
    monkeypatch.setattr(memory_module, "CGROUPS", (str(tmp_path / "max"),))
    with pytest.raises(ValueError, match=r"it takes some 0 GB of memory, .*: ask for less"):
        check_memory(2e6, "it", "ask for less")
    (tmp_path / "max").write_text("max\n")
    check_memory(2e6, "it", "ask for less")


def test_a_choice_that_the_site_does_not_leave_is_refused_before_any_training():
    shapes = {"fc1/kernel": (784, 128), **SHAPES}
    sizes.check_search_memory(ActionOptions(), [PPO(sites_chosen=1)], shapes, 3)
    with pytest.raises(ValueError, match="sites_chosen=2: choose 1 to 1 of the site's 2 leaves"):
        sizes.check_search_memory(ActionOptions(), [PPO(sites_chosen=2)], shapes, 3)
    with pytest.raises(ValueError, match="sites_chosen=1: the site is one leaf"):
        sizes.check_search_memory(ActionOptions(), [PPO(sites_chosen=1)], SHAPES, 3)
