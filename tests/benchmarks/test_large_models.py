"""The plans of large models, on networks of their kind that are small."""

import json
from dataclasses import replace

import jax
import pytest

from benchmarks import large_models
from benchmarks.large_models import MODELS, Config, abstract_model, main
from modeledit_jax.language.config import LanguageModelConfig, mlps_at_depth
from modeledit_jax.language.parameters import parameter_shapes

SIZES = {"vocab_size": 64, "width": 16, "num_heads": 2, "num_kv_heads": 2, "head_dim": 8,
         "mlp_width": 32, "context": 32}  # fmt: skip


@pytest.mark.parametrize(("name", "billions"), [("llama-3-8b", 8.03), ("gemma-2-9b", 9.24)])
def test_shapes_are_those_of_the_published_networks(name, billions):
    shapes = parameter_shapes(MODELS[name])
    total = 0
    for shape in shapes.values():
        size = 1
        for length in shape:
            size *= length
        total += size
    assert round(total / 1e9, 2) == billions


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "contexts"), [(1, 0), (2, 5)])
def test_every_step_has_a_plan(tmp_path, monkeypatch, devices, contexts):
    small = {name: replace(config, num_layers=6, **SIZES) for name, config in MODELS.items()}
    monkeypatch.setattr(large_models, "MODELS", small)
    path = main(Config(methods=("alphaedit", "rledit"), devices=devices, batch_size=2, length=8,
                       contexts=contexts, output=tmp_path))  # fmt: skip
    rows = json.loads(path.read_text())["rows"]
    assert [(row["model"], row["method"], row["step"]) for row in rows] == [
        (model, *what)
        for model in MODELS
        for what in (("alphaedit", "edit"), ("rledit", "edit"), ("rledit", "learn"))
    ]
    assert all(row["devices"] == devices and row["compile_seconds"] > 0 for row in rows)
    assert all(row["temp"] >= 0 for row in rows)


def test_nothing_is_allocated_and_parameters_lie_along_the_axis():
    config: LanguageModelConfig = replace(MODELS["llama-3-8b"], num_layers=6, **SIZES)
    mesh = jax.make_mesh((1, 2), ("data", "model"))
    model = abstract_model(config, mlps_at_depth(config, (0.66, 0.93)), mesh)
    leaf = model.params["layers"]["0"]["mlp"]["down"]["kernel"]
    assert isinstance(leaf, jax.ShapeDtypeStruct) and leaf.dtype == jax.numpy.bfloat16
    assert leaf.sharding.shard_shape(leaf.shape) == (16, 16)
    assert model.first_layer == 4
