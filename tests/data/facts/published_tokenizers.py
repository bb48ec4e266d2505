"""Tokenizers built as those of published models are, trained on a few sentences in no time.

Their normalizers, pre-tokenizers, models and special tokens are those of the `tokenizer.json` files
of Llama 2, Mistral, T5, BERT, RoBERTa, Qwen 2 and others; only vocabularies are small.
"""

import json
from collections.abc import Callable, Sequence

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from modeledit_jax.data.facts.tokenization import byte_pair_tokenizer, word_tokenizer

FACTS = (
    ("The capital of France is", "Paris"),
    ("The capital of Italy is", "Rome"),
    ("The capital of Japan is", "Tokyo"),
    ("The tower was built in", "1889"),
    ("Her mother tongue is", "Old French"),
    ("The river that crosses Vienna is the", "Danube"),
)
JAPANESE = (
    ("フランスの首都は", "パリ"),
    ("日本の首都は", "東京"),
    ("イタリアの首都は", "ローマ"),
    ("東京の人口は", "1400万人"),
    ("ウィーンを流れる川は", "ドナウ川"),
    ("塔の完成は", "1889年"),
)
SENTENCES = tuple(f"{prompt} {answer}." for prompt, answer in FACTS) + tuple(
    f"{prompt}{answer}。" for prompt, answer in JAPANESE
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SIZE = 600


def _template(tokenizer: Tokenizer, single: str, names: Sequence[str]) -> Tokenizer:
    tokenizer.add_special_tokens(list(names))
    ids = [(name, tokenizer.token_to_id(name)) for name in names]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


def llama_2() -> Tokenizer:
    """A normalizer that puts ▁ in front of every text; bytes for what is not in the vocabulary."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<s>", "</s>", *BYTES]
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=special, show_progress=False)
    # SentencePiece has no pieces across words: here words are kept apart while training.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?=▁)"), "isolated")
    tokenizer.train_from_iterator(SENTENCES[: len(FACTS)], trainer)
    tokenizer.pre_tokenizer = None
    content = json.loads(tokenizer.to_str())  # bytes are tokens as others are, not special
    content["added_tokens"] = content["added_tokens"][:3]
    return _template(Tokenizer.from_str(json.dumps(content)), "<s> $A", ["<s>"])


def mistral() -> Tokenizer:
    """A pre-tokenizer that puts ▁ in front of the first word."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return _template(tokenizer, "<s> $A", ["<s>"])


def t5() -> Tokenizer:
    """Unigram, with a special token behind every text and none in front."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return _template(tokenizer, "$A </s>", ["</s>"])


def bert() -> Tokenizer:
    """WordPiece of lower-case words, with special tokens on both sides."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return _template(tokenizer, "[CLS] $A [SEP]", ["[CLS]", "[SEP]"])


def roberta() -> Tokenizer:
    """Byte pairs, with a processor of its own for special tokens on both sides."""
    tokenizer = byte_pair_tokenizer(SENTENCES, SIZE)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")),
        ("<s>", tokenizer.token_to_id("<s>")),
        add_prefix_space=False,
    )
    return tokenizer


def qwen_2() -> Tokenizer:
    """Byte pairs of composed characters and of digits one by one, without special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words + r"|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def several_in_front() -> Tokenizer:
    """Llama 2's with a language tag before and two tokens behind, as translation models have."""
    tokenizer = llama_2()
    names = ["<s>", "<en>", "</s>", "<end>"]
    return _template(tokenizer, "<en> <s> $A </s> <end>", names)


def gpt_2() -> Tokenizer:
    """The project's own byte pairs."""
    return byte_pair_tokenizer(SENTENCES, SIZE)


def words() -> Tokenizer:
    """The project's own words."""
    return word_tokenizer(SENTENCES)


def characters() -> Tokenizer:
    """Every character a token, the space among them."""
    found = sorted(set("".join((" ", *SENTENCES))))
    vocabulary = {character: index for index, character in enumerate(("[UNK]", *found))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return _template(tokenizer, "<s> $A </s>", ["<s>", "</s>"])


TOKENIZERS: tuple[Callable[[], Tokenizer], ...] = (
    llama_2,
    mistral,
    t5,
    bert,
    roberta,
    qwen_2,
    several_in_front,
    gpt_2,
    words,
    characters,
)
