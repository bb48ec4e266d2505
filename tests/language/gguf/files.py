"""Tiny GGUF files, written by the library of llama.cpp, and the same networks in transformers."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import pre_tokenizers

MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("Ġ", "a"), ("Ġt", "o"), ("1", "2")]
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<|end|>", "<|begin|>", *LETTERS, *(a + b for a, b in MERGES), "<tool>", "[PAD]"]
KINDS = [3, 3, *[1] * (len(TOKENS) - 4), 4, 5]

NETWORK = {
    "vocab_size": len(TOKENS),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def network(seed: int = 0, **options: Any):
    """A network of `transformers` whose every parameter is random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        import transformers

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**NETWORK | options)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors of `NETWORK` by their name in GGUF."""
    rng = np.random.default_rng(seed)
    sizes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
    sizes |= {"ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96)}
    sizes |= {"attn_norm": (64,), "ffn_norm": (64,)}
    shapes = {f"blk.{i}.{name}.weight": shape for i in range(2) for name, shape in sizes.items()}
    shapes |= {"token_embd.weight": (len(TOKENS), 64), "output_norm.weight": (64,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def name_in_gguf(name: str) -> str:
    """``blk.1.attn_q.weight`` of ``model.layers.1.self_attn.q_proj.weight``."""
    module, end = name.rsplit(".", 1)
    if module in _TOP:
        return f"{_TOP[module]}.{end}"
    _, _, layer, module = module.split(".", 3)
    return f"blk.{layer}.{_NAMES[module]}.{end}"


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys in llama.cpp's order, one after the other."""
    size = len(rows) // heads
    order = []
    for head in range(heads):
        for pair in range(size // 2):
            order += [head * size + pair, head * size + pair + size // 2]
    return rows[order]


def tensors_of(model, kinds: dict[str, gguf.GGMLQuantizationType]) -> dict[str, np.ndarray]:
    """The tensors of a network of transformers as GGUF has them.

    Parameters that ``kinds`` quantizes are set to what is left of them, so that the network is the
    one that the file holds.
    """
    import torch

    found = {}
    for name, parameter in model.named_parameters():
        own = name_in_gguf(name)
        values = parameter.detach().numpy()
        if kind := kinds.get(own.rsplit(".", 2)[-2] if own.endswith("weight") else ""):
            values = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
            with torch.no_grad():
                parameter.copy_(torch.tensor(values))
        heads = {"attn_q": 4, "attn_k": 2}.get(own.rsplit(".", 2)[-2])
        found[own] = values if heads is None else interleaved(values, heads)
    return found


@dataclass
class Content:
    """What a file holds; change it before it is written.

    Attributes:
      tensors: float32 by name; None: random ones.
      kinds: quantization by module, e.g. ``attn_q``; float32 without.
      metadata: entries beside or in place of the right ones; None removes one.
    """

    tensors: dict[str, np.ndarray] | None = None
    kinds: dict[str, gguf.GGMLQuantizationType] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=lambda: list(TOKENS))
    token_types: list[int] = field(default_factory=lambda: list(KINDS))
    merges: list[str] = field(default_factory=lambda: [f"{a} {b}" for a, b in MERGES])

    def entries(self) -> dict[str, Any]:
        right = {
            "llama.block_count": 2,
            "llama.context_length": 64,
            "llama.embedding_length": 64,
            "llama.feed_forward_length": 96,
            "llama.attention.head_count": 4,
            "llama.attention.head_count_kv": 2,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.dimension_count": 16,
            "llama.rope.freq_base": 10_000.0,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": self.tokens,
            "tokenizer.ggml.token_type": self.token_types,
            "tokenizer.ggml.merges": self.merges,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 0,
            "tokenizer.ggml.add_bos_token": False,
            "tokenizer.chat_template": "{{ messages }}",
        }
        return {k: v for k, v in (right | self.metadata).items() if v is not None}

    def write(self, path: Path) -> Path:
        """Writes the file with the library of llama.cpp."""
        entries = self.entries()
        writer = gguf.GGUFWriter(path, entries.pop("general.architecture", "llama"))
        for name, value in entries.items():
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
            add |= {str: writer.add_string, list: writer.add_array}
            add[type(value)](name, value)
        for name, values in (weights() if self.tensors is None else self.tensors).items():
            kind = self.kinds.get(name.split(".")[-2])
            if kind is None:
                writer.add_tensor(name, np.ascontiguousarray(values))
            else:
                writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path
