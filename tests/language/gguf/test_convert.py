"""GGUF files to folders: the network is that of transformers, and what is wrong is one line."""

import json
import subprocess
import sys

import gguf
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.language.gguf.convert import convert_gguf
from modeledit_jax.language.gguf.header import read_header
from modeledit_jax.language.gguf.tensors import neighbours_to_halves
from modeledit_jax.language.huggingface.checkpoint import load_pretrained, load_tokenizer
from modeledit_jax.language.model import apply
from tests.language import huggingface_networks as huggingface
from tests.language.gguf.files import (
    LLAMA_3,
    TOKENS,
    Content,
    interleaved,
    network,
    tensors_of,
    weights,
)

KIND = gguf.GGMLQuantizationType
QUANTIZED = {
    "token_embd": KIND.Q8_0,
    "attn_q": KIND.Q4_1,
    "attn_k": KIND.Q8_0,
    "ffn_down": KIND.Q4_1,
    "ffn_up": KIND.F16,
    "attn_v": KIND.BF16,
}
ROTARY = [1.0] * 5 + [2.5, 20.0, 32.0]  # of the wrong settings


def rotary_factors() -> np.ndarray:
    """Of Llama 3.2 at 16 features a head, as the converter of llama.cpp computes them."""
    factors = []
    for frequency in 1.0 / 10_000.0 ** (np.arange(0, 16, 2) / 16):
        wave = 2 * np.pi / frequency
        if wave < 8192 / 4:
            factors.append(1.0)
        elif wave > 8192:
            factors.append(32.0)
        else:
            smooth = (8192 / wave - 1.0) / 3.0
            factors.append(1 / ((1 - smooth) / 32.0 + smooth))
    return np.array(factors, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, QUANTIZED),
        (
            {"tie_word_embeddings": False, "rope_parameters": LLAMA_3, "attention_bias": True},
            {},
        ),
    ],
    ids=["quantized", "llama-3"],
)
def test_the_network_is_that_of_transformers(tmp_path, options, kinds):
    model = network(**options)
    content = Content(tensors_of(model, kinds), kinds)
    if options:
        content.tensors["rope_freqs.weight"] = rotary_factors()
    done = []
    convert_gguf(
        content.write(tmp_path / "tiny.gguf"), tmp_path / "out", lambda *step: done.append(step)
    )
    assert done[-1][0] == done[-1][1] == len(done)
    config, params = load_pretrained(tmp_path / "out")
    tokens = np.random.default_rng(0).integers(0, len(TOKENS), (2, 40))
    ours, _ = apply(config, params, jnp.asarray(tokens))
    theirs = huggingface.logits(model, tokens, np.ones(tokens.shape))
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())
    again = huggingface.load(tmp_path / "out")
    np.testing.assert_allclose(
        huggingface.logits(again, tokens, np.ones(tokens.shape)), theirs, atol=1e-4
    )
    assert (again.config.bos_token_id, again.config.eos_token_id) == (1, 0)
    assert config.norm_epsilon == 1e-5


def test_rows_come_back_in_order():
    rows = np.arange(24 * 3).reshape(24, 3)
    for heads in (1, 2, 3, 6):
        np.testing.assert_array_equal(neighbours_to_halves(interleaved(rows, heads), heads), rows)
        bias = rows[:, 0]
        np.testing.assert_array_equal(neighbours_to_halves(interleaved(bias, heads), heads), bias)


def test_the_header_is_what_the_library_reads(tmp_path):
    more = {"own.numbers": [1.5, 2.25], "own.flags": [True, False], "general.alignment": 64}
    path = Content(kinds=QUANTIZED, metadata=more).write(tmp_path / "tiny.gguf")
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    fields = {name: f.contents() for name, f in theirs.fields.items() if not name.startswith("GG")}
    epsilon = fields.pop("llama.attention.layer_norm_rms_epsilon")
    assert ours.metadata.pop("llama.attention.layer_norm_rms_epsilon") == pytest.approx(epsilon)
    assert ours.metadata == fields
    assert {name: (p.kind, p.shape, p.offset) for name, p in ours.tensors.items()} == {
        t.name: (int(t.tensor_type), tuple(map(int, t.shape[::-1])), t.data_offset)
        for t in theirs.tensors
    }


