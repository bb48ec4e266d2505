"""Word-level and byte-level tokenizers built from a training corpus, with the library `tokenizers`.

Words are the unit of the embedded corpus: a thousand invented names are a thousand tokens, so that
a small model spends its capacity on facts, not on spelling. Real corpora have ten times more words,
most of them rare, and prompts with words that were never trained on; byte pairs cover both.
"""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PAD, BEGIN, UNKNOWN = "<pad>", "<begin>", "<unknown>"
"""Special tokens; their ids are 0, 1 and, in a word-level vocabulary, 2."""


def word_tokenizer(sentences: Iterable[str]) -> Tokenizer:
    """Makes one token of every word and every run of punctuation marks.

    Args:
      sentences: whose words become the vocabulary, ordered by falling count, then alphabetically.

    Returns:
      A tokenizer that begins every sequence with `BEGIN` and reads other words as `UNKNOWN`.

    Raises:
      ValueError: there is no word.
    """
    words = pre_tokenizers.Whitespace()
    counts = Counter(word for text in sentences for word, _ in words.pre_tokenize_str(text))
    if not counts:
        raise ValueError("there is no word in the sentences: a vocabulary needs a training corpus")
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    vocabulary = {word: index for index, word in enumerate((PAD, BEGIN, UNKNOWN, *ordered))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = words
    tokenizer.add_special_tokens([PAD, BEGIN])  # known already; now decoding leaves them out
    _begin_every_sequence(tokenizer)
    return tokenizer


def byte_pair_tokenizer(sentences: Iterable[str], size: int = 8_192) -> Tokenizer:
    """Trains byte pair encoding, as of GPT-2, of which no text is outside the vocabulary.

    Args:
      sentences: to train on; the result depends on no seed.
      size: tokens at most, at least 258: all bytes and two special tokens.

    Returns:
      A tokenizer that begins every sequence with `BEGIN`; decoding gives the text back.

    Raises:
      ValueError: ``size`` is too small.
    """
    if size < 258:
        raise ValueError(f"size={size}: 256 bytes and two special tokens need at least 258")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, BEGIN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    _begin_every_sequence(tokenizer)
    return tokenizer


def _begin_every_sequence(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
