"""What a lifelong edit costs against the formulation of the released code.

``python -m benchmarks.lifelong`` measures, and writes ``lifelong-<device>.json``:

- one change of a kernel by MALMEN's normal equation: n × n unknowns (push-through, and the change
  stays a pair of thin matrices) against d × d unknowns and a dense change, as released;
- one candidate evaluation: a change beside the kernel (hook) against writing it, running the
  network and writing it back;
- bytes of working memory of one training step by the number of batches in memory, as the compiler
  plans them;
- seconds for a stream of edits of the experiment's default network, after compilation.
"""

import json
import os
import time
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
from benchmarks.timing import Contestant, measure, ratio, summary
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import pad_batch
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.model import init_params, tiny_llama
from modeledit_jax.lifelong.low_rank import ridge_shift
from modeledit_jax.lifelong.methods.hypernetwork import HypernetworkConfig
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.methods.meta_training import (
    MetaTraining,
    compiled_train_steps,
    start_training,
)
from modeledit_jax.lifelong.model import EditableModel, commit
from modeledit_jax.lifelong.objective import Objective
from modeledit_jax.lifelong.stream import edit_stream, start_stream
from modeledit_jax.report.summary import environment as software
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.types import Array

SCHEMA = 1
SPEED_UP = 10.0
"""Times faster than the released formulation a change has to be."""
MEMORY_GROWTH = 1.1
"""Memory of a training step with the longest memory over that with the shortest, at most."""
STREAM_SECONDS = 60.0
"""For ``edits`` edits."""


@dataclass(frozen=True)
class Config:
    """Sizes of the benchmark.

    Attributes:
      quick: few rounds and a small layer, to see whether it runs.
      rounds: turns of every contestant.
      size: d, rows and columns of the kernel.
      tokens: n, label tokens of a batch.
      memories: batches in memory (a single one is no loop, and compiles to something else).
      edits: of the stream.
      batch_size: edits made at once.
      output: folder of the results.
    """

    quick: bool = False
    rounds: int = 5
    size: int = 4096
    tokens: int = 60
    memories: tuple[int, ...] = (2, 8, 32)
    edits: int = 1000
    batch_size: int = 10
    output: Path = Path("benchmarks/results")


def released_shift(keys: Array, targets: Array) -> Array:
    """``(UᵀU + I)⁻¹ Uᵀ D`` as MALMEN and RLEdit compute it: d × d unknowns, a dense change."""
    system = keys.T @ keys + jnp.eye(keys.shape[1])
    return jnp.linalg.solve(system, keys.T @ targets)


def shift_contestants(config: Config) -> dict[str, Contestant]:
    """One change of one kernel."""
    rng = np.random.default_rng(0)
    keys, targets = (
        jnp.asarray(rng.normal(size=(config.tokens, config.size)), jnp.float32) for _ in range(2)
    )
    functions: dict[str, Callable[[Array, Array], Any]] = {
        "push_through": partial(ridge_shift, ridge=1.0),
        "released": released_shift,
    }
    return {
        name: Contestant(partial(jax.jit(function), keys, targets), 1)
        for name, function in functions.items()
    }


def model_of(config: Config) -> EditableModel:
    """The experiment's default network with random weights."""
    network = tiny_llama(1229, width=128, num_layers=4, num_heads=4)
    params = init_params(network, jax.random.key(0))
    return EditableModel.create(network, params, "layers/[23]/mlp/*")


