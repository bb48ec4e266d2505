"""Code blocks of Markdown files.

A block is fenced by three backticks and a language. A ``title="name"`` after the language makes it
a file of that name, for the other blocks of the page. An HTML comment right above a block is for
the tests: ``<!-- needs: fixture … -->`` names functions of `tests.docs.local_files`, which make the
files that the reader is supposed to have; ``<!-- slow -->`` leaves the block to `make test-slow`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"(?:^[ ]*<!-- (?P<comment>[^>]*) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One code block."""

    page: str
    line: int
    language: str
    text: str
    title: str | None
    needs: tuple[str, ...]
    slow: bool

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README and all pages of the documentation, relative to the root."""
    return ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]


def blocks(page: str) -> Iterator[Block]:
    """The code blocks of a page, in its order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        comment = found["comment"] or ""
        needs = comment.removeprefix("needs:").split() if comment.startswith("needs:") else []
        code = "".join(
            line.removeprefix(found["indent"]) for line in found["text"].splitlines(keepends=True)
        )
        yield Block(
            page,
            text[: found.start("text")].count("\n") + 1,
            found["language"],
            code,
            found["title"],
            tuple(name for name in needs if name != "slow"),
            "slow" in comment.split(),
        )


def commands(block: Block) -> list[str]:
    """The commands of a shell block: lines joined at backslashes, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    stripped = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
    return [line for line in stripped if line]
