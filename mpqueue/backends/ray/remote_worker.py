"""A worker on another node, as seen by the pool: the relay acts as the worker.

    pool --grants--> remote worker --messages--> agent --grants--> worker
         <-reports--               <-messages---       <-reports--

The pool does not know about the network: it writes grants into a pipe, reads reports from a pipe, and finds the batches
in its ring. This module has the other ends of these pipes. It forwards only as many grants as keep the worker busy for
the duration of a message: the grants that remain in the pipe can be taken back for an idle worker. Before it forwards a
report, it puts the bytes into the slot, and corrects the report's data about the slot's memory.

*No memory in the ring.* The bytes of a batch arrive even without memory for them. Without memory they are
kept in private memory, and the pool receives FULL as from any worker; its answer, RETRY or FAIL, ends here. Until then,
no more data of this worker is forwarded.

*No memory on the node.* Then the worker itself sends FULL, and the answer is forwarded to it.
"""

import contextlib
import os
from collections import deque
from typing import Any

from mpqueue.backends.ray.wire import write_ahead
from mpqueue.memory.segment import Segment
from mpqueue.system.descriptors import descriptors
from mpqueue.transport.records import ProtocolError
from mpqueue.worker import failures
from mpqueue.worker.config import WorkerEnds
from mpqueue.worker.records import (
    GRANT,
    HELD,
    MAGIC,
    OUTCOMES,
    PARTIAL,
    REPORT,
    TAIL,
    GrantKind,
    ReportKind,
    listed_bytes,
)

_AHEAD_NS = 2_000_000  # the round trip of a message, with some delay on either side
_LEAST_AHEAD, _MOST_AHEAD = 3, 64  # 64 grants fit into the smallest possible pipe


