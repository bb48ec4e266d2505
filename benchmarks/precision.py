"""What scoring in less than float32 changes: rewards of random edits, and the edits a search finds.

python -m benchmarks.precision --dataset mnist --seeds 2

Networks are trained from ``--seeds`` seeds and made to forget each class in turn, by PPO, once with
rewards of float32 and once of the other precision; all edited networks are measured in float32 on
test images.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import modeledit_jax as me
from modeledit_jax.edits.precision import Precision
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.subjects.training import image_recipe, train_subjects
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array


@dataclass(frozen=True)
class Config:
    """Sizes of the benchmark.

    Attributes:
      dataset: of the networks.
      seeds: networks, each of which forgets each of ten classes.
      worlds: of the searches.
      budget: reward evaluations of each task.
      precision: beside float32.
    """

    dataset: Literal["digits", "mnist"] = "digits"
    seeds: int = 2
    worlds: tuple[str, ...] = ("shift", "mask")
    budget: int = 2000
    precision: Precision = "bfloat16"


def reward_differences(
    task: Task, worlds: Sequence[str], precision: Precision, count: int = 256
) -> dict[str, dict[str, float]]:
    """Largest and mean difference of rewards, by world and spread of random actions."""
    found = {}
    for world in worlds:
        exact, near = (me.make(world, task, precision=p)[0] for p in ("float32", precision))
        for scale in (0.3, 1.0, 3.0):
            normal = jax.random.normal(jax.random.key(0), (count, exact.num_actions))
            pair = [_rewards(env, scale * normal) for env in (exact, near)]
            change = np.abs(pair[0] - pair[1])
            found[f"{world}, spread {scale}"] = {
                "largest": float(change.max()),
                "mean": float(change.mean()),
                "spread_of_rewards": float(pair[0].std()),
            }
    return found


def _rewards(env: World, actions: Array) -> np.ndarray:
    params = env.default_params
    _, state = env.reset_env(jax.random.key(0), params)

    def one(params: WorldParams, action: Array) -> Array:
        return env.step_env(jax.random.key(0), state, action, params)[2]

    run = jax.jit(lambda params, xs: jax.lax.map(lambda x: one(params, x), xs, batch_size=8))
    return np.asarray(run(params, jnp.asarray(actions)))


def edits(tasks: Sequence[Task], world: str, precision: Precision, budget: int) -> dict[str, float]:
    """Forget accuracy and loss of retained accuracy on test images, in percent."""
    begin = time.perf_counter()
    search = me.PPO(world=world, budget=budget, precision=precision)
    results = me.edit_many(search, tasks, jax.random.key(1))
    table = 100 * me.table(tasks, {"ppo": results})
    before, after = table.loc["original"], table.loc["ppo"]
    drop = before.retain_accuracy_test - after.retain_accuracy_test
    return {
        "forget_mean": after.forget_accuracy_test.mean(),
        "forget_worst": after.forget_accuracy_test.max(),
        "retain_drop_mean": drop.mean(),
        "retain_drop_worst": drop.max(),
        "seconds_with_compilation": time.perf_counter() - begin,
    }


def main() -> None:
    config = tyro.cli(Config)
    splits = me.split_images(me.load_images(config.dataset))
    module = me.MLP(splits.num_classes)
    keys = jax.random.split(jax.random.key(0), config.seeds)
    recipe = image_recipe(module, len(splits.train))
    subjects = train_subjects(module, splits.train, recipe, keys)
    tasks = [
        me.forget_classes(subject, splits, digit) for subject in subjects for digit in range(10)
    ]
    changes = reward_differences(tasks[7], config.worlds, config.precision)
    print(json.dumps({"rewards": changes}, indent=1), flush=True)
    for world in config.worlds:
        for precision in ("float32", config.precision):
            found = edits(tasks, world, precision, config.budget)
            print(json.dumps({f"{world}, {precision}": found}, indent=1), flush=True)


if __name__ == "__main__":
    main()
