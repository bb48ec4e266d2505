"""Checkpoints of five families: the same logits as `transformers`, reading and writing.

Of the kind "several readings of one checkpoint", here and in test_tensors.py: a single file beside
an index and shards that are old, gone or damaged; an index that contradicts its files; a tensor in
several shards; tied networks saved under one name, with or without the family's prefix; a dtype
narrower than an edit. Of the kind "numbers of the wrong type in files", here, in test_config.py and
in tests/reading: weights that are no floats, not finite, or too large for the dtype asked for.
"""

import dataclasses
import json
import os
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models

from modeledit_jax.language.huggingface import tensors as tensor_files
from modeledit_jax.language.huggingface.checkpoint import (
    load_pretrained,
    load_tokenizer,
    save_pretrained,
)
from modeledit_jax.language.model import apply, stack_layers
from modeledit_jax.language.sharding import parameter_shardings
from tests.language import huggingface_networks as huggingface
from tests.language.tiny_models import GEMMA, GPT2, LLAMA, random_params, random_tokens

TOKENS, ATTENTION = random_tokens()
forward = jax.jit(apply, static_argnames="config")

needs_transformers = pytest.mark.filterwarnings("ignore")
"""The reference libraries warn about themselves."""


def leaves_equal(a, b):
    chex.assert_trees_all_equal(a, b)