class RemoteWorker:
    """A worker on another node.

    Args:
        key: Its index among all workers that the pool has started.
        ends: The worker's ends of its pipes, owned by the caller.
        segment: The ring.
        stride: Address space per slot.

    Attributes:
        key: The index.
        grants: The pipe of grants; -1 once closed.
        reports: The pipe of reports, into which `flush` writes.

    Raises:
        OSError: The process has no free descriptors.
    """

    def __init__(self, key: int, ends: WorkerEnds, segment: Segment, stride: int) -> None:
        self.key, self._segment, self._stride = key, segment, stride
        self.grants, self.reports, self._stacks = _duplicate((ends.grants, ends.reports, ends.stacks))
        # One thread serves all workers of a node, so no worker's pipe may block it.
        for fd in (self.grants, self.reports, self._stacks):
            os.set_blocking(fd, False)
        self._granted: dict[int, tuple[int, int]] = {}  # by turn: slot, and its bytes backed by memory
        self._outbox: deque[bytes] = deque()  # reports that did not fit into the pipe yet
        self._kept: deque[tuple[tuple[Any, ...], memoryview | None]] = deque()  # reports; the first one lacks memory
        self._is_full_there = False
        self._item_ns = _AHEAD_NS

    @property
    def num_wanted(self) -> int:
        """Number of grants to read now."""
        if self._kept or self._is_full_there:
            return 1  # read on, because the answer follows
        ahead = min(_MOST_AHEAD, _LEAST_AHEAD + _AHEAD_NS // (self._item_ns + 1))
        return max(0, ahead - len(self._granted))

    # -- Down

    def read(self) -> list[tuple[bytes, memoryview | None]] | None:
        """Return the grants to forward, each with the bytes of its slot if they must be sent along.

        Returns: None at the end of the grants.
        """
        # Grants in the pipe can be taken back for an idle worker. Forwarded ones cannot.
        wanted = self.num_wanted
        if not wanted:
            return []  # reading 0 bytes would look like the end
        try:
            data = os.read(self.grants, wanted * GRANT.size)
        except BlockingIOError:
            return []
        if not data:
            return None
        return [read for grant in GRANT.iter_unpack(data) if (read := self._take(grant)) is not None]

    def _take(self, grant: tuple[Any, ...]) -> tuple[bytes, memoryview | None] | None:
        _magic, kind, slot, turn, index, _epoch, high_water = grant
        payload = None
        if kind in (GrantKind.RETRY, GrantKind.FAIL):
            # An answer belongs to this module first: while reports are kept here, none was forwarded that could get an
            # answer.
            if self._kept:
                if kind == GrantKind.FAIL:
                    self._place_or_fail(*self._kept.popleft())
                self._place_kept()
                return None
            self._is_full_there = False
        elif kind != GrantKind.CLOSE:  # CLOSE has no slot
            self._granted[turn] = (slot, high_water)
            if kind in (GrantKind.LISTED, GrantKind.LANE):
                payload = self._view(slot, listed_bytes(self._segment.memory, slot * self._stride))
            elif kind == GrantKind.STATE:
                payload = self._view(slot, index)
        return GRANT.pack(*grant), payload

    def _view(self, slot: int, nbytes: int) -> memoryview:
        start = slot * self._stride
        return memoryview(self._segment.memory)[start : start + nbytes]

    # -- Up

    def place_for(self, report: tuple[Any, ...]) -> memoryview:
        """Return the memory into which to receive the bytes of an outcome, before `enter`.

        Raises:
            ProtocolError: The outcome was not granted.
        """
        slot, high_water = self._slot_of(report)
        nbytes = report[7]
        # Never wait for memory here: the bytes arrive anyway, and the connection serves all workers of the node.
        if self._kept or not self._reserve(slot, high_water, nbytes):
            return memoryview(bytearray(nbytes))
        return self._view(slot, nbytes)

    def enter(self, report: tuple[Any, ...], received: memoryview | None = None) -> None:
        """Forward a report; the bytes of an outcome were received into the memory of `place_for`.

        Raises:
            ProtocolError: The outcome was not granted.
        """
        private = None
        if report[1] in OUTCOMES:
            # A moving average over about eight items, used by `num_wanted` to compute the number of grants per
            # message.
            self._item_ns += (report[9] + report[10] - self._item_ns) >> 3
            private = received if received is not None and isinstance(received.obj, bytearray) else None
        self._kept.append((report, private))
        if len(self._kept) == 1:
            self._place_kept()

    def _send_notice(self, report: tuple[Any, ...]) -> None:
        """Forward a report that is not an outcome."""
        if report[1] == ReportKind.LOADED:
            self._granted.pop(report[4], None)
        if report[1] == ReportKind.FULL:
            self._is_full_there = True
            report = (*report[:8], 0, *report[9:])  # the memory of the slot on the node does not matter here
        self._send(report)

    def _slot_of(self, report: tuple[Any, ...]) -> tuple[int, int]:
        granted = self._granted.get(report[4])
        if granted is None or granted[0] != report[3] or not report[6] <= report[7] <= self._stride:
            raise ProtocolError("a report of an outcome that was not granted")
        return granted

    def _reserve(self, slot: int, high_water: int, nbytes: int) -> bool:
        """Back the first bytes of a slot with memory; return False if there is not enough."""
        if nbytes <= high_water:
            return True
        start = slot * self._stride
        return self._segment.try_reserve(start + high_water, start + nbytes)

    def _send_outcome(self, report: tuple[Any, ...], high_water: int) -> None:
        del self._granted[report[4]]
        self._send((*report[:8], high_water, *report[9:]))

    def _send(self, report: tuple[Any, ...]) -> None:
        self._outbox.append(REPORT.pack(*report))

    def send_other_data(self) -> None:
        """Send the pool data that is not a report, as the worker did: the pool handles it as for its own workers."""
        self._outbox.append(b"?")

    def send_stacks(self, data: bytes) -> None:
        """Forward a worker's stack traces; traces that do not fit into the pipe are dropped."""
        with contextlib.suppress(OSError):  # the pipe is full
            os.write(self._stacks, data)

    def flush(self) -> bool:
        """Write the reports that fit into the pipe; return True if all were written."""
        try:
            return write_ahead(self.reports, self._outbox, REPORT.size)
        except OSError:  # the pool has closed the pipe
            self._outbox.clear()
            return True

    # -- No memory in the ring

    def _place_kept(self) -> None:
        """Forward the kept reports in their order, up to one that lacks memory."""
        while self._kept:
            report, received = self._kept[0]
            if report[1] not in OUTCOMES:
                self._send_notice(report)
            elif not self._place(report, received):
                slot, turn, nbytes = report[3], report[4], report[7]
                self._send((MAGIC, ReportKind.FULL, 0, slot, turn, 0, 0, nbytes, self._granted[turn][1], 0, 0, 0))
                return
            self._kept.popleft()

    def _place_or_fail(self, report: tuple[Any, ...], received: memoryview | None) -> None:
        """Forward an outcome that lacked memory, or an error instead if memory is still lacking."""
        if not self._place(report, received):
            self._fail(report)

    def _place(self, report: tuple[Any, ...], received: memoryview | None) -> bool:
        slot, high_water = self._slot_of(report)
        nbytes = report[7]
        if received is not None:
            if not self._reserve(slot, high_water, nbytes):
                return False
            self._view(slot, nbytes)[:] = received
        self._send_outcome(report, max(high_water, nbytes))
        return True

    def _fail(self, report: tuple[Any, ...]) -> None:
        """Report missing memory in place of a batch, or the end of a lane without its tail, if that may be lost."""
        slot, high_water = self._slot_of(report)
        if report[1] == ReportKind.END and not report[2] & PARTIAL:
            self._send_outcome((*report[:2], report[2] & ~TAIL, *report[3:6], 0, 0, *report[8:]), high_water)
            return
        error = self._segment.memory_full(report[7])
        packed = failures.pack(error, "raised while a batch from another node was received")
        nbytes = min(len(packed), high_water)
        self._view(slot, nbytes)[:] = packed[:nbytes]
        magic, _kind, flags, _slot, turn, *_ = report
        self._send_outcome(
            (magic, ReportKind.RAISED, flags & HELD, slot, turn, 0, 0, nbytes, 0, *report[9:]), high_water
        )

    # -- After the worker's exit

    def give_back(self, unread: bytes) -> None:
        """Return the unread grants of an exited worker to the pipe where the pool looks for them."""
        if not unread or self.grants < 0:
            return
        # The pool reads the unread grants of a worker from this pipe. Opened through /proc, its reading end can be
        # written.
        with contextlib.suppress(OSError):
            fd = descriptors.open_again(self.grants, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(fd, unread)
            finally:
                os.close(fd)

    def close_grants(self) -> None:
        """Close the pipe of grants."""
        grants, self.grants = self.grants, -1
        if grants >= 0:
            descriptors.close(grants)

    def close(self) -> None:
        """Close all descriptors: the pool then reads the end of the reports."""
        self.close_grants()
        for fd in (self.reports, self._stacks):
            if fd >= 0:
                descriptors.close(fd)
        self.reports = self._stacks = -1


def _duplicate(fds: tuple[int, ...]) -> list[int]:
    made: list[int] = []
    try:
        made.extend(descriptors.own(os.dup(fd)) for fd in fds)
    except OSError:
        for fd in made:
            descriptors.close(fd)
        raise
    return made
