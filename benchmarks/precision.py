"""What scoring in less than float32 changes: rewards of random edits, and the edits a search finds.

python -m benchmarks.precision --dataset mnist --seeds 2

Networks are trained from ``--seeds`` seeds and made to forget each class in turn, by PPO in both
worlds, once with rewards of float32 and once of the other precision; all edited networks are
measured in float32 on test images.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

import modeledit_jax as me
from modeledit_jax.subjects.training import image_recipe, train_subjects

WORLDS = ("shift", "mask")


def reward_differences(task, precision: str, count: int = 256) -> dict[str, dict[str, float]]:
    """Largest and mean difference of rewards, by world and spread of random actions."""
    found = {}
    for world in WORLDS:
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


def _rewards(env, actions) -> np.ndarray:
    params = env.default_params
    _, state = env.reset_env(jax.random.key(0), params)

    def one(params, action):
        return env.step_env(jax.random.key(0), state, action, params)[2]

    run = jax.jit(lambda params, xs: jax.lax.map(lambda x: one(params, x), xs, batch_size=8))
    return np.asarray(run(params, jnp.asarray(actions)))


def edits(tasks, precision: str, budget: int) -> dict[str, dict[str, float]]:
    """Forget accuracy and loss of retained accuracy on test images, in percent, by world."""
    found = {}
    for world in WORLDS:
        begin = time.perf_counter()
        search = me.PPO(world=world, budget=budget, precision=precision)
        results = me.edit_many(search, tasks, jax.random.key(1))
        table = 100 * me.table(tasks, {"ppo": results})
        before, after = table.loc["original"], table.loc["ppo"]
        drop = before.retain_accuracy_test - after.retain_accuracy_test
        found[world] = {
            "forget_mean": after.forget_accuracy_test.mean(),
            "forget_worst": after.forget_accuracy_test.max(),
            "retain_drop_mean": drop.mean(),
            "retain_drop_worst": drop.max(),
            "seconds_with_compilation": time.perf_counter() - begin,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits", choices=("digits", "mnist"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", type=int, default=2000)
    parser.add_argument("--precision", default="bfloat16", choices=("tf32", "bfloat16"))
    options = parser.parse_args()
    splits = me.split_images(me.load_images(options.dataset))
    module = me.MLP(splits.num_classes)
    keys = jax.random.split(jax.random.key(0), options.seeds)
    recipe = image_recipe(module, len(splits.train))
    subjects = train_subjects(module, splits.train, recipe, keys)
    tasks = [
        me.forget_classes(subject, splits, digit) for subject in subjects for digit in range(10)
    ]
    print(json.dumps({"rewards": reward_differences(tasks[7], options.precision)}, indent=1))
    for precision in ("float32", options.precision):
        print(json.dumps({precision: edits(tasks, precision, options.budget)}, indent=1))


if __name__ == "__main__":
    main()
