"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table_lines(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1
) -> list[str]:
    """Lines of a table; all but the first ``texts`` columns hold numbers, set to the right."""
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]
