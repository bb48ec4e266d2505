"""The contestants of `benchmarks.peers` score an action alike, and a run has its figure.

Nothing here looks at how long anything takes.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.workload import environment, make_actions, make_task
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.subjects.image_classifiers import MLP

pytestmark = [
    pytest.mark.slow,  # they bring three libraries that are slow to import
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

EXAMPLES, CANDIDATES = 200, 4


def test_all_score_an_action_alike():
    from benchmarks.peers.evosax_search import fitness
    from benchmarks.peers.torch_editing import EditingEnv, TorchEditing, torch_loop

    task = make_task(MLP(), EXAMPLES, "soft")
    env = ShiftWorld(task)
    own = np.asarray(environment(env, CANDIDATES).run())[0]
    actions = make_actions(env, CANDIDATES)
    assert own.std() > 5e-4  # the candidates differ, so that agreement means something
    for cached in (True, False):
        editing = TorchEditing(task, cached=cached)
        np.testing.assert_allclose(torch_loop(editing, np.asarray(actions)).run(), own, atol=5e-6)
        step = EditingEnv(editing, env.edit.action_size).step(np.asarray(actions[0]))
        assert step[1] == pytest.approx(own[0], abs=5e-6) and step[2]
    rewards, data = fitness(task)
    np.testing.assert_allclose(rewards(jnp.asarray(actions), data), own, atol=5e-6)


@pytest.mark.timeout(600)
def test_a_small_run_to_its_figure(tmp_path):
    from benchmarks.peers.__main__ import Config, main

    main(
        Config(rounds=2, examples=(EXAMPLES,), evaluations=40, slow_evaluations=64,
               environments=(4,), steps=1, output=tmp_path)
    )  # fmt: skip
    (path,) = tmp_path.glob("peers-*.json")
    results = json.loads(path.read_text())
    rates = results["searches"][str(EXAMPLES)]["per_second"]
    assert set(rates) == {"ppo", "environment", "openes", "evosax_openes", "torch_loop",
                          "sb3_cached", "sb3_full"}  # fmt: skip
    assert all(rate["median"] > 0 for rate in rates.values())
    assert results["control"]["4"]["ratios"]["own_over_rejax"]["median"] > 0
    assert path.with_suffix(".png").stat().st_size > 10_000
