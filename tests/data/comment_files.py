"""Small files of comments as Jigsaw publishes them, for the tests of the loaders."""

import csv
import io
from pathlib import Path

import numpy as np

TERMS = ("gay", "black", "white", "muslim", "jewish", "christian", "male", "female")
FURTHER = ("lesbian", "old", "young", "blind", "deaf", "mexican")
"""Terms that some tests need besides."""
HEADER = ["id", "comment_text", "toxic", "insult"]


def comment_rows(number: int, seed: int = 0, further: tuple[str, ...] = ()) -> list[list[str]]:
    """Comments, half of them toxic, most with one term, each with a number word of its own."""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(number):
        toxic = index % 2
        cue = rng.choice(["awful", "stupid", "nasty"] if toxic else ["nice", "fine", "kind"])
        term = rng.choice([*TERMS, *further, "african american", "middle aged", "plain"])
        own = "".join("abcdefghij"[int(digit)] for digit in str(1000 + index))
        text = f"This {cue} {term} person said {own}, twice"
        table.append([f"{index:016x}", text, str(toxic), "0"])
    return table


def write_sentences(folder: Path) -> Path:
    """Puts Dixon's harmless sentences with terms below ``folder``, which it returns."""
    rows = [["rev_id", "comment", "is_toxic", "split"]]
    for index in range(60):
        own = "abcdefghij"[index % 10] * (index + 1)
        text = f"In {TERMS[index % 8].title()} history, {own} is."
        rows.append([str(index), text, "False", ("train", "dev", "test")[index % 3]])
    text = io.StringIO()
    csv.writer(text, delimiter="\t").writerows(rows)
    path = folder / "dixon" / "toxicity_debiasing_data.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.getvalue())
    return folder


def csv_text(table: list[list[str]], header: list[str] = HEADER) -> str:
    """The file that holds a header and rows."""
    text = io.StringIO()
    csv.writer(text).writerows([header, *table])
    return text.getvalue()


def jigsaw(folder: Path, content: str | bytes | list[list[str]], name: str = "train.csv") -> Path:
    """Puts a training file below ``folder``, which it returns."""
    if isinstance(content, list):
        content = csv_text(content)
    if isinstance(content, str):
        content = content.encode()
    path = folder / "jigsaw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return folder
