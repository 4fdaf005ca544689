"""The work of the stages of a dataset: rows reported by workers, and their sums in the trainer.

A row is (name, input elements, output elements, nanoseconds, waiting nanoseconds). A lane counts from its
opening, and reports the increments with each snapshot and at the end. So the trainer just adds them up: a lane
that is reopened (after a crash, a move, or in a new epoch) counts from 0, and begins at the snapshot of the last
report. Work that a crashed worker had not reported is counted by the worker that repeats it.

The stages of an indexed dataset report their work for each timed batch. It represents the batches since the previous
one, so that the sums are up to date at each timed batch.
"""

import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import TypeAlias

StageRow: TypeAlias = tuple[str, int, int, int, int]
StageRows: TypeAlias = Sequence[StageRow]

MOST_ROWS = 256  # a dataset of 10,000 parts has as many stages, and every request for statistics reads all rows
OTHERS = "other stages"
OTHER_PARTS = "other parts"


def at_most(parts: Mapping[str | int, int]) -> dict[str | int, int]:
    """Return the counts of the first 256 parts, and the sum of the others as "other parts"."""
    counts = dict(itertools.islice(parts.items(), MOST_ROWS))
    if len(counts) < len(parts):
        counts[OTHER_PARTS] = sum(parts.values()) - sum(counts.values())
    return counts


def summed(rows: StageRows, more: StageRows) -> list[StageRow]:
    """Return the sums of the rows of the same stages; a stage may be missing in one of the arguments."""
    if not rows or not more:
        return list(rows or more)
    sums = {row[0]: row for row in rows}
    for row in more:
        earlier = sums.get(row[0])
        sums[row[0]] = row if earlier is None else _plus(earlier, row, 1)
    return list(sums.values())


def since(rows: StageRows, earlier: StageRows) -> list[StageRow]:
    """Return the increments over earlier rows, without unchanged stages."""
    before = {row[0]: row for row in earlier}
    return [
        row if (previous := before.get(row[0])) is None else _plus(row, previous, -1)
        for row in rows
        if row != before.get(row[0])
    ]


def _plus(row: StageRow, other: StageRow, times: int) -> StageRow:
    name, num_in, num_out, ns, waits = row
    _, more_in, more_out, more_ns, more_waits = other
    return name, num_in + times * more_in, num_out + times * more_out, ns + times * more_ns, waits + times * more_waits


def _number_of(row: StageRow) -> int:
    number = row[0].partition(":")[0]
    return int(number) if number.isdecimal() else sys.maxsize


class StageTallies:
    """The rows of all stages of one stream; one writer at a time, and readers in any thread."""

    def __init__(self) -> None:
        self._rows: dict[str, StageRow] = {}

    def add(self, rows: StageRows, weight: int = 1) -> None:
        """Add reported rows, multiplied by ``weight``."""
        sums = self._rows
        for row in rows:
            name = row[0] if row[0] in sums or len(sums) < MOST_ROWS else OTHERS
            sums[name] = _plus(sums.get(name, (name, 0, 0, 0, 0)), row, weight)

    def rows(self) -> list[StageRow]:
        """Return the sums, each stage after its inputs."""
        # Sorted by index, because a part of a dataset first reports when it is first read.
        return sorted(self._rows.values(), key=_number_of)
