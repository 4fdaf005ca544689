"""A worker on another node, as the relay of that node has it: it plays the worker's part towards the pool.

    pool --grants--> remote worker --messages--> agent --grants--> worker
         <-reports--               <-messages---       <-reports--

The pool knows of no network: it writes grants into a pipe, reads reports out of a pipe, and finds the batches in its
ring. Here are the other ends of these pipes. Grants are passed on as they are, and only as many as keep the worker busy
for the time that a message takes: what still lies in the pipe can be taken back for an idle worker. Before a report is
passed on, the bytes that it is about are in the slot, and what it says of the slot's memory is what is true here.

*No memory here.* The bytes of a batch come whether or not there is memory for them in the ring. Where there is none
they are kept in private memory, and the pool is told *full*, as by any worker: RETRY or FAIL, which it then sends, ends
here. Until then nothing more of this worker is passed on. *No memory there*, on the node: then the worker itself says
*full*, and the answer goes to it.
"""

import contextlib
import os
from collections import deque
from typing import Any

from mpqueue.cluster.wire import write_ahead
from mpqueue.errors import SharedMemoryFull
from mpqueue.memory.segment import MEMORY_REMEDY, Segment
from mpqueue.system import descriptors
from mpqueue.transport.records import ProtocolError
from mpqueue.worker import failures
from mpqueue.worker.config import WorkerEnds
from mpqueue.worker.records import GRANT, HELD, MAGIC, OUTCOMES, REPORT, TAIL, GrantKind, ReportKind, listed_bytes

_AHEAD_NS = 2_000_000  # a message there and back, with some delay of either side
_LEAST_AHEAD, _MOST_AHEAD = 3, 64  # as many grants fit into the smallest pipes that there are


