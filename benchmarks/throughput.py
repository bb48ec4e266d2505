"""Reward evaluations per second against what they might cost otherwise.

``python -m benchmarks.throughput`` measures, on whatever device JAX finds,

- the environment's step over many candidates, against a full forward pass per candidate, a plain
  PyTorch loop, and what the device can do at best (`ceilings`): matrix products, that of the edited
  layer and a large square one, and copies of memory;
- that the step does not slow down with many candidates, nor with a deeper unedited prefix;
- how much of a training step is PPO's own work;

and writes ``<device>.json`` and ``<device>.png``. All comparisons are ratios of contestants that
took turns (`timing`).
"""

import json
import os
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import tyro

from benchmarks.ceilings import Sizes, copy, evaluation_bytes, large_gemm
from benchmarks.figure import draw
from benchmarks.timing import Contestant, fastest, flatness, measure, ratio, summary
from benchmarks.torch_loop import available, torch_loop
from benchmarks.workload import (
    DeepCNN,
    environment,
    evaluation_flops,
    full_forward,
    gemm,
    make_task,
    ppo_training,
)
from modeledit_jax.envs.world import Observation
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.report.summary import environment as software
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.subjects.image_classifiers import CNN, MLP

SCHEMA = 1
WORLDS = {"shift": ShiftWorld, "mask": MaskWorld}
OBSERVATIONS: tuple[Observation, ...] = ("weights", "time")


@dataclass(frozen=True)
class Config:
    """Sizes of the benchmark.

    Attributes:
      quick: few rounds and few candidates, to see whether it runs.
      rounds: turns of every contestant.
      examples: images that every candidate is scored on.
      candidates: edits scored in one call.
      headline: the number of candidates that targets are about.
      full_candidates: candidates of one sample of the slow contestants.
      gemm_chunks: candidates per matrix product; the fastest product, the square one included,
        counts as the device's peak.
      depths: of the convolutional prefix.
      ppo_examples: images of the reward in the training step; 5,000 as on full-size data sets.
      ppo_updates: updates of one sample.
      output: folder of the results.
    """

    quick: bool = False
    rounds: int = 15
    examples: int = 1024
    candidates: tuple[int, ...] = (64, 256, 1024, 4096, 8192)
    headline: int = 4096
    full_candidates: int = 8
    gemm_chunks: tuple[int, ...] = (8, 16, 32, 64)
    depths: tuple[int, ...] = (1, 2, 4)
    ppo_examples: int = 5000
    ppo_updates: int = 20
    output: Path = Path("benchmarks/results")


