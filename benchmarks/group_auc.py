"""Cost of the exact AUCs of all identity groups against that of one sort.

``python -m benchmarks.group_auc`` scores a batch of candidates: `group_aucs` of every candidate,
the plain AUC, and nothing but `jax.lax.sort` of the same scores, which take turns (`timing`). It
writes ``group-auc-<device>.json``. Each contestant runs as a reward would run it, a few candidates
at a time inside `jax.lax.map`; the sort also over the whole batch at once, and the faster counts.
Beside it: edited classifiers per second that the whole reward of bias mitigation allows.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.throughput import describe_device
from benchmarks.timing import Contestant, Rates, fastest, measure, ratio, summary
from benchmarks.workload import environment
from modeledit_jax.data.comments.synthetic import identity_corpus
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.evaluation.auc import auc, group_aucs
from modeledit_jax.report.summary import environment as software
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.subjects.text_classifiers import make_text_classifier
from modeledit_jax.tasks.debiasing import mitigate_bias
from modeledit_jax.types import Array

SCHEMA = 1
LIMIT = 2.0
"""Sorts that the AUCs of all groups may cost."""


@dataclass(frozen=True)
class Config:
    """Sizes of the benchmark.

    Attributes:
      quick: few rounds and candidates, to see whether it runs.
      rounds: turns of every contestant.
      examples: scored comments; the target is about the one in the middle.
      groups: identity terms.
      candidates: score vectors of one sample.
      batches: candidates at a time.
      output: folder of the results.
    """

    quick: bool = False
    rounds: int = 15
    examples: tuple[int, ...] = (1024, 3000, 8192)
    groups: int = 16
    candidates: int = 256
    batches: tuple[int, ...] = (8, 32)
    output: Path = Path("benchmarks/results")


def contestants(config: Config, examples: int) -> dict[str, Contestant]:
    """Everything that is timed on ``examples`` scores; work is counted in candidates."""
    rng = np.random.default_rng(0)
    scores = jnp.asarray(rng.normal(size=(config.candidates, examples)), jnp.float32)
    label = jnp.asarray(rng.integers(0, 2, examples), jnp.int32)
    # One comment in four mentions a term, as in the embedded corpus; some mention two.
    share = 0.25 / config.groups
    groups = jnp.asarray(rng.random((examples, config.groups)) < share, jnp.float32)
    functions: dict[str, Callable[[Array], Any]] = {
        "sort": jax.lax.sort,
        "auc": partial(auc, label=label),
        "group_aucs": partial(group_aucs, label=label, groups=groups),
    }

    def contestant(function: Callable[[Array], Any], batch: int) -> Contestant:
        mapped = jax.jit(partial(jax.lax.map, function, batch_size=batch))
        return Contestant(partial(mapped, scores), config.candidates)

    everything = jax.jit(jax.vmap(jax.lax.sort))
    return {
        f"{name}-{batch}": contestant(function, batch)
        for name, function in functions.items()
        for batch in config.batches
    } | {"sort-all": Contestant(partial(everything, scores), config.candidates)}


def compare(config: Config, examples: int) -> dict[str, Any]:
    """Candidates per second, and costs in sorts: time over that of the fastest sort."""
    rates = measure(contestants(config, examples), config.rounds)

    def best(prefix: str) -> Rates:
        return rates[fastest({name: r for name, r in rates.items() if name.startswith(prefix)})]

    return {
        "candidates_per_second": {name: summary(rate) for name, rate in rates.items()},
        "cost_in_sorts": {
            name: ratio(best("sort-"), best(f"{name}-")) for name in ("group_aucs", "auc")
        },
    }


def edited_classifiers(config: Config) -> dict[str, float]:
    """Reward evaluations per second in ShiftWorld on the embedded corpus, random weights."""
    data = identity_corpus()
    module = make_text_classifier("boe", len(data.vocabulary), data.vectors)
    tokens = jnp.asarray(data.roles["reward"].tokens[:1])
    params = module.init(jax.random.key(0), tokens)["params"]
    task = mitigate_bias(Subject(params, flax_apply(module)), data)
    step = environment(ShiftWorld(task), config.candidates)
    return summary(measure({"step": step}, config.rounds)["step"])


def run(config: Config) -> dict[str, Any]:
    """Measures everything; the contents of the JSON file."""
    device = describe_device()
    sizes = {str(examples): compare(config, examples) for examples in config.examples}
    headline = str(config.examples[len(config.examples) // 2])
    cost = sizes[headline]["cost_in_sorts"]["group_aucs"]["median"]
    return {
        "schema": SCHEMA,
        "benchmark": "group-auc",
        "device": {**device, "load_average_after": os.getloadavg()},
        "software": software(),
        "settings": {key: value for key, value in asdict(config).items() if key != "output"},
        "by_examples": sizes,
        "edited_classifiers_per_second": edited_classifiers(config),
        "targets": [
            {
                "name": f"group_aucs_in_sorts_{headline}",
                "value": cost,
                "at_most": LIMIT,
                "passed": cost <= LIMIT,
            }
        ],
        "notes": [
            "rates are per second; median, low and high (quartiles) and best are over rounds and "
            "of the clock, cpu is the median over processor time",
            "costs are ratios taken within a round; of every contestant its fastest batch counts",
        ],
    }


def main(config: Config) -> None:
    """Runs the benchmark, writes its results and prints the costs."""
    if config.quick:
        config = replace(config, rounds=3, candidates=32)
    results = run(config)
    path = config.output / f"group-auc-{results['device']['name']}.json"
    atomic_write_text(path, json.dumps(results, indent=2) + "\n")
    for examples, measured in results["by_examples"].items():
        for name, cost in measured["cost_in_sorts"].items():
            spread = f"[{cost['low']:.2f}, {cost['high']:.2f}]  cpu {cost['cpu']:.2f}"
            print(f"{name:12s} {examples:>6s} examples  {cost['median']:.2f} sorts  {spread}")
    rate = results["edited_classifiers_per_second"]
    print(f"{rate['median']:,.0f} [{rate['low']:,.0f}, {rate['high']:,.0f}] rewards per second")
    for target in results["targets"]:
        verdict = "pass" if target["passed"] else "FAIL"
        print(f"{verdict}  {target['name']}  {target['value']:.2f}  (at most {target['at_most']})")
    print(f"written: {path}")


if __name__ == "__main__":
    main(tyro.cli(Config))
