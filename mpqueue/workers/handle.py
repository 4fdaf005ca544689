"""The trainer's handle of one worker: its pipes, its life, and the work that it was granted.

    trainer --grants-->  worker          the trainer has a second reader of this pipe, `unread`
            <--reports--
            <--stacks---                 when it is asked by a signal: where `faulthandler` writes

The second reader serves two ends: a write to a dead worker is never a SIGPIPE, whatever handler the user has set; and
grants that were not read can be taken back. The worker's own ends are closed here as soon as it runs, so that its
reports end when it does.

The life of a worker, as the trainer knows it (`WorkerLife`)::

    SERVING <--feed-- STARVED     it holds a batch that it found no memory for, and waits
       | ---starve-->   |
       +-----kill-------+--> KILLED --abandon--> ABANDONED     it does not die; its number has a successor
       |                |      |
       +----------------+------+--end--> ENDED                 the launcher has reported its end, or is gone itself

A worker is SERVING from the moment it was asked for: grants wait in its pipe while its process starts. What it says is
taken in while it is KILLED and when it has ENDED, too, for a batch that it has reported stands; only its needs count
no more: `starve` does nothing then. The first cause of a `kill` stands.
"""

import enum
import fcntl
import os
from functools import partial
from typing import Any

import numpy as np

from mpqueue.engine import queue_address
from mpqueue.engine.outcomes import Partial, Result, Unreadable
from mpqueue.memory.layout import ReadSpec
from mpqueue.memory.ring import Ring
from mpqueue.memory.slots import PAGE, Slot
from mpqueue.plan.cursors import WorkItem
from mpqueue.system import descriptors, platform_support
from mpqueue.system.processes import Process
from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker import failures
from mpqueue.worker.config import WorkerEnds
from mpqueue.worker.failures import unreadable
from mpqueue.worker.records import GRANT, MAGIC
from mpqueue.worker.retry_markers import Name


class WorkerState(enum.Enum):
    """State of a worker's life."""

    SERVING = "serving"
    STARVED = "starved"
    KILLED = "killed"
    ABANDONED = "abandoned"
    ENDED = "ended"


class Cause(enum.Enum):
    """Why the trainer has killed a worker."""

    HUNG = "it was over its time with a batch"
    CLOSED = "its pipe was closed"  # as a rule by its own end
    UNTRUSTED = "what came out of its pipe was no report"
    SACRIFICED = "an earlier batch needs the memory that it held"
    STOPPED = "the pool ends, or starts anew"


_SERVING, _STARVED, _KILLED, _ABANDONED, _ENDED = WorkerState


class LifeError(Exception):
    """A move that the diagram does not have."""


class WorkerLife:
    """The state of one worker, and the only code that changes it.

    Attributes:
        state: Where it is.
        cause: Why it was killed, None if it was not.
    """

    __slots__ = ("cause", "state")

    def __init__(self) -> None:
        self.state = _SERVING
        self.cause: Cause | None = None

    @property
    def is_starved(self) -> bool:
        """It waits for memory, and nobody has killed it."""
        return self.state is _STARVED

    @property
    def is_abandoned(self) -> bool:
        """It has a successor though it may still be there."""
        return self.state is _ABANDONED

    def starve(self) -> bool:
        """SERVING → STARVED; False for one that is on its way out, whose needs do not count.

        Raises:
            LifeError: It was starved already.
        """
        if self.state is _STARVED:
            raise LifeError("a worker that waits for memory cannot ask for more")
        if self.state is not _SERVING:
            return False
        self.state = _STARVED
        return True

    def feed(self) -> None:
        """STARVED → SERVING: it was asked to try again, or to give its batch up."""
        if self.state is not _STARVED:
            raise LifeError(f"a worker that is {self.state.value} waits for no memory")
        self.state = _SERVING

    def kill(self, cause: Cause) -> bool:
        """SERVING or STARVED → KILLED; False if it was killed before."""
        if self.state is not _SERVING and self.state is not _STARVED:
            return False
        self.state, self.cause = _KILLED, cause
        return True

    def abandon(self) -> None:
        """KILLED → ABANDONED: it did not die in time."""
        if self.state is not _KILLED:
            raise LifeError(f"a worker that is {self.state.value} was not killed in vain")
        self.state = _ABANDONED

    def end(self) -> None:
        """Any → ENDED, but for ABANDONED, which it stays: its number is its successor's."""
        if self.state is not _ABANDONED:
            self.state = _ENDED