def stream_of(config: Config, edits: int) -> FactBatch:
    """Random facts of the length of FactWorld's."""
    rng = np.random.default_rng(0)

    def part() -> Any:
        prompts, answers = (rng.integers(1, 1229, (edits, length)).tolist() for length in (9, 1))
        flat = pad_batch(prompts, answers, length=12)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, config.batch_size, 12), flat)

    places = jnp.full((edits // config.batch_size, config.batch_size), -1)
    return FactBatch(part(), part(), part(), None, None, None, places)


def candidate_contestants(config: Config) -> dict[str, Contestant]:
    """The network's answers after one change of all edited modules."""
    model = model_of(config)
    batch = jax.tree.map(lambda leaf: leaf[0], stream_of(config, config.batch_size)).edit
    changes = {
        name: Hook(keys=jnp.ones((config.batch_size, a)), values=jnp.ones((config.batch_size, b)))
        for name, (a, b) in model.shapes.items()
    }
    kernels = model.kernels()
    back = {name: replace(change, values=-change.values) for name, change in changes.items()}

    @jax.jit
    def write_and_restore(kernels: Any) -> Any:
        written = commit(kernels, changes)
        return model.logits(written, batch), commit(written, back)

    beside = jax.jit(lambda kernels: model.logits(kernels, batch, changes))
    return {
        "beside": Contestant(partial(beside, kernels), 1),
        "written": Contestant(partial(write_and_restore, kernels), 1),
    }


def learned_editor(config: Config, memory: int) -> tuple[HypernetworkEditor, MetaTraining]:
    """RLEdit at the size of the experiment."""
    network = HypernetworkConfig(rank=64, num_blocks=2)
    rows = config.batch_size  # an answer is one token
    return HypernetworkEditor("malmen", rows, network), MetaTraining(Objective(memory=memory))


def step_memory(config: Config, memory: int) -> int:
    """Bytes of temporary buffers of one training step."""
    editor, training = learned_editor(config, memory)
    model, stream = model_of(config), stream_of(config, 20 * config.batch_size)
    state = start_training(editor, training, model, jax.random.key(0))
    lowered = compiled_train_steps.lower(editor, training, model, state, stream, 1)
    analysis: Any = lowered.compile().memory_analysis()
    return int(analysis.temp_size_in_bytes)


def stream_seconds(config: Config) -> float:
    """Of a whole stream under RLEdit, compiled before."""
    editor, _ = learned_editor(config, 1)
    model, stream = model_of(config), stream_of(config, config.edits)
    learned = editor.init(model, jax.random.key(0))
    for _ in range(2):  # the first compiles
        state = jax.block_until_ready(start_stream(model, learned, jax.random.key(1)))
        begin = time.perf_counter()
        jax.block_until_ready(edit_stream(editor, model, state, stream))
    return time.perf_counter() - begin


def run(config: Config) -> dict[str, Any]:
    """Measures everything; the contents of the JSON file."""
    shifts = measure(shift_contestants(config), config.rounds)
    candidates = measure(candidate_contestants(config), config.rounds)
    faster = ratio(shifts["push_through"], shifts["released"])
    memory = {k: step_memory(config, k) for k in config.memories}
    growth = memory[max(memory)] / memory[min(memory)]
    seconds = stream_seconds(config)
    return {
        "schema": SCHEMA,
        "benchmark": "lifelong",
        "device": {**describe_device(), "load_average_after": os.getloadavg()},
        "software": software(),
        "settings": {key: value for key, value in asdict(config).items() if key != "output"},
        "changes_per_second": {name: summary(rate) for name, rate in shifts.items()},
        "change_speed_up": faster,
        "candidates_per_second": {name: summary(rate) for name, rate in candidates.items()},
        "candidate_speed_up": ratio(candidates["beside"], candidates["written"]),
        "step_bytes_by_memory": {str(k): size for k, size in memory.items()},
        "stream_seconds": seconds,
        "targets": [
            target("change_speed_up", faster["median"], at_least=SPEED_UP),
            target("memory_growth", growth, at_most=MEMORY_GROWTH),
            target("stream_seconds", seconds, at_most=STREAM_SECONDS),
        ],
    }


def target(
    name: str, value: float, *, at_least: float = -np.inf, at_most: float = np.inf
) -> dict[str, Any]:
    """One line of the verdict."""
    bound = at_least if np.isfinite(at_least) else at_most
    side = "at_least" if np.isfinite(at_least) else "at_most"
    return {"name": name, "value": value, side: bound, "passed": at_least <= value <= at_most}


def main(config: Config) -> None:
    """Runs the benchmark, writes its results and prints the verdict."""
    if config.quick:
        config = replace(config, rounds=2, size=256, edits=100, memories=(2, 4))
    results = run(config)
    path = config.output / f"lifelong-{results['device']['name']}.json"
    atomic_write_text(path, json.dumps(results, indent=2) + "\n")
    for name in ("change_speed_up", "candidate_speed_up"):
        found = results[name]
        print(f"{name}: {found['median']:.1f} [{found['low']:.1f}, {found['high']:.1f}]")
    for size, count in results["step_bytes_by_memory"].items():
        print(f"training step with {size} batches in memory: {count / 2**20:.1f} MiB")
    for line in results["targets"]:
        verdict = "pass" if line["passed"] else "FAIL"
        bound = line.get("at_least", line.get("at_most"))
        print(f"{verdict}  {line['name']}  {line['value']:.2f}  (bound {bound:g})")
    print(f"written: {path}")


if __name__ == "__main__":
    main(tyro.cli(Config))
