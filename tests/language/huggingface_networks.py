"""Tiny random networks of `transformers`, the independent reference of the decoder.

Everything is imported where it is used: `torch` is slow to import, and warns while it does.
"""

import warnings

import numpy as np

SMALL = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GPT2 = {
    "vocab_size": 61,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    "bos_token_id": None,
    "eos_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

NETWORKS = {
    "gpt2": ("GPT2", GPT2),
    "gpt2-untied": ("GPT2", GPT2 | {"tie_word_embeddings": False, "n_inner": 40}),
    "llama": ("Llama", SMALL | {"rope_parameters": LLAMA3}),
    "llama-tied-biases": (
        "Llama",
        SMALL
        | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 6},
    ),
    "mistral": ("Mistral", SMALL | {"sliding_window": 5}),
    "qwen2": ("Qwen2", SMALL | {"tie_word_embeddings": True}),
    "qwen2-window": (
        "Qwen2",
        SMALL | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "gemma2": (
        "Gemma2",
        SMALL | {"head_dim": 12, "query_pre_attn_scalar": 20, "sliding_window": 5},
    ),
}


def build(name: str, seed: int = 0):
    """A network of `NETWORKS` whose every parameter is random, the norms too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        import transformers

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        family, options = NETWORKS[name]
        config = getattr(transformers, f"{family}Config")(**options)
        config._attn_implementation = "eager"  # the only one that knows soft caps
        kind = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
        model = getattr(transformers, kind)(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def load(folder):
    """The network that `transformers` makes of a checkpoint; a tensor amiss is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", output_loading_info=True
        )
    assert not any(report.values()), report
    return model.eval()


def logits(model, tokens, attention) -> np.ndarray:
    """Its logits ``[n, l, V]``."""
    import torch

    with torch.no_grad():
        out = model(
            input_ids=torch.tensor(np.asarray(tokens)),
            attention_mask=torch.tensor(np.asarray(attention)).long(),
        )
    return out.logits.float().numpy()
