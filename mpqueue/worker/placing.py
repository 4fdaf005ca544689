"""Writes outcomes into slots, and requests memory from the trainer if it is lacking."""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from mpqueue.memory.segment import GroupFull, Segment, is_full
from mpqueue.memory.writer import SlotWriter
from mpqueue.worker.records import OF_GROUP, ReportKind, pack_tail
from mpqueue.worker.runners.runner import StreamEnd

# The kernel may count the file cache of a control group late, by up to 2 s: then the group has more room than it shows.
_GROUP_WAIT_S, _GROUP_PAUSE_S = 2.5, 0.1
_T = TypeVar("_T")


class Answers(Protocol):
    """The trainer's answers to a lack of memory: a `mpqueue.worker.main.GrantReader`."""

    may_use_reserve: bool

    def may_retry(self) -> bool:
        """Wait for the answer; return True to try again."""


class Placing:
    """Writes what may lack memory.

    Args:
        segment: The shared memory.
        writer: Writes into the present slot.
        answers: The trainer's answers.
        report: Reports a lack of memory: kind, slot, turn, number of bytes and flags.
    """

    def __init__(
        self, segment: Segment, writer: SlotWriter, answers: Answers, report: Callable[[int, int, int, int, int], None]
    ) -> None:
        self._segment, self._writer, self._answers, self._report = segment, writer, answers, report

    def again(self, error: OSError, slot: int, turn: int, place: Callable[[], _T]) -> _T:
        """Place what lacked memory as soon as some is free; give up when the trainer does."""
        is_last, give_up_at = False, 0.0
        while is_full(error):
            missing = self._writer.wanted
            if not is_last:
                self._report(ReportKind.FULL, slot, turn, missing, OF_GROUP * isinstance(error, GroupFull))
                # Others may have freed memory since the trainer's decision, so even FAIL is followed by an attempt.
                is_last, give_up_at = not self._answers.may_retry(), time.monotonic() + _GROUP_WAIT_S
            elif isinstance(error, GroupFull) and time.monotonic() < give_up_at:
                time.sleep(_GROUP_PAUSE_S)
            else:
                raise self._segment.memory_full(missing) from error
            spares = self._writer.spares
            if self._answers.may_use_reserve:
                self._writer.spares = None
            try:
                return place()
            except OSError as again:
                error = again
            finally:
                self._writer.spares = spares
        raise error

    def put_behind(self, end: int, tail: bytes, slot: int, turn: int, *, is_needed: bool) -> bool:
        """Write a tail after the batch; return False if memory is lacking, and the tail is not needed."""
        try:
            self._writer.append(end, tail)
        except OSError as error:
            if not is_needed and is_full(error):
                # Not retried: the next snapshot is due soon, and until then the lane can restart from an older one.
                return False
            self.again(error, slot, turn, partial(self._writer.append, end, tail))
        return True

    def place_end(self, ended: StreamEnd, slot: int, turn: int) -> tuple[int, int]:
        """Write the tail of a finished lane; return its start and end, or zeros if memory for rows is lacking."""
        place = partial(self._writer.place_bytes, pack_tail(rows=ended.rows, skipped=ended.skipped))
        try:
            placed = place()
        except OSError as error:
            if not ended.skipped and is_full(error):
                return 0, 0
            placed = self.again(error, slot, turn, place)
        return placed.header_offset, placed.nbytes
