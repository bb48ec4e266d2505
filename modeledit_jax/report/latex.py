"""Tables in LaTeX, for papers: booktabs, numbers to the right."""

from collections.abc import Iterable, Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "–": "--",
    "✓": r"$\checkmark$",
}


def escaped(text: str) -> str:
    """The text with what LaTeX would read as a command written out."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def latex_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """A ``tabular`` that needs the packages booktabs and amssymb.

    Args:
      header: of the columns.
      rows: cells as for `markdown.table_lines`.
      texts: all but the first so many columns hold numbers, set to the right.
    """
    columns = "l" * texts + "r" * (len(header) - texts)
    first, *rest = (" & ".join(map(escaped, cells)) + r" \\" for cells in (header, *rows))
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", first, r"\midrule", *rest]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