class RemoteWorker:
    """One worker.

    Args:
        key: Its number among all that the pool has started.
        ends: The worker's ends of its pipes, which stay the caller's.
        segment: The ring.
        stride: Address space per slot.

    Attributes:
        key: As given.
        grants: The pipe of grants; -1 when it has ended.
        reports: The pipe of reports, which `flush` waits for.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(self, key: int, ends: WorkerEnds, segment: Segment, stride: int) -> None:
        self.key, self._segment, self._stride = key, segment, stride
        self.grants, self.reports, self._stacks = _duplicate((ends.grants, ends.reports, ends.stacks))
        for fd in (self.grants, self.reports):
            os.set_blocking(fd, False)
        self._granted: dict[int, tuple[int, int]] = {}  # by turn: slot, and bytes of it that are backed by memory
        self._outbox: deque[bytes] = deque()  # reports for which there was no room in the pipe
        self._kept: deque[tuple[tuple[Any, ...], memoryview | None]] = deque()  # reports, the first lacks memory
        self._is_full_there = False
        self._item_ns = _AHEAD_NS

    @property
    def num_wanted(self) -> int:
        """Number of grants that are to be read now."""
        if self._kept or self._is_full_there:
            return 1  # the answer is among them
        ahead = min(_MOST_AHEAD, _LEAST_AHEAD + _AHEAD_NS // (self._item_ns + 1))
        return max(0, ahead - len(self._granted))

    # -- Down

    def read(self) -> list[tuple[bytes, memoryview | None]] | None:
        """Return grants that are to be passed on, each with the bytes in its slot, if they go with it.

        Returns: None at their end.
        """
        # What is left in the pipe can be taken back for an idle worker, what has crossed the network cannot.
        wanted = self.num_wanted
        if not wanted:
            return []  # to read nothing looks like the end
        try:
            data = os.read(self.grants, wanted * GRANT.size)
        except BlockingIOError:
            return []
        if not data:
            return None
        return [read for grant in GRANT.iter_unpack(data) if (read := self._take(grant)) is not None]

    def _take(self, grant: tuple[Any, ...]) -> tuple[bytes, memoryview | None] | None:
        _magic, kind, slot, turn, unit, _epoch, high_water = grant
        payload = None
        if kind in (GrantKind.RETRY, GrantKind.FAIL):
            # Here before there: while something is kept nothing else of this worker was passed on, so that the answer
            # can be about that only.
            if self._kept:
                self._try_again(is_last=kind == GrantKind.FAIL)
                return None
            self._is_full_there = False
        elif kind != GrantKind.CLOSE:  # which has no slot
            self._granted[turn] = (slot, high_water)
            if kind in (GrantKind.LISTED, GrantKind.LANE):
                payload = self._view(slot, listed_bytes(self._segment.memory, slot * self._stride))
            elif kind == GrantKind.STATE:
                payload = self._view(slot, unit)
        return GRANT.pack(*grant), payload

    def _view(self, slot: int, nbytes: int) -> memoryview:
        start = slot * self._stride
        return memoryview(self._segment.memory)[start : start + nbytes]

    # -- Up

    def place_for(self, report: tuple[Any, ...]) -> memoryview:
        """Return where the bytes of an outcome are to be received to, before it is entered.

        Raises:
            ProtocolError: Nothing of the kind was granted.
        """
        slot, high_water = self._slot_of(report)
        nbytes = report[7]
        # The bytes come anyway, and the connection is that of all workers of the node: it must not wait for memory.
        if self._kept or not self._reserve(slot, high_water, nbytes):
            return memoryview(bytearray(nbytes))
        return self._view(slot, nbytes)

    def enter(self, report: tuple[Any, ...], received: memoryview | None = None) -> None:
        """Pass a report on; the bytes of an outcome were received to what `place_for` gave.

        Raises:
            ProtocolError: Nothing of the kind was granted.
        """
        if report[1] in OUTCOMES:
            self._slot_of(report)
            # The mean of the latest eight or so: by it `num_wanted` tells how many grants a message's time is.
            self._item_ns += (report[9] + report[10] - self._item_ns) >> 3
            is_private = received is not None and isinstance(received.obj, bytearray)
            if self._kept or not self._place(report, received if is_private else None):
                self._keep(report, received if is_private else None)
        elif self._kept:
            self._keep(report, None)
        else:
            self._send_notice(report)

    def _send_notice(self, report: tuple[Any, ...]) -> None:
        """Pass on a report that is no outcome."""
        if report[1] == ReportKind.LOADED:
            self._granted.pop(report[4], None)
        if report[1] == ReportKind.FULL:
            self._is_full_there = True
            report = (*report[:8], 0, *report[9:])  # what is backed by memory there says nothing of the slot here
        self._send(report)

    def _slot_of(self, report: tuple[Any, ...]) -> tuple[int, int]:
        granted = self._granted.get(report[4])
        if granted is None or granted[0] != report[3] or not report[6] <= report[7] <= self._stride:
            raise ProtocolError("a report of what was not granted")
        return granted

    def _reserve(self, slot: int, high_water: int, nbytes: int) -> bool:
        """Back a slot with memory; what it has is kept in mind."""
        if nbytes <= high_water:
            return True
        start = slot * self._stride
        try:
            self._segment.reserve(start + high_water, start + nbytes)
        except OSError:
            return False
        return True

    def _send_outcome(self, report: tuple[Any, ...], high_water: int) -> None:
        del self._granted[report[4]]
        self._send((*report[:8], high_water, *report[9:]))

    def _send(self, report: tuple[Any, ...]) -> None:
        self._outbox.append(REPORT.pack(*report))

    def send_raw(self, data: bytes) -> None:
        """Pass on what a worker has written that is no report: the pool will notice."""
        self._outbox.append(data)

    def send_stacks(self, data: bytes) -> None:
        """Pass on what a worker says of its stacks."""
        if self._stacks >= 0:
            with contextlib.suppress(OSError):
                os.write(self._stacks, data)

    def flush(self) -> bool:
        """Write the reports that the pipe takes; True if that was all."""
        try:
            return write_ahead(self.reports, self._outbox, REPORT.size)
        except OSError:  # the pool hears no more of this worker
            self._outbox.clear()
            return True

    # -- No memory here

    def _keep(self, report: tuple[Any, ...], received: memoryview | None) -> None:
        self._kept.append((report, received))
        if len(self._kept) == 1:
            self._say_full(report)

    def _say_full(self, report: tuple[Any, ...]) -> None:
        slot, turn, nbytes = report[3], report[4], report[7]
        self._send((MAGIC, ReportKind.FULL, 0, slot, turn, 0, 0, nbytes, self._granted[turn][1], 0, 0, 0))

    def _try_again(self, *, is_last: bool) -> None:
        """Place what lacked memory; with ``is_last`` an error takes its place if there is none."""
        report, received = self._kept.popleft()
        if not self._place(report, received):
            if not is_last:
                self._kept.appendleft((report, received))
                self._say_full(report)
                return
            self._fail(report)
        while self._kept:
            report, received = self._kept.popleft()
            if report[1] not in OUTCOMES:
                self._send_notice(report)
            elif not self._place(report, received):
                self._kept.appendleft((report, received))
                self._say_full(report)
                return

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
        """Report, in the place of a batch, that there is no memory for it; or the end of a lane without its tail."""
        slot, high_water = self._slot_of(report)
        if report[1] == ReportKind.END:
            self._send_outcome((*report[:2], report[2] & ~TAIL, *report[3:6], 0, 0, *report[8:]), high_water)
            return
        error = SharedMemoryFull(report[7], self._segment.available_bytes(), MEMORY_REMEDY)
        packed = failures.pack(error, "raised while a batch from another node was received")
        nbytes = min(len(packed), high_water)
        self._view(slot, nbytes)[:] = packed[:nbytes]
        magic, _kind, flags, _slot, turn, *_ = report
        self._send_outcome(
            (magic, ReportKind.RAISED, flags & HELD, slot, turn, 0, 0, nbytes, 0, *report[9:]), high_water
        )

    # -- The end

    def give_back(self, unread: bytes) -> None:
        """The worker is gone: put grants that it has not read where the pool looks for those."""
        if not unread or self.grants < 0:
            return
        # The pool looks into this pipe, as into that of a worker here; opened anew, its reading end can be written to.
        with contextlib.suppress(OSError):
            fd = os.open(f"/proc/self/fd/{self.grants}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(fd, unread)
            finally:
                os.close(fd)

    def close_grants(self) -> None:
        """There are no more grants."""
        grants, self.grants = self.grants, -1
        if grants >= 0:
            descriptors.close(grants)

    def close(self) -> None:
        """Close all descriptors: the pool sees the end of the reports."""
        self.close_grants()
        for fd in (self.reports, self._stacks):
            if fd >= 0:
                descriptors.close(fd)
        self.reports = self._stacks = -1


def _duplicate(fds: tuple[int, ...]) -> list[int]:
    made: list[int] = []
    try:
        made.extend(-1 if fd < 0 else descriptors.own(os.dup(fd)) for fd in fds)
    except OSError:
        for fd in made:
            if fd >= 0:
                descriptors.close(fd)
        raise
    return made
