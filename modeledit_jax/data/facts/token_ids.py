"""Token ids of texts, and of an answer after its prompt, for any `tokenizers.Tokenizer`.

Prompt and answer are always read *together*, as the network met them in its training: the answer's
tokens are what the whole text adds to the prompt's. An answer encoded alone would begin with a
space token too many (Llama 2, whose normalizer puts one in front of every text), or with another
spelling of its first word.

- What is between the two: one space, unless there is white space already, or both sides are of a
  script that is written without spaces between words (Chinese, Japanese, Thai, Lao, Khmer,
  Burmese, Tibetan; the answer may be a number). White space that the user wrote stays as it is.
- Special tokens that the tokenizer puts in front belong to the prompt; those that it puts behind a
  text are left out, for neither does the prompt end there nor are they part of the answer.
- Where the tokenizer joins the end of the prompt with the beginning of the answer, so that the
  prompt's own tokens are not the first of the whole text (a prompt that ends in a space; pieces
  that cross the boundary where there are no spaces), the answer begins with the first token that
  differs. The row is still the whole text as the tokenizer reads it.
"""

import unicodedata
from collections.abc import Sequence
from itertools import takewhile

from tokenizers import Encoding, Tokenizer

_SPACELESS = ("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""How Unicode names begin of scripts without spaces between words, apart from East Asia's."""


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer without padding, truncation and dropout, as whoever saved it left them.

    Returns:
      The tokenizer itself if it has none of these, otherwise a copy; the user's is not changed.

    Raises:
      ValueError: what is given is no `tokenizers.Tokenizer`, or one that cannot be copied.
    """
    if not callable(getattr(tokenizer, "to_str", None)):
        raise ValueError(
            f"the tokenizer is a {type(tokenizer).__name__}: give a tokenizers.Tokenizer, e.g. the "
            "backend_tokenizer of a fast tokenizer of transformers"
        )
    if tokenizer.padding is None and tokenizer.truncation is None and not _dropout(tokenizer):
        return tokenizer
    try:
        copy = Tokenizer.from_str(tokenizer.to_str())
    except Exception as error:  # the library raises no narrower one
        raise ValueError(
            f"the tokenizer pads or truncates and cannot be copied ({error}): call no_padding() "
            "and no_truncation() on it"
        ) from error
    copy.no_padding()
    copy.no_truncation()
    if _dropout(copy):
        copy.model.dropout = None
    return copy


def encode_text(tokenizer: Tokenizer, text: str) -> Encoding:
    """Encodes one text, special tokens included.

    Raises:
      ValueError: it is no string, or one that the tokenizer cannot read; the text is named.
    """
    text = _checked(text)
    try:
        return tokenizer.encode(text)
    except Exception as error:  # the library raises no narrower one
        raise ValueError(
            f"the tokenizer cannot read {text!r} ({error}): change the text or the tokenizer"
        ) from error


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Token ids of a prompt that is to be continued.

    Special tokens behind it are left out, and so are spaces at its end: tokenizers put the space
    in front of the word that follows.

    Raises:
      ValueError: see `encode_text`.
    """
    front, ids = _split_special(encode_text(tokenizer, _checked(prompt).rstrip(" ")))
    if not ids:  # of an empty text, what is put in front and behind looks alike
        front, _ = _split_special(encode_text(tokenizer, "a"))
    return [*front, *ids]


def prompt_and_answers(
    tokenizer: Tokenizer, prompt: str, answers: Sequence[str], separator: str | None = None
) -> tuple[list[int], list[list[int]]]:
    """Token ids of a prompt and of each answer that may follow it.

    Args:
      tokenizer: of `plain_tokenizer`.
      prompt: what the answers follow.
      answers: at least one; the prompt ends at the same position for all of them.
      separator: put between the two; None: what the module's docstring says.

    Returns:
      Ids of the prompt, special tokens in front included, and of each answer; an answer that adds
      nothing to the prompt has none, nor has one of white space alone unless a separator is given.
      The module's docstring says where the one ends and the others begin.

    Raises:
      ValueError: `encode_text`, or no token of the prompt is left, for it is one with the answer's.
    """
    _, own = _split_special(encode_text(tokenizer, prompt))
    texts = [join(prompt, answer, separator) for answer in answers]
    wholes = [_split_special(encode_text(tokenizer, text)) for text in texts]
    shared = min(_shared(own, ids) for _, ids in wholes)
    if own and not shared and prompt.strip():
        raise ValueError(
            f"the tokenizer reads the prompt {prompt!r} and its answer {answers[0]!r} as one, so "
            "that no token of the prompt is left: lengthen the prompt"
        )
    found = [
        ids[shared:] if separator is not None or answer.strip() else []
        for answer, (_, ids) in zip(answers, wholes, strict=True)
    ]
    return [*wholes[0][0], *own[:shared]], found


def join(prompt: str, answer: str, separator: str | None = None) -> str:
    """Prompt and answer as one text; see `prompt_and_answers`."""
    prompt, answer = _checked(prompt), _checked(answer)
    if separator is not None:
        return prompt + _checked(separator) + answer
    if prompt[-1:].isspace() or answer[:1].isspace():
        return prompt + answer
    if _spaceless(prompt[-1:]) and (_spaceless(answer[:1]) or answer[:1].isdigit()):
        return prompt + answer
    return f"{prompt} {answer}"


def check_embedded(
    tokenizer: Tokenizer, ids: Sequence[int], vocabulary: int | None, text: str
) -> None:
    """Checks that a network has an embedding of every token; one without would make it NaN.

    Args:
      tokenizer: to name the token.
      ids: of the text.
      vocabulary: rows of the network's embedding; None: not known.
      text: for the message.

    Raises:
      ValueError: a token is beyond the embedding; word, number and text are named.
    """
    for token in ids:
        if vocabulary is not None and token >= vocabulary:
            raise ValueError(
                f"{text!r} has the token {tokenizer.id_to_token(token)!r}, number {token}, and the "
                f"network embeds {vocabulary}: resize its embeddings, or use the tokenizer that "
                "it was trained with"
            )


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is a {type(text).__name__}, no text: give a string")
    return text


def _dropout(tokenizer: Tokenizer) -> float | None:
    return getattr(getattr(tokenizer, "model", None), "dropout", None)


def _split_special(encoding: Encoding) -> tuple[list[int], list[int]]:
    """Ids of the special tokens put in front of a text, and of the text without those behind."""
    own = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    if not own:
        return encoding.ids, []
    return encoding.ids[: own[0]], encoding.ids[own[0] : own[-1] + 1]


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two texts have in common from their start."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _spaceless(character: str) -> bool:
    """Whether a character is of a script without spaces between words; False of an empty text."""
    if not character:
        return False
    name = unicodedata.name(character, "")
    # All of East Asia's are wide; Korean, which has spaces, is as well.
    wide = unicodedata.east_asian_width(character) in ("W", "F", "H") and "HANGUL" not in name
    return wide or name.startswith(_SPACELESS)
