"""The work of the stages of a dataset: rows that workers tell, and their sums in the trainer.

A row is (name, elements that went in, elements that came out, nanoseconds, of them waiting). A lane counts from its
opening on, and tells with each snapshot, and at its end, what has been added since it told before. So the sums in the
trainer need not know of lanes: one that is opened again, after a death, a move or in a new epoch, counts from nothing,
and begins at the snapshot up to which the rows were told. What a worker had not told when it died is counted by the
one that computes it again.

The stages of an indexed dataset tell with each batch that is timed what they have done for it. It stands for those
since the one before, so their sums are as of the last batch that was timed.
"""

import pickle
import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

from mpqueue.system.interrupts import is_of_handler

StageRow: TypeAlias = tuple[str, int, int, int, int]
StageRows: TypeAlias = Sequence[StageRow]

MOST_ROWS = 256  # a dataset of 10,000 parts has as many stages, and each question for statistics goes through all rows
OTHERS = "other stages"


def summed(rows: StageRows, more: StageRows) -> list[StageRow]:
    """Return the sums of the rows of the same stages; a stage may be in one of both only."""
    if not rows or not more:
        return list(rows or more)
    sums = {row[0]: row for row in rows}
    for row in more:
        found = sums.get(row[0])
        sums[row[0]] = row if found is None else _plus(found, row, 1)
    return list(sums.values())


def since(rows: StageRows, earlier: StageRows) -> list[StageRow]:
    """Return what has been added to earlier rows, without the stages to which nothing was added."""
    before = {row[0]: row for row in earlier}
    return [
        row if (found := before.get(row[0])) is None else _plus(row, found, -1)
        for row in rows
        if row != before.get(row[0])
    ]


def _plus(row: StageRow, other: StageRow, times: int) -> StageRow:
    name, num_in, num_out, ns, waiting_ns = row
    return (
        name, num_in + times * other[1], num_out + times * other[2], ns + times * other[3],
        waiting_ns + times * other[4],
    )  # fmt: skip


def _number_of(row: StageRow) -> int:
    number = row[0].partition(":")[0]
    return int(number) if number.isdecimal() else sys.maxsize


class StageTallies:
    """The rows of all stages of one stream; one writer at a time, and readers in any thread."""

    def __init__(self) -> None:
        self._rows: dict[str, StageRow] = {}

    def add(self, rows: StageRows, weight: int = 1) -> None:
        """Add what was told, so many times."""
        for row in rows:
            name = row[0] if row[0] in self._rows or len(self._rows) < MOST_ROWS else OTHERS
            self._rows[name] = _plus(self._rows.get(name, (name, 0, 0, 0, 0)), row, weight)

    def rows(self) -> list[StageRow]:
        """Return the sums, those of a stage after those of its inputs."""
        # By number: a part of a dataset reports when it is read first.
        return sorted(self._rows.values(), key=_number_of)


def packed(rows: StageRows) -> bytes:
    """Return rows as bytes."""
    return pickle.dumps(list(rows), 5) if rows else b""


def unpacked(data: bytes) -> list[StageRow]:
    """Return the rows in bytes.

    Raises:
        ValueError: They are none.
    """
    if not data:
        return []
    try:
        rows: Any = pickle.loads(data)
    except Exception as error:
        if is_of_handler(error):
            raise
        raise ValueError("rows of stages that cannot be read") from error
    if type(rows) is not list or not all(
        type(row) is tuple and tuple(map(type, row)) == (str, int, int, int, int) for row in rows
    ):
        raise ValueError("rows of stages that are none")
    return rows
