"""What closed-form editing costs against the formulation of the released code.

``python -m benchmarks.closed_form`` measures, and writes ``closed-form-<device>.json``:

- one change of a kernel whose preconditioner is known (AlphaEdit, arXiv 2410.02355, equation 14):
  n × n unknowns, n facts, against the released solve for d × d unknowns;
- the same and what the next batch needs of this one: a new preconditioner against a sum of outer
  products;
- values of a batch of facts, optimized together against one fact after another.

The contestants do the same arithmetic to the same end; tests compare what they return.
"""

import json
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.lifelong import target
from benchmarks.throughput import describe_device
from benchmarks.timing import Contestant, measure, ratio, summary
from modeledit_jax.data.facts.contexts import ContextBatch, bare_rows
from modeledit_jax.data.facts.tokens import pad_batch
from modeledit_jax.language.config import LanguageModelConfig, mlps_at_depth
from modeledit_jax.language.model import init_params
from modeledit_jax.lifelong.edit_values import ValueSearch, edit_values
from modeledit_jax.lifelong.low_rank import preconditioned_shift, remember
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.report.summary import environment as software
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.types import Array

SCHEMA = 1
CHANGE_SPEED_UP, VALUES_SPEED_UP = 10.0, 5.0
"""Times faster than the released formulation, and than one fact after another, at least."""
RIDGE = 10.0
"""L2 of AlphaEdit."""
SUBJECT = 3
"""Position of a subject's last token."""
SMOLLM2_135M = LanguageModelConfig(
    vocab_size=49_152,
    width=576,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    mlp_width=1_536,
    context=8_192,
    rope_theta=100_000.0,
    tied_head=True,
)
TINY = LanguageModelConfig(
    vocab_size=64, width=16, num_layers=4, num_heads=2, num_kv_heads=2, head_dim=8, mlp_width=32,
    context=64,
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Sizes of the benchmark."""

    rounds: int = 5
    """Turns of every contestant."""
    size: int = 4_096
    """d, rows and columns of the kernel."""
    facts: int = 10
    """Edited at once."""
    length: int = 12
    """Positions of every prompt with its answer."""
    steps: int = 25
    """Evaluations of the loss of a value."""
    tiny: bool = False
    """Values in a tiny network instead of one of the shapes of SmolLM2-135M."""
    output: Path = Path("benchmarks/results")
    """Folder of the result."""


def released_shift(keys: Array, targets: Array, projection: Array, seen: Array) -> Array:
    """AlphaEdit's solve as released: d × d unknowns; ``seen`` is the sum of earlier ``k kᵀ``."""
    outer = keys.T @ keys
    system = projection @ (outer + seen) + RIDGE * jnp.eye(len(projection))
    return jnp.linalg.solve(system, projection @ (keys.T @ targets))


def released_shift_and_sum(
    keys: Array, targets: Array, projection: Array, seen: Array
) -> tuple[Array, Array]:
    """The same, and what the next batch needs of this one."""
    return released_shift(keys, targets, projection, seen), seen + keys.T @ keys


def shift_and_memory(keys: Array, targets: Array, preconditioner: Array) -> tuple[Any, Array]:
    """Ours, and the preconditioner of the next batch."""
    update = preconditioned_shift(keys, targets, preconditioner, 1.0)
    return update, remember(preconditioner, keys, 1.0)


def change_contestants(config: Config) -> dict[str, Contestant]:
    """One change of a kernel in which nothing was edited yet; half of the directions are free."""
    rng = np.random.default_rng(0)
    keys, targets = (
        jnp.asarray(rng.normal(size=(config.facts, config.size)), jnp.float32) for _ in range(2)
    )
    free = jnp.asarray(np.arange(config.size) % 2, jnp.float32)
    projection = jnp.diag(free)
    nothing = jnp.zeros((config.size, config.size))
    ours = (keys, targets, projection / RIDGE)
    theirs = (keys, targets, projection, nothing)
    shift = partial(preconditioned_shift, ridge=1.0)
    return {
        "push_through": Contestant(partial(jax.jit(shift), *ours), 1),
        "released": Contestant(partial(jax.jit(released_shift), *theirs), 1),
        "push_through_and_memory": Contestant(partial(jax.jit(shift_and_memory), *ours), 1),
        "released_and_memory": Contestant(partial(jax.jit(released_shift_and_sum), *theirs), 1),
    }


def value_contestants(config: Config) -> dict[str, Contestant]:
    """Values of one batch at the layer that MEMIT edits, in a network with random weights."""
    network = TINY if config.tiny else SMOLLM2_135M
    modules = mlps_at_depth(network, (0.26, 0.36))
    model = EditableModel.create(network, init_params(network, jax.random.key(0)), modules)
    layer = max(int(name.split("/")[1]) for name in modules)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, network.vocab_size, (config.facts, config.length)).tolist()
    batch = pad_batch([row[:-1] for row in tokens], [row[-1:] for row in tokens], config.length)
    facts = bare_rows(batch, jnp.full(config.facts, SUBJECT, jnp.int32))
    search = ValueSearch(steps=config.steps, floor=0.0)  # every fact takes all steps

    @jax.jit
    def together(model: EditableModel, facts: ContextBatch) -> Array:
        real = jnp.ones(len(facts.subject), bool)
        window = config.length - SUBJECT
        kernels = model.kernels()
        return edit_values(model, kernels, facts, real, layer, search, 1, window).delta

    def one_by_one(model: EditableModel, facts: ContextBatch) -> Array:
        rows = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], facts) for i in range(config.facts)]
        return jnp.concatenate([together(model, row) for row in rows])

    return {
        "together": Contestant(partial(together, model, facts), config.facts),
        "one_by_one": Contestant(partial(one_by_one, model, facts), config.facts),
    }


def run(config: Config) -> dict[str, Any]:
    """Measures everything; the contents of the JSON file."""
    rates = measure(change_contestants(config), config.rounds)
    rates |= measure(value_contestants(config), config.rounds)
    change = ratio(rates["push_through"], rates["released"])
    remembered = ratio(rates["push_through_and_memory"], rates["released_and_memory"])
    values = ratio(rates["together"], rates["one_by_one"])
    return {
        "schema": SCHEMA,
        "benchmark": "closed-form",
        "device": {**describe_device(), "load_average_after": os.getloadavg()},
        "software": software(),
        "settings": {key: value for key, value in asdict(config).items() if key != "output"},
        "per_second": {name: summary(rate) for name, rate in rates.items()},
        "change_speed_up": change,
        "change_and_memory_speed_up": remembered,
        "values_speed_up": values,
        "targets": [
            target("change_speed_up", change["median"], at_least=CHANGE_SPEED_UP),
            target("change_and_memory_speed_up", remembered["median"], at_least=CHANGE_SPEED_UP),
            target("values_speed_up", values["median"], at_least=VALUES_SPEED_UP),
        ],
    }


def main(config: Config) -> Path:
    """Measures, prints every target, writes the result."""
    results = run(config)
    for line in results["targets"]:
        found, verdict = results[line["name"]], "pass" if line["passed"] else "FAIL"
        spread = f"{found['median']:.1f} [{found['low']:.1f}, {found['high']:.1f}]"
        print(f"{verdict}  {line['name']}  {spread}  (bound {line['at_least']:g})")
    path = config.output / f"closed-form-{results['device']['name']}.json"
    atomic_write_text(path, json.dumps(results, indent=1) + "\n")
    return path


if __name__ == "__main__":
    print(main(tyro.cli(Config, description=__doc__)))
