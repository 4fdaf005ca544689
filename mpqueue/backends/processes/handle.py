"""The trainer's handle of one worker: its pipes, its state, and its granted work.

    trainer --grants-->  worker          the trainer has a second reader of this pipe, `unread`
            <--reports--
            <--stacks---                 written by `faulthandler`, after a signal

The second reader has two purposes. A write to a dead worker never raises SIGPIPE, whatever handler the user has set;
and unread grants can be taken back. The trainer closes the worker's ends as soon as the worker runs, so that the report
pipe ends with the worker.

States of a worker, as the trainer knows them (`WorkerLife`)::

    SERVING <--feed-- STARVED     has a batch, and waits for memory to write it
       | ---starve-->   |
       +-----kill-------+--> KILLED --abandon--> ABANDONED     does not exit; a replacement has its index
       |                |      |
       +----------------+------+--end--> ENDED                 the launcher has reported its exit, or has exited itself

A worker is SERVING from the moment of its request: grants wait in its pipe while its process starts. Reports are still
processed in KILLED and ENDED, because a reported batch is valid. A request for memory has no effect then: `starve`
returns False. Only the first cause of a `kill` is kept.
"""

import enum
import fcntl
import os
from typing import Any

import numpy as np

from mpqueue.engine.outcomes import Partial, Result, Unreadable
from mpqueue.memory.layout import ReadSpec
from mpqueue.memory.ring import Ring
from mpqueue.memory.slots import PAGE, Slot
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes.processes import Process
from mpqueue.system.signals.exceptions import cause_of, matches
from mpqueue.telemetry.clock import clock_ns
from mpqueue.transport.records import ProtocolError
from mpqueue.worker import failures, queue_address
from mpqueue.worker.config import WorkerEnds
from mpqueue.worker.failures import unreadable
from mpqueue.worker.records import GRANT, MAGIC, GrantKind
from mpqueue.worker.retry_markers import Name


class WorkerState(enum.Enum):
    """State of a worker."""

    SERVING = "serving"
    STARVED = "starved"
    KILLED = "killed"
    ABANDONED = "abandoned"
    ENDED = "ended"


class Cause(enum.Enum):
    """Reason why the trainer has killed a worker."""

    HUNG = "a batch exceeded `batch_timeout`"
    CLOSED = "its pipe was closed"  # usually by its exit
    UNTRUSTED = "its pipe contained invalid data"
    SACRIFICED = "an earlier batch needs the memory that it used"
    STOPPED = "the pool stops or restarts"


_SERVING, _STARVED, _KILLED, _ABANDONED, _ENDED = WorkerState


class WorkerLife:
    """The state of one worker, and the only code that changes it.

    Attributes:
        state: Present state.
        cause: Reason for killing it; None if it was not killed.
    """

    __slots__ = ("cause", "state")

    def __init__(self) -> None:
        self.state = _SERVING
        self.cause: Cause | None = None

    @property
    def is_starved(self) -> bool:
        """True if it waits for memory and was not killed."""
        return self.state is _STARVED

    @property
    def is_abandoned(self) -> bool:
        """True if it was replaced though its process may still exist."""
        return self.state is _ABANDONED

    def starve(self) -> bool:
        """Change SERVING to STARVED; return False for a killed or ended worker.

        Raises:
            ProtocolError: It is starved already.
        """
        if self.state is _STARVED:
            # It must not report anything before it has an answer, so a second request is a protocol error.
            raise ProtocolError("expected no second request of a worker that waits for memory")
        if self.state is not _SERVING:
            return False
        self.state = _STARVED
        return True

    def feed(self) -> None:
        """Change STARVED to SERVING: it received a request to try again, or to give up its batch."""
        self.state = _SERVING

    def kill(self, cause: Cause) -> bool:
        """Change SERVING or STARVED to KILLED; return False if it was killed before."""
        # The first cause counts: the pool kills all workers when it stops, which must not hide an earlier cause.
        if self.state is not _SERVING and self.state is not _STARVED:
            return False
        self.state, self.cause = _KILLED, cause
        return True

    def abandon(self) -> None:
        """Change KILLED to ABANDONED: it did not exit in time."""
        self.state = _ABANDONED

    def end(self) -> None:
        """Change any state to ENDED, except ABANDONED: its index belongs to its replacement."""
        if self.state is not _ABANDONED:
            self.state = _ENDED


