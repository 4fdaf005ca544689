"""The table of ``mpqueue top``: the columns that fit the width; less important ones are left out first."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mpqueue.commands.frame import aligned
from mpqueue.commands.top_rows import TopRow
from mpqueue.telemetry.units import rate_text

_NOTHING = "no process of this user is monitored: set MPQUEUE_MONITOR=1, or pass monitor=True, in the training"
_LEAST_NOTE = 12
_GAP = 2


class TableColumn(NamedTuple):
    """A column: heading, cells, whether they are numbers, and its rank (the largest rank is left out first)."""

    heading: str
    cell: Callable[[TopRow], str]
    is_number: bool
    rank: int


def _number(value: float | None) -> str:
    return "-" if value is None else rate_text(value)


def _bytes(row: TopRow) -> str:
    if row.kind == "stage":
        return ""
    return "-" if row.bytes_per_s is None else f"{row.bytes_per_s / 1e6:,.0f}"


def _share(row: TopRow) -> str:
    """Return the consumer's share of waiting; empty for a server and for a stage, which do not wait for batches."""
    if row.batches is None or row.kind in {"Server", "stage"}:
        return ""
    return "-" if row.wait_share is None else f"{row.wait_share:.0%}"


COLUMNS = (
    TableColumn("pid", lambda row: str(row.pid or "?"), is_number=True, rank=0),
    TableColumn("what", lambda row: row.kind, is_number=False, rank=2),
    TableColumn("name", lambda row: row.name, is_number=False, rank=0),
    TableColumn("workers", lambda row: row.workers, is_number=False, rank=6),
    TableColumn("epoch", lambda row: "" if row.epoch is None else str(row.epoch), is_number=True, rank=5),
    TableColumn("batches", lambda row: "" if row.batches is None else f"{row.batches:,}", is_number=True, rank=7),
    TableColumn(
        "batches/s", lambda row: "" if row.batches is None else _number(row.batches_per_s), is_number=True, rank=0
    ),
    TableColumn("MB/s", lambda row: "" if row.batches is None else _bytes(row), is_number=True, rank=4),
    TableColumn(
        "waits",
        _share,
        is_number=True,
        rank=1,
    ),
    TableColumn("ring", lambda row: "" if row.ring is None else f"{row.ring[0]}/{row.ring[1]}", is_number=True, rank=8),
    TableColumn("crashes", lambda row: str(row.deaths or ""), is_number=True, rank=3),
    TableColumn("", lambda row: row.note, is_number=False, rank=9),
)


class Table(NamedTuple):
    """The columns that fit, and the cells of each row."""

    columns: list[TableColumn]
    cells: list[list[str]]
    rows: Sequence[TopRow]


def fit(rows: Sequence[TopRow], width: int | None) -> Table:
    """Return the columns that fit. The last one, with notes, is truncated if it is too long.

    Args:
        rows: The rows to show.
        width: Characters per line; None: unlimited.
    """
    columns = [column for column in COLUMNS if any(column.cell(row) for row in rows)]
    while width is not None and _width(columns, rows) > width and max(column.rank for column in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    return Table(columns, [[column.cell(row) for column in columns] for row in rows], rows)


def _width(columns: Sequence[TableColumn], rows: Sequence[TopRow]) -> int:
    """Return the number of characters that the columns need; notes need only a few."""
    needed = 0
    for column in columns:
        cells = max(len(column.heading), *(len(column.cell(row)) for row in rows))
        needed += (min(cells, _LEAST_NOTE) if not column.heading else cells) + _GAP
    return needed - _GAP


def lines(rows: Sequence[TopRow], width: int | None = None) -> list[str]:
    """Return the lines of the table, joined."""
    if not rows:
        return [_NOTHING]
    table = fit(rows, width)
    headings = [column.heading for column in table.columns]
    found = aligned([headings, *table.cells], [column.is_number for column in table.columns])
    return found if width is None else [line[:width] for line in found]


def render(rows: Sequence[TopRow], width: int, rich_table: Any, rich_text: Any) -> Any:
    """Return the table for rich.

    Args:
        rows: The rows to show.
        width: Columns of the terminal.
        rich_table: The module ``rich.table``.
        rich_text: The module ``rich.text``.
    """
    if not rows:
        return rich_text.Text(_NOTHING)
    table, made = fit(rows, width), rich_table.Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for column in table.columns:
        made.add_column(column.heading, justify="right" if column.is_number else "left", no_wrap=True)
    for row, cells in zip(rows, table.cells, strict=True):
        made.add_row(*map(rich_text.Text, cells), style=_style(row))
    return made


def _style(row: TopRow) -> str:
    if row.trouble:
        return "bold red"
    if row.deaths or row.note.startswith("the others wait"):
        return "yellow"
    return "dim" if row.note.startswith("stopped") else ""