def compare_candidates(config: Config) -> dict[str, Any]:
    """Evaluations per second by number of candidates, and those of the other contestants."""
    task = make_task(CNN(), config.examples)
    worlds = {name: world(task) for name, world in WORLDS.items()}
    steps = {
        f"{name}-{number}": environment(world, number, _populations(config, number))
        for name, world in worlds.items()
        for number in config.candidates
    }
    soft = ShiftWorld(make_task(CNN(), config.examples, "soft"))
    others = {
        "soft_reward": environment(soft, config.headline),
        "full_forward": full_forward(worlds["shift"], task, config.full_candidates),
    }
    if available():
        others["torch_loop"] = torch_loop(worlds["shift"], task, config.full_candidates)
    products = {
        f"gemm-{chunk}": gemm(task, chunk, max(config.headline // 4 // chunk, 1))
        for chunk in config.gemm_chunks
    }
    sizes = Sizes.of_device()
    products["gemm-square"] = large_gemm(sizes)
    copies = {"copy": copy(sizes)}
    rates = measure(steps | others | products | copies, config.rounds)
    peak = rates[fastest({name: rates[name] for name in products})]
    flops = evaluation_flops(task)
    headline = {name: rates[f"{name}-{config.headline}"] for name in worlds}
    ratios = {f"speedup_over_{other}": ratio(headline["shift"], rates[other]) for other in others}
    for name in worlds:
        ratios[f"peak_fraction_{name}"] = ratio(headline[name], peak, factor=flops)
        ratios[f"bandwidth_fraction_{name}"] = ratio(
            headline[name], rates["copy"], factor=evaluation_bytes(task)
        )
        every = [rates[f"{name}-{number}"] for number in config.candidates]
        ratios[f"flatness_{name}"] = flatness(every)
    return {
        "flops_per_evaluation": flops,
        "peak_flops_per_second": summary(peak),
        "bytes_per_evaluation": evaluation_bytes(task),
        "copied_bytes_per_second": summary(rates["copy"]),
        "evaluations_per_second": {
            name: summary(rate) for name, rate in rates.items() if name not in products | copies
        },
        "gemm_flops_per_second": {name: summary(rates[name]) for name in products},
        "ratios": ratios,
    }


def compare_depths(config: Config) -> dict[str, Any]:
    """Evaluations per second by depth of the convolutional prefix, with and without the cache."""
    number = min(config.candidates[-1], 256)
    steps, forwards = {}, {}
    for depth in config.depths:
        task = make_task(DeepCNN(depth), config.examples)
        world = ShiftWorld(task)
        steps[f"environment-{depth}"] = environment(world, number, _populations(config, number))
        candidates = max(config.full_candidates // 4, 1)
        forwards[f"full_forward-{depth}"] = full_forward(world, task, candidates)
    # Apart: the deep networks empty the caches of whoever comes after them.
    rates = measure(steps, config.rounds) | measure(forwards, config.rounds)
    first, *rest = config.depths
    return {
        "evaluations_per_second": {name: summary(rate) for name, rate in rates.items()},
        "ratios": {
            f"{name}_depth_{depth}": ratio(rates[f"{name}-{depth}"], rates[f"{name}-{first}"])
            for name in ("environment", "full_forward")
            for depth in rest
        },
    }


def compare_ppo(config: Config) -> dict[str, Any]:
    """Share of PPO's own work in a training step of one task, with the default reward.

    Once with the weights as observation, and once with the time alone, the default in episodes of
    one edit: most of PPO's work is the first layer of its network, which the weights make large.
    """
    task = make_task(MLP(), config.ppo_examples, "soft")
    contestants: dict[str, Contestant] = {}
    for name in OBSERVATIONS:
        training, alone = ppo_training(ShiftWorld(task, observation=name), config.ppo_updates)
        contestants |= {f"training_{name}": training, "environment": alone}
    rates = measure(contestants, config.rounds)
    return {
        "evaluations_per_second": {name: summary(rate) for name, rate in rates.items()},
        "evaluations_per_update": contestants["environment"].work / config.ppo_updates,
        "ratios": {
            f"ppo_share_{name}": _complement(ratio(rates[f"training_{name}"], rates["environment"]))
            for name in OBSERVATIONS
        },
    }


def run(config: Config) -> dict[str, Any]:
    """Measures everything and judges the targets; the contents of the JSON file."""
    device = describe_device()
    sections = {
        "candidates": compare_candidates(config),
        "depth": compare_depths(config),
        "ppo": compare_ppo(config),
    }
    settings = {**asdict(config), "output": None}
    notes = [
        "rates are per second; median, low and high (quartiles) and best are over rounds and of "
        "the clock, cpu is the median over processor time and means nothing on an accelerator",
        "ratios are taken within a round",
    ]
    if not available():
        notes.append("PyTorch is not installed: its loop was left out")
    return {
        "schema": SCHEMA,
        "benchmark": "throughput",
        "device": {**device, "load_average_after": os.getloadavg()},
        "software": software(),
        "settings": {name: value for name, value in settings.items() if value is not None},
        **sections,
        "targets": judge(sections, config),
        "notes": notes,
    }


def judge(sections: dict[str, Any], config: Config) -> list[dict[str, Any]]:
    """The targets, stated for two CPU cores, with what was measured (medians)."""
    ratios = {name: value for part in sections.values() for name, value in part["ratios"].items()}
    limits: list[tuple[str, float | None, float | None]] = [
        ("speedup_over_full_forward", 10.0, None)
    ]
    for name in WORLDS:
        limits.append((f"peak_fraction_{name}", 0.5, None))
        limits.append((f"flatness_{name}", None, 1.2))
    limits.append((f"environment_depth_{config.depths[-1]}", 0.9, 1.1))
    limits.append(("ppo_share_time", None, 0.15))
    return [
        {
            "name": name,
            "value": ratios[name]["median"],
            "at_least": least,
            "at_most": most,
            "passed": (least is None or ratios[name]["median"] >= least)
            and (most is None or ratios[name]["median"] <= most),
        }
        for name, least, most in limits
    ]


def describe_device() -> dict[str, Any]:
    """Name, kind and size of the device that JAX computes on."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"cpu-{cores}-cores" if device.platform == "cpu" else device.device_kind
    return {
        "name": name.lower().replace(" ", "-"),
        "kind": device.device_kind,
        "cpu_cores": cores,
        "cpu_model": _cpu_model(),
        "load_average_before": os.getloadavg(),
    }


def main(config: Config) -> None:
    """Runs the benchmark, writes its results and prints the targets."""
    if config.quick:
        config = replace(config, rounds=3, candidates=(64, 256, 1024), headline=1024)
    results = run(config)
    path = config.output / f"{results['device']['name']}.json"
    atomic_write_text(path, json.dumps(results, indent=2) + "\n")
    draw(results, path.with_suffix(".png"))
    for target in results["targets"]:
        verdict = "pass" if target["passed"] else "FAIL"
        bounds = f"{target['at_least'] or ''} … {target['at_most'] or ''}"
        print(f"{verdict}  {target['name']:28s} {target['value']:9.3f}   ({bounds})")
    print("(medians of the clock; `cpu` in the file hardly depends on other load)")
    print(f"written: {path} and {path.with_suffix('.png')}")


def _populations(config: Config, number: int) -> int:
    """Populations of one sample that evaluate about half as many candidates as the headline."""
    return max(config.headline // 2 // number, 1)


def _complement(share: dict[str, float]) -> dict[str, float]:
    low, high = 1.0 - share["high"], 1.0 - share["low"]
    rest = {name: 1.0 - share[name] for name in ("median", "best", "cpu")}
    return {**rest, "low": low, "high": high}


def _cpu_model() -> str:
    """Name of the processor as Linux gives it, else as Python does."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main(tyro.cli(Config))