class Work:
    """A work item at a worker, with its slot; after the report also the outcome, which is in the slot.

    Attributes:
        work_item: The work item.
        slot: The slot for its batch.
        cancelled: The outcome is not needed.
        is_plain: The outcome is a batch, not an exception or the end of the stream.
        is_end: The worker's stream is exhausted.
        is_partial: Some samples of the batch, or before the end of the stream, were skipped.
        read: How to read the batch; None if the slot contains an exception.
        header_offset: Offset of the batch's header, or of the exception, in the slot.
        nbytes: End of the batch in the slot.
        skipped: The samples skipped before the end of the stream.
        is_drawn: For a timed batch: it is in the timeline.
    """

    __slots__ = (
        "cancelled",
        "header_offset",
        "is_drawn",
        "is_end",
        "is_partial",
        "is_plain",
        "nbytes",
        "read",
        "ring",
        "skipped",
        "slot",
        "work_item",
    )
    read: ReadSpec | None  # this and the next two are set when the work is reported
    header_offset: int
    nbytes: int
    skipped: list[tuple[Any, ...]]  # set when the end is reported with a tail
    is_drawn: bool  # set by `time`

    def __init__(self, work_item: WorkItem, slot: Slot, ring: Ring) -> None:
        self.work_item, self.slot, self.ring = work_item, slot, ring
        self.cancelled = self.is_end = self.is_partial = False
        self.is_plain = True

    def open(self) -> Any:
        """Return the batch, as views of the slot or in private memory; or raise the exception in the slot."""
        ring, slot, read = self.ring, self.slot, self.read
        start, memory = slot.offset, ring.memory
        if read is None:
            if self.is_end:  # it has no slot anymore
                return Partial(None, self.skipped, True)
            try:
                raise failures.unpack(memory[start + self.header_offset : start + self.nbytes])
            finally:
                ring.release(slot)
        header_offset = self.header_offset
        # The header's bytes are the key: a batch with a known layout costs one look-up, and no parsing.
        try:
            recipe = read.recipes[memory[start + header_offset : start + self.nbytes]]
        except Unreadable:
            ring.release(slot)
            raise
        if recipe.has_views:
            # From here on the slot becomes free when `base` is collected.
            base = ring.view(slot, header_offset, recipe.structure)
            try:
                return read.rebuild(recipe, base)
            except BaseException as error:
                raise unreadable(error) from error
        base = np.frombuffer(memory, np.uint8, self.nbytes, start)
        try:  # the batch does not refer to the slot
            return read.rebuild(recipe, base)
        except BaseException as error:
            raise unreadable(error) from error
        finally:
            ring.release(slot)

    def time(self, *, is_drawn: bool) -> None:
        """Have the lease timed, and also drawn in the timeline with ``is_drawn``."""
        self.__class__, self.is_drawn = TimedWork, is_drawn

    def is_own(self, error: BaseException) -> bool:
        """Return whether the worker raised the error, rather than a signal handler during `open`."""
        return matches(cause_of(error), failures.RemoteTraceback)

    def evict(self) -> Result:
        """Return the same outcome in private memory, and free the slot."""
        ring, slot, read = self.ring, self.slot, self.read
        start = slot.offset
        if read is None:
            try:
                return Result.failed(failures.unpack(ring.memory[start + self.header_offset : start + self.nbytes]))
            finally:
                ring.release(slot)
        try:
            recipe = read.recipes[ring.memory[start + self.header_offset : start + self.nbytes]]
        except Unreadable as late:
            ring.release(slot)
            return Result.failed(late)
        try:
            # The copy is complete before the slot is free, so the worker cannot overwrite the batch in between.
            base = ring.private_copy(slot, self.header_offset, recipe.structure)
        except MemoryError as error:
            return Result.failed(error)
        ring.num_moved += 1
        try:
            batch = read.rebuild(recipe, base)
        except BaseException as error:
            return Result.failed(unreadable(error))
        return Result(Partial(*batch) if self.is_partial else batch)