def largest_difference(ours, theirs):
    mask = np.asarray(ATTENTION)
    return np.abs(np.asarray(ours)[mask] - theirs[mask]).max()


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A checkpoint of our own, to be copied and spoiled."""
    folder = tmp_path_factory.mktemp("checkpoints") / "llama"
    save_pretrained(folder, LLAMA, random_params(LLAMA))
    return folder


@pytest.fixture
def spoiled(llama, tmp_path):
    """A copy of it, and a way to change its tensors and its configuration."""
    folder = tmp_path / "copy"
    shutil.copytree(llama, folder)

    def spoil(tensors=None, **config):
        stored = load_file(folder / "model.safetensors") | (tensors or {})
        stored = {name: value for name, value in stored.items() if value is not None}
        save_file(stored, folder / "model.safetensors")
        data = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(data))
        return folder

    return spoil


@needs_transformers
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "llama" else pytest.mark.slow)
        for name in huggingface.NETWORKS
    ],
)
def test_parity_with_transformers_both_ways(name, tmp_path):
    reference = huggingface.build(name)
    # A limit this small splits the checkpoint into several files.
    reference.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    config, params = load_pretrained(tmp_path / "theirs")
    ours, _ = forward(config, params, TOKENS, ATTENTION)
    theirs = huggingface.logits(reference, TOKENS, ATTENTION)
    read = largest_difference(ours, theirs)

    edited = jax.tree.map(lambda w: w * 1.1, params)
    save_pretrained(tmp_path / "ours", config, edited, tmp_path / "theirs", max_shard_bytes=20_000)
    save_pretrained(tmp_path / "own", config, edited)
    ours, _ = forward(config, edited, TOKENS, ATTENTION)
    written = [
        largest_difference(ours, huggingface.logits(huggingface.load(folder), TOKENS, ATTENTION))
        for folder in (tmp_path / "ours", tmp_path / "own")
    ]
    print(f"{name}: read {read:.1e}, written {max(written):.1e}, |logits| {abs(theirs).max():.1f}")
    assert read <= 1e-5 and max(written) <= 1e-5
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1
    leaves_equal(load_pretrained(tmp_path / "ours")[1], edited)


@needs_transformers
def test_bfloat16_is_kept_or_converted(tmp_path):
    import torch

    huggingface.build("gpt2").to(torch.bfloat16).save_pretrained(tmp_path / "half")
    config, params = load_pretrained(tmp_path / "half")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    _, full = load_pretrained(tmp_path / "half", dtype=jnp.float32)
    leaves_equal(full, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params))
    save_pretrained(tmp_path / "full", config, full, tmp_path / "half")
    assert json.loads((tmp_path / "full" / "config.json").read_text())["dtype"] == "float32"
    assert huggingface.load(tmp_path / "full").dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_a_checkpoint_spread_over_a_mesh(config, tmp_path):
    params = random_params(config)
    save_pretrained(tmp_path / "model", config, params)
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    _, spread = load_pretrained(tmp_path / "model", mesh=mesh)
    leaves_equal(spread, params)
    shardings = parameter_shardings(config, mesh)
    for path, leaf in flatten_dict(spread, sep="/").items():
        assert leaf.sharding == shardings[path], path
    whole, _ = forward(config, params, TOKENS, ATTENTION)
    np.testing.assert_allclose(forward(config, spread, TOKENS, ATTENTION)[0], whole, atol=1e-5)
    save_pretrained(tmp_path / "again", config, spread)
    leaves_equal(load_pretrained(tmp_path / "again")[1], params)


def test_stacked_layers_are_written_as_the_others(llama, tmp_path):
    save_pretrained(tmp_path / "stacked", LLAMA, stack_layers(random_params(LLAMA)), llama)
    leaves_equal(load_pretrained(tmp_path / "stacked")[1], load_pretrained(llama)[1])


def test_the_tokenizer_comes_along(spoiled, tmp_path):
    folder = spoiled()
    words = {"the": 0, "cat": 1, "[UNK]": 2}
    Tokenizer(models.WordLevel(words, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
    save_pretrained(tmp_path / "edited", LLAMA, random_params(LLAMA), folder)
    assert load_tokenizer(tmp_path / "edited").encode("cat").ids == [1]
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.json.*download it"):
        load_tokenizer(tmp_path)


def test_old_checkpoints_with_buffers_and_without_prefix(tmp_path):
    params = random_params(GPT2)
    save_pretrained(tmp_path / "gpt2", GPT2, params)
    file = tmp_path / "gpt2" / "model.safetensors"
    old = {name.removeprefix("transformer."): value for name, value in load_file(file).items()}
    save_file(old | {"h.0.attn.bias": np.ones((1, 1, 16, 16), np.float32)}, file)
    leaves_equal(load_pretrained(tmp_path / "gpt2")[1], params)


DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        ({DOWN: None}, {}, f"{DOWN} is missing"),
        ({DOWN: np.zeros((3, 2), np.float32)}, {}, rf"{DOWN} has shape \(3, 2\) instead of \(16"),
        ({"model.extra": np.zeros(1, np.float32)}, {}, "model.extra has no place"),
        ({"lm_head.weight": None}, {}, "lm_head.weight is missing .*tie_word_embeddings: true"),
        ({}, {"tie_word_embeddings": True}, "lm_head.weight differs from the embeddings"),
        ({}, {"hidden_size": 24}, r"faults more; download the checkpoint again or correct"),
        ({}, {"model_type": "mamba"}, "unknown architecture 'mamba'.*supported are: gpt2, llama"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(spoiled, tensors, config, message):
    with pytest.raises(ValueError, match=message) as error:
        load_pretrained(spoiled(tensors, **config))
    assert "\n" not in str(error.value)


def test_a_tied_head_stored_twice_is_no_fault(tmp_path):
    params = random_params(GEMMA)
    config = GEMMA.__class__(**(vars(GEMMA) | {"query_scale": 0.25}))
    save_pretrained(tmp_path / "gemma", config, params)
    file = tmp_path / "gemma" / "model.safetensors"
    stored = load_file(file)
    save_file(stored | {"lm_head.weight": stored["model.embed_tokens.weight"]}, file)
    leaves_equal(load_pretrained(tmp_path / "gemma")[1], params)


TABLES = {"gpt2": "transformer.wte.weight", "gemma2": "model.embed_tokens.weight"}


@pytest.mark.parametrize("prefix", [True, False], ids=["prefix", "bare"])
@pytest.mark.parametrize("name", TABLES)
def test_a_tied_network_saved_under_the_name_of_its_head(tmp_path, name, prefix):
    """As ``safetensors.torch.save_model`` does: of tensors that share memory it keeps one."""
    config = {"gpt2": GPT2, "gemma2": dataclasses.replace(GEMMA, query_scale=0.25)}[name]
    params = random_params(config)
    save_pretrained(tmp_path / name, config, params)
    file = tmp_path / name / "model.safetensors"
    stored = load_file(file)
    stored["lm_head.weight"] = stored.pop(TABLES[name])
    start = TABLES[name].split(".")[0] + "."
    if not prefix:
        stored = {key.removeprefix(start): value for key, value in stored.items()}
    save_file(stored, file)
    leaves_equal(load_pretrained(tmp_path / name)[1], params)
    del stored["lm_head.weight"]
    save_file(stored, file)
    missing = TABLES[name] if prefix else TABLES[name].removeprefix(start)
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        load_pretrained(tmp_path / name)


@needs_transformers
def test_a_tied_network_as_safetensors_saves_it(tmp_path):
    import safetensors.torch

    params = random_params(GPT2)
    save_pretrained(tmp_path / "gpt2", GPT2, params)
    file = tmp_path / "gpt2" / "model.safetensors"
    safetensors.torch.save_model(huggingface.load(tmp_path / "gpt2"), str(file))
    assert "transformer.wte.weight" not in load_file(file)
    leaves_equal(load_pretrained(tmp_path / "gpt2")[1], params)


def test_a_single_file_counts_whatever_an_index_beside_it_says(spoiled, tmp_path):
    params = random_params(LLAMA)
    old = jax.tree.map(lambda w: 0 * w, params)
    save_pretrained(tmp_path / "old", LLAMA, old, max_shard_bytes=20_000)
    folder = spoiled()
    for file in (tmp_path / "old").glob("model*"):
        shutil.copy(file, folder)
    leaves_equal(load_pretrained(folder)[1], params)
    for shard in folder.glob("model-*"):
        shard.unlink()
    for index in ('{"weight_map"', "{}", ""):
        (folder / "model.safetensors.index.json").write_text(index)
        leaves_equal(load_pretrained(folder)[1], params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.astype(np.int8), f"{DOWN} has dtype I8"),
        (lambda w: w > 0, f"{DOWN} has dtype BOOL"),
        (lambda w: w.astype(np.int64), f"{DOWN} has dtype I64"),
        (lambda w: w.astype(np.complex64), f"{DOWN} has dtype C64"),
        (lambda w: np.where(w > 0, w, np.nan), f"{DOWN} holds values that are not finite"),
        (lambda w: np.where(w > 0, w, -np.inf).astype(np.float32), f"{DOWN} holds values that"),
        (lambda w: 1e300 * w.astype(np.float64), f"{DOWN} holds values that are too large for fl"),
    ],
    ids=range(7),
)
def test_weights_are_finite_floats(spoiled, change, message):
    weights = np.asarray(random_params(LLAMA)["layers"]["1"]["mlp"]["down"]["kernel"].T)
    folder = spoiled({DOWN: np.ascontiguousarray(change(weights))})
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder)


def test_a_dtype_that_cannot_hold_the_weights(spoiled):
    folder = spoiled({DOWN: np.full((16, 64), 1e30, np.float32)})
    shape = load_pretrained(folder)[1]["layers"]["1"]["mlp"]["down"]["kernel"].shape
    assert shape == (64, 16)
    with pytest.raises(ValueError, match=f"{DOWN} holds values that are too large for float16"):
        load_pretrained(folder, "float16")
    for dtype, message in (("int8", "dtype is int8: parameters"), ("half?", "dtype is 'half")):
        with pytest.raises(ValueError, match=message):
            load_pretrained(folder, dtype)


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"{}", b"[" * 1_000_000, b'{"model":', b'{"model": {"vocab": {"a": -1}}}'],
    ids=lambda text: str(text[:20]),
)
def test_a_damaged_tokenizer_is_named(tmp_path, text):
    (tmp_path / "tokenizer.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged; download it again") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_a_tokenizer_with_a_byte_order_mark(tmp_path):
    Tokenizer(models.WordLevel({"a": 0})).save(str(tmp_path / "tokenizer.json"))
    data = (tmp_path / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(b"\xef\xbb\xbf" + data)
    assert load_tokenizer(tmp_path).get_vocab_size() == 1
    (tmp_path / "tokenizer.json").write_bytes(data.decode().encode("utf-16"))
    with pytest.raises(ValueError, match=r"tokenizer\.json is UTF-16: convert it"):
        load_tokenizer(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_named_pipe_is_not_waited_for(spoiled, name):
    folder = spoiled()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    read = load_tokenizer if name == "tokenizer.json" else load_pretrained
    with pytest.raises(ValueError, match=rf"{name} is a named pipe"):
        read(folder)


def test_damaged_and_absent_files(spoiled, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config.json in .*hf download"):
        load_pretrained(tmp_path / "nowhere")
    folder = spoiled()
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged; download it again"):
        load_pretrained(folder)
    for text in ("null", "[]", "", "[" * 1_000_000, '{"n_head": 1, "n_head": 2}'):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config.json is damaged; download it again \("):
            load_pretrained(folder)


def test_what_cannot_be_written_is_refused(llama, tmp_path):
    params = random_params(LLAMA)
    with pytest.raises(FileExistsError, match="is not empty; choose another folder"):
        save_pretrained(llama, LLAMA, params)
    with pytest.raises(ValueError, match=r"head/kernel is missing"):
        save_pretrained(tmp_path / "a", LLAMA, {k: v for k, v in params.items() if k != "head"})
    with pytest.raises(ValueError, match=r"tokens/embedding has shape \(3, 16\) instead of"):
        short = params | {"tokens": {"embedding": params["tokens"]["embedding"][:3]}}
        save_pretrained(tmp_path / "a", LLAMA, short)
    with pytest.raises(
        ValueError, match=r"of another network \(it differs in num_kv_heads, family"
    ):
        save_pretrained(tmp_path / "a", GPT2, random_params(GPT2), llama)
    assert not list(tmp_path.iterdir())


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(tensor_files, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_pretrained(tmp_path / "model", LLAMA, random_params(LLAMA))
    assert not list(tmp_path.iterdir())
