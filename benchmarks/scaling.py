"""Cost by the number of candidates and of tasks: both should be straight lines.

``python -m benchmarks.scaling`` measures, on whatever device JAX finds, seconds and memory of the
evaluation of many candidates, and of a search over many tasks side by side; fits the slope of time
over number, both as logarithms (1: twice as many take twice as long); takes tasks in groups of
several sizes, to see how good the rule is that chooses one; and writes ``scaling-<device>.json``
and ``.png``.
"""

import io
import json
import os
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.throughput import describe_device
from benchmarks.timing import Contestant, measure, ratio, summary
from benchmarks.workload import make_actions, make_task, make_tasks
from modeledit_jax.editors.search.evolution import evaluate_population
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.envs.task_pool import TaskPool, make_pool, networks_of
from modeledit_jax.envs.world import World
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.memory import default_budget
from modeledit_jax.report.style import DPI
from modeledit_jax.report.summary import environment as software
from modeledit_jax.run.files import atomic_write_bytes, atomic_write_text
from modeledit_jax.run.memory_plan import plan_memory
from modeledit_jax.run.search_run import Searches, run_search
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.types import Key

SCHEMA = 1
COLORS = ("#0072B2", "#D55E00", "#009E73")


@dataclass(frozen=True)
class Config:
    """Sizes of the benchmark.

    Attributes:
      quick: few rounds and small numbers, to see whether it runs.
      rounds: turns of every contestant.
      examples: images that every candidate is scored on.
      candidates: of one evaluation.
      tasks: searched for together, two updates each.
      budgets: bytes, for the plans of the most tasks.
      group_examples: images of the searches in groups of several sizes.
      group_tasks: tasks of such a search.
      group_sizes: tasks side by side, beside those that the rule chooses.
      output: folder of the results.
    """

    quick: bool = False
    rounds: int = 5
    examples: int = 256
    candidates: tuple[int, ...] = (64, 256, 1024, 4096, 16384, 65536)
    tasks: tuple[int, ...] = (1, 10, 100, 1000)
    budgets: tuple[int, ...] = (10**7, 10**8, 10**9)
    group_examples: tuple[int, ...] = (256, 1024, 3000)
    group_tasks: int = 40
    group_sizes: tuple[int, ...] = (1, 2, 5, 10, 20, 40)
    output: Path = Path("benchmarks/results")


def compare_candidates(config: Config) -> dict[str, Any]:
    """Candidates per second, and bytes that the program needs beside what it is given."""
    env = ShiftWorld(make_task(MLP(), config.examples, "soft"))
    rewards = jax.jit(lambda params, actions: evaluate_population(env, params, actions)[0])
    contestants, memory = {}, {}
    for number in config.candidates:
        arguments = env.default_params, make_actions(env, number)
        program = rewards.lower(*arguments).compile()
        memory[str(number)] = _temporary_bytes(program)
        contestants[str(number)] = Contestant(partial(program, *arguments), work=number)
    return _section(contestants, config) | {"temporary_bytes": memory}


def compare_tasks(config: Config) -> dict[str, Any]:
    """Tasks per second of two updates of PPO on each, ten classes of a network; and their bytes.

    ``stored_bytes`` are the params of all tasks, ``networks`` how many networks they are of, and
    ``planned_bytes`` what the memory plan says that the search takes in all.
    """
    search = PPO(budget=20)
    contestants, stored, planned, networks = {}, {}, {}, {}
    for number in config.tasks:
        tasks = make_tasks(MLP(), config.examples, number, "soft")
        env = search.make_world(tasks[0]).static
        plan = plan_memory(search, env, tasks, default_budget())
        pool, keys = make_pool(env, tasks), jax.random.split(jax.random.key(0), number)
        searches = Searches.of(search, number)
        run = partial(_searched, searches, env, pool, keys, plan.tasks)
        contestants[str(number)] = Contestant(run, work=number)
        stored[str(number)], planned[str(number)] = pool.nbytes, plan.needed
        networks[str(number)] = len(networks_of(tasks)[0])
    about = {"networks": networks, "stored_bytes": stored, "planned_bytes": planned}
    return _section(contestants, config) | about


def _searched(searches: Searches, env: World, pool: TaskPool, keys: Key, at_once: int) -> Any:
    return run_search(searches, env, pool, keys, at_once=at_once).trace.plans


def compare_budgets(config: Config) -> dict[str, Any]:
    """Of the most tasks, what the plan takes of several budgets, and in how many parts."""
    search, number = PPO(budget=20), max(config.tasks)
    tasks = make_tasks(MLP(), config.examples, number, "soft")
    env = search.make_world(tasks[0]).static
    found = {}
    for budget in config.budgets:
        plan = plan_memory(search, env, tasks, budget)
        found[str(budget)] = {"planned_bytes": plan.needed, "parts": len(plan.parts)}
    return found