class TimedWork(Work):
    """A work item with a timed batch."""

    __slots__ = ()

    def open(self) -> Any:
        """Return the batch, and have its lease timed; or raise the exception in the slot."""
        began, ring, work_item = clock_ns(), self.ring, self.work_item
        batch = super().open()
        ring.time_lease(self.slot, work_item.work_id if self.is_drawn else None)
        if self.is_drawn and ring.recorder.timeline is not None:
            ring.recorder.timeline.take((work_item.work_id, work_item.epoch, work_item.source_index), began)
        return batch


class Pipes:
    """The trainer's ends of a worker's pipes; -1 for a pipe that is closed.

    Attributes:
        grants: Write end of the pipe of grants.
        unread: Read end of the same pipe, for grants that the worker has not read. It is a separate open file, so the
            worker's end can block while this one does not.
        reports: Read end of the pipe of reports; does not block.
        stacks: Read end of the pipe of stacks.
        worker_ends: The worker's ends of grants, reports and stacks.

    Raises:
        OSError: No descriptors are left. None was opened then.
    """

    __slots__ = ("grants", "reports", "stacks", "unread", "worker_ends")

    def __init__(self) -> None:
        opened: list[int] = []
        try:
            # Noted one by one: the next pipe may find no descriptor left, and the first ones must be closed then.
            grants, self.grants = _noted(opened)
            self.reports, reports = _noted(opened)
            self.stacks, stacks = _noted(opened)
            # A separate open file: blocking is a flag of the open file, and only the worker's read may block.
            self.unread = descriptors.own(descriptors.reopen(grants))
        except OSError:
            for fd in opened:
                descriptors.close(fd)
            raise
        # The trainer drains whatever has arrived, and must not block on an empty pipe.
        os.set_blocking(self.reports, False)
        self.worker_ends = grants, reports, stacks

    def close_worker_ends(self) -> None:
        """Close the worker's ends, once the worker has inherited them."""
        # Each once: -1 afterwards, because the numbers soon belong to other files.
        for fd in self.worker_ends:
            if fd >= 0:
                descriptors.close(fd)
        self.worker_ends = -1, -1, -1

    def close_grants(self) -> None:
        """Close the pipe of grants: the worker exits when it has served the rest."""
        if self.grants >= 0:
            # Marked as closed first, so that an interrupt between the two steps cannot close a reused number.
            grants, self.grants = self.grants, -1
            descriptors.close(grants)

    def close_reports(self) -> None:
        """Stop reading reports."""
        if self.reports >= 0:
            reports, self.reports = self.reports, -1
            descriptors.close(reports)

    def close(self) -> None:
        """Close all pipes."""
        self.close_grants()
        self.close_reports()
        for fd in (self.unread, self.stacks):
            if fd >= 0:
                descriptors.close(fd)
        self.unread = self.stacks = -1