@pytest.mark.parametrize("pre", ["smollm", "llama-bpe", "gpt-2", "default"])
def test_the_tokenizer_is_rebuilt(tmp_path, pre):
    content = Content(metadata={"tokenizer.ggml.pre": pre})
    if pre == "llama-bpe":
        content.metadata["tokenizer.ggml.add_bos_token"] = None  # llama.cpp's default then
    convert_gguf(content.write(tmp_path / "tiny.gguf"), tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out")
    text = "To the inn: 1212 x\n<tool> <|end|>é"
    found = tokenizer.encode(text)
    assert tokenizer.decode(found.ids, skip_special_tokens=False).endswith(text)
    digits = ["Ġ", "1", "2", "1", "2"] if pre == "smollm" else ["Ġ", "12", "12"]
    if pre == "llama-bpe":  # up to three digits are a word
        digits = ["Ġ", "12", "1", "2"]
    begin = found.tokens.index(":") + 1
    assert found.tokens[begin : begin + len(digits)] == digits
    assert found.tokens[begin - 4 : begin - 1] == ["Ġ", "in", "n"]
    assert (found.tokens[0] == "<|begin|>") == (pre == "llama-bpe")
    assert "<tool>" in found.tokens and "<|end|>" in found.tokens
    assert "<tool>" in tokenizer.decode(found.ids)  # the user's; special ones are left out
    assert tokenizer.token_to_id("[PAD]") is None
    about = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert about["eos_token"] == "<|end|>" and about["chat_template"] == "{{ messages }}"


def _set(name, value):
    return lambda content: content.metadata.__setitem__(name, value)


def _tensor(name, values):
    def change(content):
        content.tensors = weights() | ({} if values is None else {name: values})
        if values is None:
            del content.tensors[name]

    return change


def _token(content):
    content.tokens[5] = content.tokens[6]


def _merge(content):
    content.merges.append("zz y")


BAD = {
    "architecture": (_set("general.architecture", "qwen2"), "architecture 'qwen2'.*Hugging Face"),
    "missing": (_tensor("blk.1.ffn_up.weight", None), "blk.1.ffn_up.weight is missing"),
    "norm": (_tensor("output_norm.weight", np.ones(32, "f")), r"shape \(32,\) instead of \(64,\)"),
    "more": (_tensor("blk.0.extra.weight", np.ones(2, "f")), "extra.weight has no place"),
    "nan": (_tensor("output_norm.weight", np.full(64, np.nan, "f")), "output_norm.* not finite"),
    "integers": (_tensor("output_norm.weight", np.ones(64, "i")), "the format I32"),
    "rotary": (_tensor("rope_freqs.weight", np.array(ROTARY, "f")), "no stretching of Llama 3"),
    "linear": (_set("llama.rope.scaling.type", "linear"), "stretches rotary positions"),
    "experts": (_set("llama.expert_count", 8), "llama.expert_count to 8"),
    "entry": (_set("llama.block_count", None), "no metadata entry 'llama.block_count'"),
    "kind of entry": (_set("llama.block_count", "two"), "'llama.block_count' is 'two'"),
    "layers": (_set("llama.block_count", 3), "blk.2.attn_q.weight is missing"),
    "heads": (_set("llama.attention.head_count_kv", 3), "a divisor of 4"),
    "rope": (_set("llama.rope.dimension_count", 8), "the width of a head, 16"),
    "tokenizer": (_set("tokenizer.ggml.model", "llama"), "tokenizer of the kind 'llama'"),
    "words": (_set("tokenizer.ggml.pre", "tekken"), "as 'tekken'.*known are gpt-2"),
    "no words": (_set("tokenizer.ggml.pre", None), "no metadata entry 'tokenizer.ggml.pre'"),
    "twice": (_token, "different texts"),
    "merge": (_merge, "pairs of tokens that make tokens"),
    "special": (_set("tokenizer.ggml.bos_token_id", 9_999), "an integer from 0 to"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_line(name, tmp_path):
    change, message = BAD[name]
    content = Content()
    change(content)
    path = content.write(tmp_path / "bad.gguf")
    with pytest.raises(ValueError, match=message) as info:
        convert_gguf(path, tmp_path / "out")
    assert "\n" not in str(info.value) and str(path) in str(info.value)
    assert ": " in str(info.value) or "; " in str(info.value)
    assert [file.name for file in tmp_path.iterdir()] == ["bad.gguf"]


def test_damaged_files_are_one_line(tmp_path):
    path = Content().write(tmp_path / "tiny.gguf")
    data = path.read_bytes()
    for changed, message in (
        (b"", "no GGUF file"),
        (b"PK\x03\x04" + data[4:], "no GGUF file"),
        (data[:4] + b"\x01" + data[5:], "of version 1"),
        (data[:4] + b"\0\0\0\x03" + data[8:], "big-endian"),
        (data[:20], "is damaged: download it again"),
        (data[:5_000], "is damaged: download it again"),
        (data[:-100], "is damaged.* ends at"),
        (data[:8] + b"\xff" * 8 + data[16:], "is damaged.*promises"),
        (data.replace(b"llama.rope", b"llama.\xff\xff\xff\xff", 1), "is damaged"),
        (data.replace(b"token_type\x09\0\0\0\x05", b"token_type\x09\0\0\0\x63", 1), "kind 99"),
    ):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=message) as info:
            convert_gguf(path, tmp_path / "out")
        assert "\n" not in str(info.value) and str(path) in str(info.value)
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_folder_with_files_is_left_alone(tmp_path):
    path = Content().write(tmp_path / "tiny.gguf")
    (tmp_path / "out").mkdir()
    convert_gguf(path, tmp_path / "out")  # empty
    before = sorted(file.name for file in (tmp_path / "out").iterdir())
    with pytest.raises(FileExistsError, match="is not empty; choose another"):
        convert_gguf(path, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == before


def test_the_library_is_asked_for_by_name(tmp_path, monkeypatch):
    path = Content().write(tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ValueError, match=r"pip install 'modeledit-jax\[gguf\]'"):
        convert_gguf(path, tmp_path / "out")


KILLED = """
import os, sys
from modeledit_jax.language.gguf.convert import convert_gguf
convert_gguf(sys.argv[1], sys.argv[2], lambda done, total, _: done == total and os._exit(9))
"""


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_that_looks_whole(tmp_path):
    path = Content().write(tmp_path / "tiny.gguf")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(tmp_path / "out")])
    assert done.returncode == 9 and not (tmp_path / "out").exists()
    convert_gguf(path, tmp_path / "out")
    load_pretrained(tmp_path / "out")
