"""One record for every table of a report: built once, shown by the page, in Markdown and on a terminal."""

from typing import NamedTuple


class Column(NamedTuple):
    """A column.

    Attributes:
        label: Its heading.
        is_number: Whether it holds numbers, which stand on the right.
        is_code: Whether it holds names or values as `params.yaml` writes them.
    """

    label: str
    is_number: bool = True
    is_code: bool = False


class Cell(NamedTuple):
    """Content of a cell.

    Attributes:
        text: Its text.
        value: The number that it is sorted by; None for one that isn't there, and for text.
        note: An interval or a detail below the text.
        is_clear: Whether it stands out.
    """

    text: str
    value: float | None = None
    note: str = ""
    is_clear: bool = False


class Row(NamedTuple):
    """A row: its heading, its cells, and whether it is one of those that the verdict is about."""

    head: str
    cells: tuple[Cell, ...]
    is_chosen: bool = False


class Table(NamedTuple):
    """A table; the first column is that of the rows' headings."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
