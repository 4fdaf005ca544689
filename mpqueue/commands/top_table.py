"""The table of ``mpqueue top``: the columns that fit the width; less important ones are left out first."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mpqueue.commands.frame import aligned
from mpqueue.commands.top_rows import TopRow
from mpqueue.system.units import rate_text

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
    if row.kind in {"stage", "cache"}:
        return ""
    return "-" if row.bytes_per_s is None else f"{row.bytes_per_s / 1e6:,.0f}"


def _share(row: TopRow) -> str:
    """Return the consumer's share of waiting; empty for servers, stages and caches, which do not wait for batches."""
    if row.batches is None or row.kind in {"Server", "stage", "cache"}:
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
    TableColumn("waits", _share, is_number=True, rank=1),
    TableColumn("ring", lambda row: "" if row.ring is None else f"{row.ring[0]}/{row.ring[1]}", is_number=True, rank=8),
    TableColumn("crashes", lambda row: str(row.deaths or ""), is_number=True, rank=3),
    TableColumn("", lambda row: row.note, is_number=False, rank=9),
)


def fit(rows: Sequence[TopRow], width: int | None) -> list[TableColumn]:
    """Return the columns that fit. The last one, with notes, is truncated if it is too long.

    Args:
        rows: The rows to show.
        width: Characters per line; None: unlimited.
    """
    columns = [column for column in COLUMNS if any(column.cell(row) for row in rows)]
    while width is not None and _width(columns, rows) > width and max(column.rank for column in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    return columns


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
    columns = fit(rows, width)
    cells = [[column.heading for column in columns], *([column.cell(row) for column in columns] for row in rows)]
    found = aligned(cells, [column.is_number for column in columns])
    return found if width is None else [line[:width] for line in found]