class WorkerHandle:
    """The trainer's view of one worker process.

    Args:
        index: Index of the worker; a replacement has the same.
        key: Index of this process among all processes of the pool so far.

    Attributes:
        process: Its process; None until the launcher has reported it.
        pipes: The trainer's ends of its pipes.
        life: Its state.
        in_flight: Granted and unreported work, by turn, in the order of the grants.
        room: Maximum length of `in_flight`. It prevents both sides from waiting for space in a pipe.
        outbox: Grants to be written.
        specs: Specs that it has sent, by id.
        busy_since: Start of its present grant, in the trainer's view.
        loading: Turns of new versions of the source that it has not loaded yet.
        has_ended: Its stream is exhausted.
        stacks: Its stacks, if it hung.
        mark: Turn and name of the sample that it reported as being computed, see `mpqueue.worker.retry_markers`; or
            None.
        told: The parts of a string that it has reported so far.
        awaited: The coroutine that it waits for; empty if unknown.
        is_leaving: It gets no more grants, and exits when it has served the rest.
        has_used_queues: It was seen to use queues before its exit.
    """

    def __init__(self, index: int, key: int) -> None:
        self.index, self.key = index, key
        self.process: Process | None = None
        self.pipes = Pipes()
        self.life = WorkerLife()
        self.room = self._most = _room_of(self.pipes.grants)
        self.in_flight: dict[int, Work] = {}
        self.outbox = bytearray()
        self.specs: dict[int, ReadSpec] = {}
        self.busy_since = 0
        self.loading: set[int] = set()
        self.has_ended = False
        self.stacks = ""
        self.mark: tuple[int, Name] | None = None
        self.told, self.awaited = bytearray(), ""
        self.is_leaving = self.has_used_queues = False

    @property
    def uses_queues(self) -> bool:
        """True if it has taken elements out of queues, which record the delivered ones."""
        process = self.process
        is_seen = process is not None and not process.machine and process.pid in queue_address.users
        return self.has_used_queues or is_seen

    @property
    def is_stealable(self) -> bool:
        """True if unread grants may be taken back: it has loaded its source, and is not about to exit."""
        return len(self.in_flight) > 1 and self.is_at_service and self.pipes.unread >= 0

    @property
    def is_at_service(self) -> bool:
        """True if it has its source, does not wait for memory and is not about to exit."""
        return not self.loading and self.life.state is WorkerState.SERVING

    def hold(self, *, held: bool) -> None:
        """Stop granting work to it, or resume."""
        self.room = 0 if held else self._most

    def ends_for(self, segment_fd: int) -> WorkerEnds:
        """Return the descriptors for its process."""
        grants, reports, stacks = self.pipes.worker_ends
        return WorkerEnds(grants, reports, segment_fd, stacks)

    def begin_ahead(self, *, begins: bool) -> None:
        """Start samples of the next batches early from the next grant on, or stop that."""
        self.outbox += GRANT.pack(MAGIC, GrantKind.AHEAD, 0, 0, begins, 0, 0)
        self.flush()

    def flush(self) -> None:
        """Write the collected grants."""
        if self.outbox and self.pipes.grants >= 0:
            # Never blocks, and never writes a part: `room` limits the grants in the pipe, and the trainer itself holds
            # a read end.
            os.write(self.pipes.grants, self.outbox)
            self.outbox.clear()

    def close(self) -> None:
        """Close all descriptors, and forget the process id, which a later worker may get."""
        self.pipes.close()
        process = self.process
        if process is None:
            return
        if not process.machine and process.pid in queue_address.users:
            self.has_used_queues = True
            # Before a later process can get this id: it would count as a user of queues.
            queue_address.users.discard(process.pid)
        if process.sentinel >= 0:
            descriptors.close(process.sentinel)
            process.sentinel = -1

    def __repr__(self) -> str:
        return f"<worker {self.index}, {self.life.state.value}, {len(self.in_flight)} in flight>"


def _noted(opened: list[int]) -> tuple[int, int]:
    ends = descriptors.pipe()
    opened += ends
    return ends


def _room_of(grants: int) -> int:
    """Return the number of grants that certainly fit into the pipe; in the worst case each write wastes half a page."""
    capacity = fcntl.fcntl(grants, fcntl.F_GETPIPE_SZ)
    return max(1, (capacity - PAGE) // (2 * GRANT.size))