class Work:
    """A work item at a worker, with its slot; once it is reported, the outcome of the work item, which the slot holds.

    Attributes:
        work_item: What is to be computed.
        slot: Where to.
        cancelled: Nobody wants it any more.
        is_plain: It is a batch: no exception, and not the end.
        is_end: The worker's stream has ended.
        is_partial: Something of the batch was left out.
        read: How to read the batch; None if the slot holds an exception.
        header_offset: Where in the slot the batch's header, or the exception, begins.
        nbytes: Where in the slot it ends.
    """

    __slots__ = (
        "cancelled",
        "header_offset",
        "is_end",
        "is_partial",
        "is_plain",
        "nbytes",
        "read",
        "ring",
        "slot",
        "work_item",
    )
    read: ReadSpec | None  # this and the two below are known when it is reported
    header_offset: int
    nbytes: int

    def __init__(self, work_item: WorkItem, slot: Slot, ring: Ring) -> None:
        self.work_item, self.slot, self.ring = work_item, slot, ring
        self.cancelled = self.is_end = self.is_partial = False
        self.is_plain = True

    def open(self) -> Any:
        """Return the batch, as views of the slot or private; or raise what is there instead."""
        ring, slot, read = self.ring, self.slot, self.read
        start, memory = slot.offset, ring.memory
        if read is None:
            try:
                raise failures.unpack(memory[start + self.header_offset : start + self.nbytes])
            finally:
                ring.release(slot)
        header_offset = self.header_offset
        # The header's bytes are the key: a batch that is laid out like one before costs this look-up, and no parsing.
        try:
            recipe = read.recipes[memory[start + header_offset : start + self.nbytes]]
        except Unreadable:
            ring.release(slot)
            raise
        if recipe.has_views:
            base = ring.view(slot, header_offset, recipe.structure)  # from here on the slot is free when `base` dies
            try:
                return read.rebuild(recipe, base)
            except Exception as error:
                raise unreadable(error, partial(read.rebuild, recipe, base)) from error
        base = np.frombuffer(memory, np.uint8, self.nbytes, start)
        try:  # nothing of it stays in the slot
            return read.rebuild(recipe, base)
        except Exception as error:
            raise unreadable(error, partial(read.rebuild, recipe, base)) from error
        finally:
            ring.release(slot)

    def timed(self, *, is_drawn: bool) -> "Work":
        """Return what takes this one's place before its outcome is entered: the same, whose lease will be timed."""
        timed = TimedWork(self.work_item, self.slot, self.ring)
        timed.cancelled, timed.is_drawn = self.cancelled, is_drawn
        return timed

    def is_own(self, error: BaseException) -> bool:
        """Return whether this was raised in the worker, and not by a signal handler here, in the middle of `open`."""
        return isinstance(error.__cause__, failures.RemoteTraceback)

    def evict(self) -> Result:
        """Return the same outcome in private memory; the slot is free then."""
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
            base = ring.private_copy(slot, self.header_offset, recipe.structure)
        except MemoryError as error:
            return Result.failed(error)
        ring.num_moved += 1
        try:
            batch = read.rebuild(recipe, base)
        except Exception as error:
            return Result.failed(unreadable(error, partial(read.rebuild, recipe, base)))
        return Result(Partial(*batch) if self.is_partial else batch)


class TimedWork(Work):
    """A work item whose batch was timed.

    Attributes:
        is_drawn: It is in the timeline.
    """

    __slots__ = ("is_drawn",)
    is_drawn: bool

    def open(self) -> Any:
        """Return the batch, and have its lease timed; or raise what is there instead."""
        began, ring, work_item = clock_ns(), self.ring, self.work_item
        batch = super().open()
        ring.time_lease(self.slot, work_item.number if self.is_drawn else None)
        if self.is_drawn and ring.recorder.timeline is not None:
            ring.recorder.timeline.take((work_item.number, work_item.epoch, work_item.unit), began)
        return batch


class Pipes:
    """The trainer's ends of a worker's pipes; -1 where one is closed, or was never there.

    Args:
        with_stacks: Make a pipe for the worker's stacks.

    Attributes:
        grants: The trainer writes grants.
        unread: Grants that the worker has not read; another open file than the worker's, so that it need not block.
        reports: The worker's reports; does not block.
        stacks: Its stacks.
        worker_ends: What the worker gets: its ends of grants, reports and stacks.

    Raises:
        OSError: There are no descriptors left; nothing was opened.
    """

    __slots__ = ("grants", "reports", "stacks", "unread", "worker_ends")

    def __init__(self, *, with_stacks: bool) -> None:
        opened: list[int] = []
        try:
            grants, self.grants = _noted(opened)
            self.reports, reports = _noted(opened)
            self.stacks, stacks = _noted(opened) if with_stacks else (-1, -1)
            self.unread = descriptors.own(descriptors.reopen(grants))
        except OSError:
            for fd in opened:
                descriptors.close(fd)
            raise
        os.set_blocking(self.reports, False)
        self.worker_ends = grants, reports, stacks

    def close_worker_ends(self) -> None:
        """Close what the worker has by now."""
        for fd in self.worker_ends:
            if fd >= 0:
                descriptors.close(fd)
        self.worker_ends = -1, -1, -1

    def close_grants(self) -> None:
        """Give no more grants: the worker ends when it has served what it has."""
        if self.grants >= 0:
            grants, self.grants = self.grants, -1
            descriptors.close(grants)

    def close_reports(self) -> None:
        """Hear no more of the worker."""
        if self.reports >= 0:
            reports, self.reports = self.reports, -1
            descriptors.close(reports)

    def close(self) -> None:
        """Close all that is left."""
        self.close_grants()
        self.close_reports()
        for fd in (self.unread, self.stacks):
            if fd >= 0:
                descriptors.close(fd)
        self.unread = self.stacks = -1


