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
- Spaces at the end of a prompt belong to the answer: tokenizers put the space in front of the word
  that follows, and no network has seen the one without the other.
- The prompt's tokens are always those of the prompt alone, for these are what the network is asked
  with. Where they are not the first of the whole text, because a piece crosses the boundary (there
  are such where there are no spaces between words), the answer's tokens are those that it has at
  the beginning of a line, without what is put in front of a whole text. The text stays the same.
"""

import unicodedata
from collections.abc import Sequence

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
    """Token ids of a prompt that is to be continued; the module's docstring says where it ends.

    Raises:
      ValueError: see `encode_text`.
    """
    return _front_and_own(tokenizer, _checked(prompt).rstrip(" "))


def own_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text without the special tokens in front of it and behind it; perhaps none.

    Raises:
      ValueError: see `encode_text`.
    """
    encoding = encode_text(tokenizer, text)
    return _split_special(encoding)[1]


def prompt_and_answer(
    tokenizer: Tokenizer, prompt: str, answer: str, separator: str | None = None
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of the answer that follows it.

    Args:
      tokenizer: of `plain_tokenizer`.
      prompt, answer: see the module's docstring.
      separator: put between the two, which are then taken as they stand; None: what the module's
        docstring says.

    Returns:
      Ids of the prompt, special tokens in front included, and of the answer: none if it adds
      nothing to the prompt, or nothing but white space with no ``separator``.

    Raises:
      ValueError: see `encode_text`.
    """
    whole = join(prompt, answer, separator)
    begin = prompt.rstrip(" ") if separator is None else prompt
    own = _front_and_own(tokenizer, begin)
    if separator is None and not answer.strip():
        return own, []
    front, body = _split_special(encode_text(tokenizer, whole))
    ids = [*front, *body]
    if ids[: len(own)] == own:
        return own, ids[len(own) :]
    rest = whole[len(begin) :]
    line, continued = (
        _split_special(encode_text(tokenizer, "\n" + text))[1] for text in ("", rest)
    )
    if continued[: len(line)] == line:
        return own, continued[len(line) :]
    return own, _split_special(encode_text(tokenizer, rest))[1]


def join(prompt: str, answer: str, separator: str | None = None) -> str:
    """Prompt and answer as one text; see `prompt_and_answer`."""
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
        raise ValueError(f"{text!r} is of type {type(text).__name__}, no text: give a string")
    return text


def _dropout(tokenizer: Tokenizer) -> float | None:
    return getattr(getattr(tokenizer, "model", None), "dropout", None)


def _split_special(encoding: Encoding) -> tuple[list[int], list[int]]:
    """Ids of the special tokens put in front of a text, and of the text without those behind."""
    own = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    if not own:
        return encoding.ids, []
    return encoding.ids[: own[0]], encoding.ids[own[0] : own[-1] + 1]


def _front_and_own(tokenizer: Tokenizer, text: str) -> list[int]:
    front, ids = _split_special(encode_text(tokenizer, text))
    if not ids:  # of an empty text, what is put in front and behind looks alike
        front, _ = _split_special(encode_text(tokenizer, "a"))
    return [*front, *ids]


def _spaceless(character: str) -> bool:
    """Whether a character is of a script without spaces between words; False of an empty text."""
    if not character:
        return False
    name = unicodedata.name(character, "")
    # All of East Asia's are wide; Korean, which has spaces, is as well.
    wide = unicodedata.east_asian_width(character) in ("W", "F", "H") and "HANGUL" not in name
    return wide or name.startswith(_SPACELESS)
