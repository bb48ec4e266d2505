"""A text file as windows of tokens, read line by line: for statistics of ordinary text."""

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from modeledit_jax.data.facts.token_ids import (
    check_embedded,
    own_ids,
    plain_tokenizer,
    prompt_ids,
)
from modeledit_jax.reading.files import regular_file


def text_windows(
    path: str | Path, tokenizer: Tokenizer, length: int, vocabulary: int | None = None
) -> Iterator[tuple[list[int], int]]:
    """Cuts a text into windows of tokens that follow each other.

    Args:
      path: of a text in UTF-8; it is never held as a whole.
      tokenizer: of the model; what it puts in front of a text is in front of every window.
      length: tokens of a window; only the last one may have fewer.
      vocabulary: tokens that the model embeds; None: not known.

    Yields:
      Token ids of a window, and the bytes of the text read so far.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not UTF-8, or a line has a token beyond the ``vocabulary``.
    """
    path = regular_file(path)
    tokenizer = plain_tokenizer(tokenizer)
    front = prompt_ids(tokenizer, "")[: length - 1]
    room, waiting, read = length - len(front), list[int](), 0
    for line in _lines(path):
        read += len(line.encode())
        found = own_ids(tokenizer, line)
        check_embedded(tokenizer, found, vocabulary, line.strip())
        waiting += found
        while len(waiting) >= room:
            yield [*front, *waiting[:room]], read
            del waiting[:room]
    if waiting:
        yield [*front, *waiting], read


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}): convert it") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): give another file") from error