class WorkerHandle:
    """One worker process, as the trainer has it.

    Args:
        number: Of the worker; a replacement has the same.
        key: Number of this process among all that the pool ever started.
        with_stacks: Give it a pipe for its stacks.

    Attributes:
        process: Its process; None until the launcher has reported it.
        pipes: The trainer's ends of its pipes.
        life: Its state.
        in_flight: What it was granted and has not reported, by turn, in the order of its grants.
        room: How much that may be, so that the trainer never waits for a worker that waits for the trainer.
        outbox: Grants that are to be written.
        specs: Those that it has sent, by number.
        busy_since: When it took up its present grant, as far as the trainer knows.
        loading: Turns of the new versions of the source that it has not loaded yet.
        has_ended: Its stream has ended.
        stacks: What it has said of its stacks, if it hung.
        mark: The turn and the name of the sample that it has said it is at, see `mpqueue.worker.retry_markers`; None:
        of none.
        is_leaving: It gets no more grants, and ends when it has served what it has.
        has_used_queues: It has said so, or was seen to, by its end.
    """

    def __init__(self, number: int, key: int, *, with_stacks: bool = False) -> None:
        self.number, self.key = number, key
        self.process: Process | None = None
        self.pipes = Pipes(with_stacks=with_stacks)
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
        self.is_leaving = self.has_used_queues = False

    @property
    def uses_queues(self) -> bool:
        """True if it has taken elements out of queues, which know what they gave."""
        process = self.process
        is_seen = process is not None and not process.machine and process.pid in queue_address.users
        return self.has_used_queues or is_seen

    @property
    def is_stealable(self) -> bool:
        """True if unread grants may be taken back: not past a source to be loaded first, nor from the dying."""
        return platform_support.CAN_REOPEN and len(self.in_flight) > 1 and self.is_at_service and self.pipes.unread >= 0

    @property
    def is_at_service(self) -> bool:
        """True if it has its source, and neither waits for memory nor is about to die."""
        return not self.loading and self.life.state is WorkerState.SERVING

    def hold(self, *, held: bool) -> None:
        """Have it granted nothing more for now, or no longer so."""
        self.room = 0 if held else self._most

    def ends_for(self, segment_fd: int) -> WorkerEnds:
        """Return the descriptors that the process is started with."""
        grants, reports, stacks = self.pipes.worker_ends
        return WorkerEnds(grants, reports, segment_fd, stacks)

    def tell(self, kind: int, unit: int) -> None:
        """Have it do what it is granted from now on in another way: `GrantKind.THREADS` or `GrantKind.AHEAD`."""
        self.outbox += GRANT.pack(MAGIC, kind, 0, 0, unit, 0, 0)
        self.flush()

    def flush(self) -> None:
        """Write the grants that were collected."""
        if self.outbox and self.pipes.grants >= 0:
            os.write(self.pipes.grants, self.outbox)
            self.outbox.clear()

    def close(self) -> None:
        """Close all descriptors, and forget the process's id, which may be a later worker's."""
        self.pipes.close()
        process = self.process
        if process is None:
            return
        if not process.machine and process.pid in queue_address.users:
            self.has_used_queues = True
            queue_address.users.discard(process.pid)
        if process.sentinel >= 0:
            descriptors.close(process.sentinel)
            process.sentinel = -1

    def __repr__(self) -> str:
        return f"<worker {self.number}, {self.life.state.value}, {len(self.in_flight)} in flight>"


def _noted(opened: list[int]) -> tuple[int, int]:
    ends = descriptors.pipe()
    opened += ends
    return ends


def _room_of(grants: int) -> int:
    """Return how many grants the pipe takes for sure: in the worst case each write leaves half a page unused."""
    try:
        capacity = fcntl.fcntl(grants, fcntl.F_GETPIPE_SZ)
    except AttributeError:  # not Linux, where pipes have at least this much
        capacity = 1 << 14
    return max(1, (capacity - PAGE) // (2 * GRANT.size))