def compare_groups(config: Config) -> dict[str, Any]:
    """Of searches by number of images: tasks per second by tasks side by side.

    ``rule`` is what the memory plan chooses, and ``rule_over_best`` its rate over the best median,
    round by round.
    """
    search, number = PPO(budget=20), config.group_tasks
    searches, keys = Searches.of(search, number), jax.random.split(jax.random.key(0), number)
    found = {}
    for examples in config.group_examples:
        tasks = make_tasks(MLP(), examples, number, "soft")
        env = search.make_world(tasks[0]).static
        rule = plan_memory(search, env, tasks, default_budget()).tasks
        pool = make_pool(env, tasks)
        contestants = {
            str(size): Contestant(partial(_searched, searches, env, pool, keys, size), number)
            for size in sorted({min(size, number) for size in (*config.group_sizes, rule)})
        }
        rates = measure(contestants, config.rounds)
        rows = {name: summary(rate) for name, rate in rates.items()}
        best = max(rows, key=lambda name: rows[name]["median"])
        found[str(examples)] = {
            "rule": rule,
            "per_second": rows,
            "best": int(best),
            "rule_over_best": ratio(rates[str(rule)], rates[best]),
        }
    return found


def slope(numbers: list[int], seconds: list[float]) -> float:
    """Slope of the straight line through the logarithms of seconds over those of numbers."""
    return float(np.polyfit(np.log(numbers), np.log(seconds), 1)[0])


def _section(contestants: dict[str, Contestant], config: Config) -> dict[str, Any]:
    rates = {name: summary(rate) for name, rate in measure(contestants, config.rounds).items()}
    numbers = [int(name) for name in rates]
    seconds = [number / rates[str(number)]["median"] for number in numbers]
    return {"per_second": rates, "slope": slope(numbers, seconds)}


def _temporary_bytes(program: Any) -> int | None:
    """What the compiler reserves; None where it does not say."""
    analysis = program.memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


def run(config: Config) -> dict[str, Any]:
    """Measures everything; the contents of the JSON file."""
    return {
        "schema": SCHEMA,
        "benchmark": "scaling",
        "device": {**describe_device(), "load_average_after": os.getloadavg()},
        "software": software(),
        "settings": {**asdict(config), "output": str(config.output)},
        "candidates": compare_candidates(config),
        "tasks": compare_tasks(config),
        "budgets": compare_budgets(config),
        "groups": compare_groups(config),
        "notes": ["slope: of the logarithm of seconds over that of the number; medians"],
    }


def draw(results: dict[str, Any], path: str | Path) -> Figure:
    """Writes three panels as PNG: seconds over candidates and over tasks, with lines of slope 1,
    and rates by the size of groups, relative to the best."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    *lines, groups = figure.subplots(1, 3)
    _draw_groups(results["groups"], groups)
    for axes, kind in zip(lines, ("candidates", "tasks"), strict=True):
        section = results[kind]
        numbers = [int(name) for name in section["per_second"]]
        seconds = [n / section["per_second"][str(n)]["median"] for n in numbers]
        label = f"measured, slope {section['slope']:.2f}"
        axes.loglog(numbers, seconds, "o-", color="#0072B2", label=label)
        line = [seconds[-1] * number / numbers[-1] for number in numbers]
        axes.loglog(numbers, line, ":", color="#000000", label="slope 1")
        axes.set_xlabel(kind)
        axes.set_ylabel("seconds")
        axes.grid(color="#DDDDDD", linewidth=0.7)
        axes.legend(fontsize=8)
    figure.suptitle(f"{results['device']['name']}, {results['settings']['examples']} images")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    atomic_write_bytes(path, buffer.getvalue())
    return figure


def _draw_groups(groups: dict[str, Any], axes: Axes) -> None:
    for (examples, found), color in zip(groups.items(), cycle(COLORS), strict=False):
        sizes = [int(name) for name in found["per_second"]]
        rates = np.array([found["per_second"][str(size)]["median"] for size in sizes])
        axes.semilogx(sizes, rates / rates.max(), "o-", color=color, label=f"{examples} images")
        rule = sizes.index(found["rule"])
        ring: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "color": "#000000"}
        axes.plot(sizes[rule], rates[rule] / rates.max(), "o", **ring)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("tasks side by side (ring: the rule)")
    axes.set_ylabel("tasks per second over the best")
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.legend(fontsize=8)


def main(config: Config) -> None:
    """Runs the benchmark, writes its results and prints the slopes."""
    if config.quick:
        config = replace(config, rounds=2, candidates=(64, 256, 1024), tasks=(1, 4, 16))
        config = replace(config, group_examples=(256,), group_tasks=8)
    results = run(config)
    path = config.output / f"scaling-{results['device']['name']}.json"
    atomic_write_text(path, json.dumps(results, indent=2) + "\n")
    draw(results, path.with_suffix(".png"))
    for kind in ("candidates", "tasks"):
        print(f"{kind:11s} slope {results[kind]['slope']:.3f}")
    print(f"temporary bytes: {results['candidates']['temporary_bytes']}")
    print(f"stored bytes of tasks: {results['tasks']['stored_bytes']}")
    print(f"budgets: {results['budgets']}")
    for examples, found in results["groups"].items():
        share = found["rule_over_best"]
        print(
            f"{examples} images: {found['rule']} tasks side by side, {share['median']:.2f} "
            f"({share['low']:.2f} ... {share['high']:.2f}) of the rate of {found['best']}"
        )
    print(f"written: {path} and {path.with_suffix('.png')}")


if __name__ == "__main__":
    main(tyro.cli(Config))
