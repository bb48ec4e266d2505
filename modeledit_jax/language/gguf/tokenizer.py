"""The tokenizer in the metadata of a GGUF file: byte-pair encoding as `tokenizers` writes it.

GGUF names how a text is cut into words before its pieces are merged (``tokenizer.ggml.pre``); what
stands behind a name is in the source of llama.cpp, ``llm_tokenizer_bpe`` in src/llama-vocab.cpp.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from modeledit_jax.language.gguf.config import TOKENS
from modeledit_jax.reading.fields import Fields

_SPECIAL, _OF_THE_USER, _UNUSED = 3, 4, 5
"""Kinds of tokens, besides those that text is made of."""

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts texts into words, from its ``tokenizer.json``."""

ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
"""Names that transformers has for special tokens, and GGUF's."""


@dataclass(frozen=True)
class GgufTokenizer:
    """A tokenizer, and what is known of its special tokens.

    Attributes:
      tokenizer: of texts.
      roles: ids of special tokens by their name in transformers, e.g. ``bos_token``.
      tokens: the same tokens as texts.
      chat_template: in Jinja; None: there is none.
    """

    tokenizer: Tokenizer
    roles: dict[str, int]
    tokens: dict[str, str]
    chat_template: str | None


def tokenizer_from_metadata(data: Fields) -> GgufTokenizer:
    """Rebuilds the tokenizer of a file.

    Raises:
      ValueError: another kind of tokenizer than byte-pair encoding, a way to cut texts into words
        that is not known, or entries that are missing or contradict each other; they are named.
    """
    if (kind := data.text("tokenizer.ggml.model")) != "gpt2":
        raise ValueError(
            f"{data.where} has a tokenizer of the kind {kind!r}, only byte-pair encoding ('gpt2') "
            "is read from GGUF: take the Hugging Face folder of the network"
        )
    tokens, kinds, merges = _lists(data)
    words, whole_words = _pre_tokenizer(data)
    vocabulary = {token: i for i, token in enumerate(tokens) if kinds[i] != _UNUSED}
    try:
        model = models.BPE(vocabulary, merges, ignore_merges=whole_words)
    except Exception as error:  # the library raises no narrower one
        raise data.wrong(
            "tokenizer.ggml.merges", f"pairs of tokens that make tokens ({error})"
        ) from error
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    for own, special in ((_SPECIAL, True), (_OF_THE_USER, False)):
        added = [token for token, of in zip(tokens, kinds, strict=True) if of == own]
        tokenizer.add_tokens(
            [AddedToken(token, special=special, normalized=False) for token in added]
        )
    roles = _roles(data, len(tokens))
    names = {role: tokens[index] for role, index in roles.items()}
    tokenizer.post_processor = _post_processor(data, names, roles, whole_words)
    template = data.get("tokenizer.chat_template", None)
    return GgufTokenizer(tokenizer, roles, names, template if isinstance(template, str) else None)


def _lists(data: Fields) -> tuple[list[str], list[int], list[tuple[str, str]]]:
    """Tokens, their kinds, and merges, the first of which comes first."""
    tokens, merges = (_texts(data, name) for name in (TOKENS, "tokenizer.ggml.merges"))
    kinds = data.get("tokenizer.ggml.token_type", [1] * len(tokens))
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise data.wrong("tokenizer.ggml.token_type", f"a list of {len(tokens)} numbers")
    (token, times), *_ = Counter(tokens).most_common(1)
    if times > 1 or not all(tokens):
        raise data.wrong(
            TOKENS, f"a list of different texts, {token[:40]!r} is there {times} times"
        )
    pairs = [tuple(merge.split(" ")) for merge in merges]
    if wrong := [merge for merge, pair in zip(merges, pairs, strict=True) if len(pair) != 2]:
        raise data.wrong("tokenizer.ggml.merges", f"a list of pairs, {wrong[0][:40]!r} is none")
    return tokens, kinds, pairs  # type: ignore[return-value]


def _texts(data: Fields, name: str) -> list[str]:
    value = data.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(x, str) for x in value):
        raise data.wrong(name, "a list of texts, with at least one")
    return value


def _pre_tokenizer(data: Fields) -> tuple[Any, bool]:
    """What cuts texts into words, and whether a word that is a token is never merged otherwise."""
    name = "tokenizer.ggml.pre"
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt_2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    llama_3 = pre_tokenizers.Split(Regex(_LLAMA_3), behavior="isolated")
    known = {
        "gpt-2": (gpt_2, False),
        "default": (gpt_2, False),
        "smollm": (pre_tokenizers.Sequence([digits, gpt_2]), False),
        "llama-bpe": (pre_tokenizers.Sequence([llama_3, bytes_of_words]), True),
    }
    # Files from before this entry was introduced do not say how their texts are cut.
    found = data.text(name)
    if found not in known:
        raise ValueError(
            f"{data.where} cuts texts into words as {found!r} ({name}), known are "
            f"{', '.join(known)}: take the Hugging Face folder of the network"
        )
    return known[found]


def _roles(data: Fields, size: int) -> dict[str, int]:
    present = {
        role: f"tokenizer.ggml.{name}"
        for role, name in ROLES.items()
        if data.has(f"tokenizer.ggml.{name}")
    }
    return {role: data.integer(name, 0, size - 1) for role, name in present.items()}


def _post_processor(
    data: Fields, names: dict[str, str], roles: dict[str, int], whole_words: bool
) -> Any:
    """Puts the special tokens in front of a text and behind it that the network is used to."""
    byte_level = processors.ByteLevel(trim_offsets=False)
    ends = []
    for role, option, default in (
        ("bos_token", "tokenizer.ggml.add_bos_token", whole_words),  # as llama.cpp for Llama 3
        ("eos_token", "tokenizer.ggml.add_eos_token", False),
    ):
        wanted = data.flag(option, default)
        if wanted and role not in names:
            raise data.wrong(option, f"false where there is no {ROLES[role]}")
        ends.append(role if wanted else None)
    special = [(names[role], roles[role]) for role in ends if role]
    if not special:
        return byte_level
    front, behind = ([names[role]] if role else [] for role in ends)
    around = processors.TemplateProcessing(
        single=[*front, "$A", *behind],
        pair=[*front, "$A", *behind, *front, "$B:1", *behind],
        special_tokens=list(dict(special).items()),
    )
    return processors.Sequence([byte_level, around])
