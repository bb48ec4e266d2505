"""``python -m benchmarks.peers``: see the package."""

import json
import os
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.peers.control import SIZES, own_ppo, rejax_ppo
from benchmarks.peers.evosax_search import evosax_openes
from benchmarks.peers.figure import draw
from benchmarks.peers.torch_editing import TorchEditing, stable_baselines, torch_loop
from benchmarks.throughput import describe_device
from benchmarks.timing import Contestant, Rates, measure, ratio, summary
from benchmarks.workload import make_actions, make_task, ppo_training
from modeledit_jax.editors.search.evolution import OpenES
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.editors.search.search import run_updates
from modeledit_jax.envs.world import World
from modeledit_jax.report.summary import environment as software
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.tasks.task import Task

SCHEMA = 1
PEERS = ("torch", "stable-baselines3", "evosax", "rejax")


@dataclass(frozen=True)
class Config:
    """Sizes of the benchmark.

    Attributes:
      quick: few rounds, to see whether it runs.
      rounds: turns of every contestant.
      examples: images that every candidate is scored on, one search each.
      evaluations: of one sample of a compiled search.
      slow_evaluations: of one sample of a contestant that scores one candidate at a time.
      environments: of CartPole.
      steps: of CartPole in one sample; at least one update.
      output: folder of the results.
    """

    quick: bool = False
    rounds: int = 9
    examples: tuple[int, ...] = (1024, 3000)
    evaluations: int = 2000
    slow_evaluations: int = 256
    environments: tuple[int, ...] = (64, 2048)
    steps: int = 65_536
    output: Path = Path("benchmarks/results")


def searches(task: Task, config: Config) -> dict[str, Contestant]:
    """The contestants on one task; the work of all is counted in reward evaluations."""
    env = PPO().make_world(task)
    size = env.edit.action_size
    population = 10
    training, alone = ppo_training(env, config.evaluations // population)
    actions = np.asarray(make_actions(env, config.slow_evaluations))
    cached, full = TorchEditing(task, cached=True), TorchEditing(task, cached=False)
    return {
        "ppo": training,
        "environment": alone,
        "openes": openes(env, config.evaluations),
        "evosax_openes": evosax_openes(env, task, 20, config.evaluations // 20),
        "torch_loop": torch_loop(cached, actions),
        "sb3_cached": stable_baselines(cached, size, config.slow_evaluations),
        "sb3_full": stable_baselines(full, size, config.slow_evaluations),
    }


def openes(env: World, evaluations: int) -> Contestant:
    """This project's OpenES, its default population, from start to end in one compiled call."""
    search = OpenES(budget=evaluations)
    params = env.default_params

    @jax.jit
    def run(params: Any, key: Any) -> Any:
        state = search.init(env, params, key)
        return run_updates(search, env, params, state, search.updates)[1].plans[-1]

    work = search.updates * search.evaluations_per_update
    return Contestant(lambda: run(params, jax.random.key(0)), work=work)


def compare_searches(config: Config) -> dict[str, Any]:
    """Reward evaluations per second, and ratios to the peers, by number of images."""
    sections = {}
    for examples in config.examples:
        rates = measure(searches(make_task(MLP(), examples, "soft"), config), config.rounds)
        ratios = {f"ppo_over_{peer}": ratio(rates["ppo"], rates[peer])
                  for peer in ("sb3_full", "sb3_cached", "torch_loop")}  # fmt: skip
        ratios["openes_over_evosax"] = ratio(rates["openes"], rates["evosax_openes"])
        sections[str(examples)] = _section(rates, ratios)
    return sections


def compare_control(config: Config) -> dict[str, Any]:
    """Environment steps per second of PPO on CartPole, by number of environments."""
    sections = {}
    for number in config.environments:
        updates = max(config.steps // (number * SIZES["num_steps"]), 1)
        contestants = {"own": own_ppo(number, updates), "rejax": rejax_ppo(number, updates)}
        rates = measure(contestants, config.rounds)
        sections[str(number)] = _section(
            rates, {"own_over_rejax": ratio(rates["own"], rates["rejax"])}
        )
    return sections


def _section(rates: dict[str, Rates], ratios: dict[str, Any]) -> dict[str, Any]:
    return {"per_second": {name: summary(rate) for name, rate in rates.items()}, "ratios": ratios}


def run(config: Config) -> dict[str, Any]:
    """Measures everything; the contents of the JSON file."""
    return {
        "schema": SCHEMA,
        "benchmark": "peers",
        "device": {**describe_device(), "load_average_after": os.getloadavg()},
        "software": {**software(), **{name: version(name) for name in PEERS}},
        "settings": {**asdict(config), "output": str(config.output)},
        "searches": compare_searches(config),
        "control": compare_control(config),
        "notes": ["ratios are taken within a round; rates are medians with quartiles"],
    }


def main(config: Config) -> None:
    """Runs the benchmark, writes its results and prints the ratios."""
    if config.quick:
        config = replace(config, rounds=3, evaluations=400, slow_evaluations=64, steps=1)
    results = run(config)
    path = config.output / f"peers-{results['device']['name']}.json"
    atomic_write_text(path, json.dumps(results, indent=2) + "\n")
    draw(results, path.with_suffix(".png"))
    for kind in ("searches", "control"):
        for size, section in results[kind].items():
            for name, value in section["ratios"].items():
                spread = f"({value['low']:.2f} … {value['high']:.2f})"
                print(f"{kind:9s} {size:>6s}  {name:22s} {value['median']:8.2f}  {spread}")
    print(f"written: {path} and {path.with_suffix('.png')}")


if __name__ == "__main__":
    main(tyro.cli(Config))
