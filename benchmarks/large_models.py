"""Whether lifelong editing of models of 8 and 9 billion parameters compiles, and what it needs.

``python -m benchmarks.large_models`` compiles one step of a stream and one of meta-training for
networks of the shapes of Llama-3-8B and Gemma-2-9B, of which nothing is allocated, and writes what
the compiler plans for each device. With ``--devices 8`` (simulated
on a CPU by ``XLA_FLAGS=--xla_force_host_platform_device_count=8``) parameters lie along ``model``.

The network is bfloat16, edited kernels and what methods keep are float32. Layers below the lowest
edited one are not part of a step: what they say is an input (`lifelong.prepared`).
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax.traverse_util import unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.throughput import describe_device
from modeledit_jax.data.facts.contexts import ContextBatch
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch, pad_batch, with_places
from modeledit_jax.language.config import LanguageModelConfig, mlps_at_depth
from modeledit_jax.language.parameters import parameter_shapes
from modeledit_jax.language.sharding import parameter_shardings
from modeledit_jax.lifelong.methods.closed_form import ClosedForm, ClosedFormState
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.methods.meta_training import compiled_train_steps, start_training
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.lifelong.stream import StreamEditor, compiled_stream, start_stream
from modeledit_jax.presets.preset import load_preset
from modeledit_jax.report.summary import environment as software
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.types import PyTree

MODELS = {
    "llama-3-8b": LanguageModelConfig(
        vocab_size=128_256,
        width=4_096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        mlp_width=14_336,
        context=8_192,
        rope_theta=500_000.0,
        tied_head=False,
    ),
    "gemma-2-9b": LanguageModelConfig(
        family="gemma2",
        vocab_size=256_000,
        width=3_584,
        num_layers=42,
        num_heads=16,
        num_kv_heads=8,
        head_dim=256,
        mlp_width=14_336,
        context=8_192,
        activation="gelu_tanh",
        post_norms=True,
        attention_softcap=50.0,
        final_softcap=30.0,
        tied_head=True,
    ),
}
"""Shapes of published networks."""

Method = Literal["memit", "alphaedit", "rledit", "hiedit"]


@dataclass(frozen=True)
class Config:
    """What is compiled."""

    models: tuple[Literal["llama-3-8b", "gemma-2-9b"], ...] = ("llama-3-8b", "gemma-2-9b")
    """Networks."""
    methods: tuple[Method, ...] = ("memit", "alphaedit", "rledit", "hiedit")
    """Methods, with the settings of their presets for pretrained models."""
    devices: int = 1
    """Devices along the axis ``model``."""
    batch_size: int = 10
    """Facts edited at once."""
    length: int = 24
    """Positions of every prompt with its answer."""
    contexts: int = 5
    """Texts of ten tokens in front of every prompt of closed-form methods; 0: the prompt alone."""
    output: Path = Path("benchmarks/results")
    """Folder of the result."""


def main(config: Config) -> Path:
    """Compiles everything, prints a line for each, writes the result."""
    mesh = Mesh(np.array(jax.devices()[: config.devices]).reshape(1, -1), ("data", "model"))
    rows = []
    for name in config.models:
        for method in config.methods:
            for row in compile_method(config, MODELS[name], method, mesh):
                row = {"model": name, "method": method, "devices": config.devices} | row
                rows.append(row)
                print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    found = {"config": asdict(config) | {"output": ""}, "rows": rows, "software": software()}
    device = describe_device()
    path = config.output / f"large-models-{config.devices}-{device['name']}.json"
    atomic_write_text(path, json.dumps(found | {"device": device}, indent=1, default=str) + "\n")
    return path


def compile_method(
    config: Config, network: LanguageModelConfig, name: Method, mesh: Mesh
) -> list[dict[str, Any]]:
    """What one step of editing takes, and of learning if the method learns."""
    preset = load_preset(name, "lifelong").for_pretrained()
    assert preset.pretrained is not None
    depth = preset.pretrained.depth
    modules = mlps_at_depth(network, depth)
    editor: StreamEditor = preset.build()
    model = abstract_model(network, modules, mesh)
    facts = random_facts(config, network)
    if isinstance(editor, ClosedForm):
        top = (int(modules[-1].split("/")[1]),)
        layers = top if network.post_norms else editor.layers
        editor = replace(editor, layers=layers, contexts=config.contexts)
        facts = replace(facts, contexts=random_contexts(config, network))
    editor = editor.sized_for(model, (facts,))
    stream = spread(with_hidden(facts, network, model.first_layer), mesh)
    key = jax.random.key(0)
    state = spread(jax.eval_shape(partial(initial_state, editor), model), mesh)
    start = spread(jax.eval_shape(start_stream, model, state, key), mesh)
    zero = jnp.int32(0)
    rows = [planned("edit", compiled_stream.lower, editor, model, start, stream, zero, zero)]
    if isinstance(editor, HypernetworkEditor) and editor.training is not None:
        first = partial(start_training, editor, editor.training)
        begin = spread(jax.eval_shape(first, model, key), mesh)
        learn = partial(compiled_train_steps.lower, editor, editor.training)
        rows.append(planned("learn", learn, model, begin, stream, 1))
    return rows


def initial_state(editor: StreamEditor, model: EditableModel) -> PyTree:
    """What a method keeps; of closed-form ones H of every module, of whatever text."""
    if isinstance(editor, ClosedForm):
        sizes = {name: model.shapes[name][0] for name in editor.edited(model).values()}
        return ClosedFormState(
            {name: jnp.zeros((size, size), jnp.float32) for name, size in sizes.items()}
        )
    return editor.init(model, jax.random.key(0))


def planned(what: str, lower: Any, *arguments: Any) -> dict[str, Any]:
    """Seconds to compile, and GiB on each device as the compiler plans them."""
    began = time.perf_counter()
    memory = lower(*arguments).compile().memory_analysis()
    gib = {
        name: round(getattr(memory, f"{name}_size_in_bytes") / 2**30, 2)
        for name in ("argument", "output", "alias", "temp")
    }
    return {"step": what, "compile_seconds": round(time.perf_counter() - began, 1), **gib}


def abstract_model(
    network: LanguageModelConfig, modules: tuple[str, ...], mesh: Mesh
) -> EditableModel:
    """A network of shapes alone, in bfloat16, laid out on a mesh."""
    shardings = parameter_shardings(network, mesh)
    leaves = {
        path: jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=shardings[path])
        for path, shape in parameter_shapes(network).items()
    }
    return EditableModel(unflatten_dict(leaves, sep="/"), network, modules)


def spread(tree: PyTree, mesh: Mesh) -> PyTree:
    """Shapes of arrays that lie on every device whole, but for matrices of kernels: by columns."""

    def there(leaf: Any) -> Any:
        cut = leaf.ndim == 2 and min(leaf.shape) > 1_024 and not leaf.shape[1] % mesh.size
        spec = PartitionSpec(None, "model") if cut else PartitionSpec()
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(there, tree)


def random_facts(config: Config, network: LanguageModelConfig) -> FactBatch:
    """Two batches with answers of two tokens."""
    rng = np.random.default_rng(0)

    def part() -> TokenBatch:
        rows = 2 * config.batch_size
        prompts = rng.integers(0, network.vocab_size, (rows, config.length - 1)).tolist()
        answers = rng.integers(0, network.vocab_size, (rows, 2)).tolist()
        batch = with_places(pad_batch(prompts, answers, config.length))
        return jax.tree.map(lambda leaf: leaf.reshape(2, config.batch_size, -1), batch)

    places = jnp.full((2, config.batch_size), 3, jnp.int32)
    return FactBatch(part(), part(), part(), None, None, None, places)


def random_contexts(config: Config, network: LanguageModelConfig) -> ContextBatch | None:
    """Of the same two batches: the prompt alone, after every context, and the subject alone."""
    if not config.contexts:
        return None
    rows, length = config.contexts + 2, config.length + 10
    shape = (2, config.batch_size, rows)
    flat = 2 * config.batch_size * rows
    tokens = np.random.default_rng(1).integers(0, network.vocab_size, (flat, length - 1)).tolist()
    batch = pad_batch(tokens, [[0, 1]] * flat, length)
    texts = jax.tree.map(lambda leaf: leaf.reshape(*shape, -1), batch)
    return ContextBatch(texts, jnp.full(shape, 13, jnp.int32))


def with_hidden(facts: FactBatch, network: LanguageModelConfig, layer: int) -> FactBatch:
    """The facts with the shape of what the layers below the first edited one say."""
    if not layer:
        return facts

    def below(batch: TokenBatch) -> TokenBatch:
        shape = (*batch.tokens.shape, network.width)
        return replace(batch, hidden=jax.ShapeDtypeStruct(shape, jnp.bfloat16))

    parts: dict[str, Any] = {
        name: below(getattr(facts, name)) for name in ("edit", "rephrase", "locality")
    }
    if facts.contexts is not None:
        parts["contexts"] = replace(facts.contexts, rows=below(facts.contexts.rows))
    return replace(facts, **parts)


if __name__ == "__main__":
    print(main(tyro.cli(Config, description=__doc__)))
