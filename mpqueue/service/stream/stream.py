"""The engine as a server drives it: yields handles of batches in its ring, and never waits.

    open_epoch --> take, take, ... --> has_ended --> finish_epoch --> open_epoch
                     |
                     +--> BatchHandle: slots.share(handle) for the first holder, slots.release(handle) after the last
                     +--> Failure: an exception in place of a batch

One thread calls all methods: `take` to get a batch, `advance` when `fileno` is readable or `timeout_s` has
passed. A handle belongs to the server until it is shared; the server counts the holders
(`mpqueue.service.routing.holders.Holders`). As in a `Loader`, ``max_queue_size`` bounds the batches computed ahead.
``num_kept`` is the number of additional slots for batches that holders keep.

    worker --report--> PendingHandle --open--> BatchHandle (its slot is READY) --share, release--> FREE
                          |
                          +--evict--> Stashed --settle, in another slot--> open

A `PendingHandle` is a granted work item of this server; see `mpqueue.backends.processes.handle.Work`. If memory is
short, the finished batches that are furthest from delivery are moved out of the ring, and back into it when they are
due.

Order, seeds, restarts of workers and timeouts are as in a `Loader`.

`Stream` is for sources with an index, `mpqueue.service.stream.lane_stream.LaneStream` for all others.
`mpqueue.service.stream.making.make_stream` chooses the class once.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from mpqueue.backends.job import Job
from mpqueue.backends.processes.handle import Work
from mpqueue.backends.processes.process import ProcessBackend
from mpqueue.backends.processes.ring_memory.memory_pressure import MemoryPressure
from mpqueue.engine.backend import EndOfStream, Stopped
from mpqueue.engine.outcomes import Outcome, Partial, Unreadable
from mpqueue.engine.pipeline import Pipeline
from mpqueue.errors import SharedMemoryFull
from mpqueue.loader.session import Session
from mpqueue.memory.layout import Array, ReadSpec, base_over
from mpqueue.memory.ring import Ring
from mpqueue.memory.slots import Slot, SlotError
from mpqueue.plan.ids.history import NO_HISTORY, History
from mpqueue.plan.order.rules import warn_of_idle
from mpqueue.plan.position.cursors import ResumePoint, WorkItem
from mpqueue.service.protocol.records import PARTIAL
from mpqueue.service.routing.seat_batches import BatchHandle, Failure
from mpqueue.system.descriptors import descriptors
from mpqueue.system.signals import masks
from mpqueue.telemetry.stats import Statistics
from mpqueue.worker.failures import never_an_end, unreadable


class PendingHandle(Work):
    """A work item at a worker; after its report, a batch in a slot."""

    __slots__ = ()

    def time(self, *, is_drawn: bool) -> None:
        """Do nothing: consumers time their leases themselves."""

    def open(self) -> Any:
        """Return the handle without changing its slot, or raise the reported exception.

        If samples were skipped, return a `Partial`. An empty one has no slot anymore.
        """
        read, slot = self.read, self.slot
        if read is None:
            return super().open()
        try:
            work_item = self.work_item
            handle = BatchHandle(
                work_item.epoch, work_item.position, slot.turn, slot, read.spec, self.header_offset, self.nbytes
            )
            if not self.is_partial:
                return handle
            batch = Partial(handle._replace(flags=PARTIAL), *_skipped_in(read, self._bytes(), self.header_offset))
        except Unreadable:
            # The error is delivered in place of the handle, so no holder would ever free the slot.
            self.ring.release(slot)
            raise
        if batch.is_empty:
            self.ring.release(slot)
        return batch

    def evict(self) -> Any:
        """Move the batch to private memory and free its slot; return it."""
        if self.read is None:
            return super().evict()
        # Copy the bytes as they are, without rebuilding the batch: this takes one memcpy in each direction.
        stashed = Stashed(self, self._bytes())
        self.ring.release(self.slot)
        return stashed

    def _bytes(self) -> Array:
        return np.frombuffer(self.ring.memory, np.uint8, self.nbytes, self.slot.offset).copy()


class Stashed:
    """A batch that was moved out of the ring.

    Args:
        work: The work item.
        data: The bytes of the batch.

    Attributes:
        is_plain, is_end, is_partial: See `mpqueue.engine.outcomes.Outcome`; it is plain once it is settled.
    """

    is_end = False

    def __init__(self, work: PendingHandle, data: Array) -> None:
        self.is_plain, self.is_partial = False, work.is_partial
        self._work, self._data = work, data
        self._error: SharedMemoryFull | None = None

    def settle(self, make_slot: Callable[[int], Slot | None]) -> bool:
        """Move the batch into a slot; return False if no slot of its size is available now."""
        work, ring, nbytes = self._work, self._work.ring, len(self._data)
        try:
            slot = make_slot(nbytes)
        except SharedMemoryFull as error:
            # The failed allocation is raised by `open`, in the order of the batches.
            self._error = error
            return True
        if slot is None:
            return False
        ring.memory[slot.offset : slot.offset + nbytes] = self._data.data
        # Publish after the copy: a published slot can be offered.
        ring.slots.publish(slot, nbytes)
        # The work item continues with its new slot, so that `open` needs no special case.
        work.slot = slot
        self.is_plain = not self.is_partial
        return True

    def open(self) -> Any:
        """Return the handle, as `PendingHandle.open`.

        Raises:
            SharedMemoryFull: The batch did not fit into the memory.
        """
        if self._error is not None:
            raise self._error
        return self._work.open()

    def is_own(self, error: BaseException) -> bool:
        """Return whether this exception belongs to the batch, as `PendingHandle.is_own`."""
        return error is self._error or self._work.is_own(error)


def _skipped_in(read: ReadSpec, data: Array, header_offset: int) -> tuple[list[Any], bool]:
    """Return the entries of the samples skipped in a batch, and whether the batch is empty."""
    recipe = read.recipes[data[header_offset:].tobytes()]
    base = base_over(data, 0, header_offset, recipe.structure)
    try:
        _, skipped, is_empty = read.rebuild(recipe, base)
    except BaseException as error:
        raise unreadable(error) from error
    return skipped, is_empty


_RETRY_S = 0.2  # after an error that belongs to no batch: an immediate retry would most likely fail again


class StreamStart(NamedTuple):
    """The beginning of a stream.

    Attributes:
        point: The first batch that a consumer needs, and batches after it that were taken.
        lane_point: For a stream with lanes, the start of the computation up to ``point``; batches in between, and
            batches listed as ahead of ``point``, are dropped. None for the beginning of the epoch.
        history: The exclusions.
    """

    point: ResumePoint = ResumePoint()
    lane_point: ResumePoint | None = None
    history: History = NO_HISTORY


class SharedSlots:
    """The slots of the batches that a stream has yielded.

    Attributes:
        ring: The memory of the batches, from the start of the stream to its stop.
        has_freed: A slot has become free since the latest `Stream.advance`.
    """

    def __init__(self) -> None:
        self.ring: Ring | None = None
        self.has_freed = False

    def share(self, handle: BatchHandle) -> None:
        """Record that a batch has its first holder.

        Raises:
            SlotError: The batch is free, or shared already.
        """
        slot = handle.slot
        if self.ring is not None:
            if slot.turn != handle.turn:  # the slot contains another batch by now, which consumers would read
                raise _stale(handle)
            self.ring.share(slot, handle.header_offset)

    def release(self, handle: BatchHandle) -> None:
        """Free the slot of a batch without holders, shared or not.

        Raises:
            SlotError: The slot was freed before.
        """
        slot = handle.slot
        if self.ring is not None:
            if slot.turn != handle.turn:
                raise _stale(handle)
            self.ring.release(slot)
            # If code in the worker still references an array in the slot, the slot keeps its turn and is not free yet.
            self.has_freed = self.has_freed or not slot.turn


def _stale(handle: BatchHandle) -> SlotError:
    return SlotError(f"expected turn {handle.turn} in slot {handle.slot.index}, got {handle.slot.turn}")


class Stream:
    """A stream of batch handles from a source with an index: the position of a batch determines its samples.

    Args:
        job: The plan of the stream, and the resources to run it.
        start: Where it begins.

    Attributes:
        job: The job. Its plan follows the history.
        plan: Its plan.
        epoch: The epoch opened last.
        has_ended: All of its batches were taken; also before the first epoch is opened.
        slots: The slots of its batches.
        ring_fd: A read-only descriptor of this memory, owned by the stream; -1 without one.
        history: The exclusions, also the ones that begin with the next epoch.
        is_ordered: The positions of an epoch are yielded in order.
    """

    _pipeline: Pipeline  # both are set by `start`
    _backend: ProcessBackend

    def __init__(self, job: Job, start: StreamStart) -> None:
        self.is_ordered = bool(job.options.ordered)
        self.job, self._point, self.history = job, start.point, start.history
        self._follow(self.history)
        self.epoch, self.has_ended = self._point.epoch, True
        self.slots = SharedSlots()
        self.ring_fd = -1
        self._session = Session(ends_epochs=False)
        self._unopened: BaseException | None = None
        self._is_open = False
        self._retry_at: float | None = None

    def _follow(self, history: History) -> None:
        self.plan = self.job.plan.with_history(history)
        self.plan.source.follow(history)
        self.job = replace(self.job, plan=self.plan)

    def length(self) -> int | None:
        """Return the number of batches of the epoch over all ranks; None if it is endless or unknown."""
        try:
            return self.plan.order.length(self.epoch)
        except TypeError:
            return None

    def check_restartable(self) -> None:
        """Raise a `ValueError` if a restarted server could not continue with this source."""
        if not self.job.options.ordered:
            raise ValueError(
                "journal requires ordered=True, got ordered=False: a journal counts the batches of each consumer, and "
                "without an order a count does not identify them"
            )
        self._check_source_restartable()

    def _check_source_restartable(self) -> None:
        plan, source = self.plan, self.plan.source
        if plan.epoch_end is not None and not source.has_state:
            raise ValueError(
                f"{source.name}.on_epoch_end changes the source, and a restarted server could not restore it: "
                "implement state_dict() and load_state_dict(), or leave out journal"
            )
        if source.has_state and not source.can_resume:
            raise ValueError(
                f"{source.name} has state_dict() but no load_state_dict(state), so a restarted server could not "
                "restore it: add load_state_dict(state), or leave out journal"
            )

    def source_state(self) -> Any:
        """Return the state of the source for a journal; None if a restarted server needs none."""
        source = self.plan.source
        return source.runs.state_dict() if source.has_state else None

    # -- Life

    def start(self) -> None:
        """Start the workers, which begin with the epoch of the point.

        Raises:
            OSError: There are not enough processes, descriptors or memory. All resources are released then.
            Exception: See `mpqueue.loader.session.Session.start`.
        """
        plan, job, point = self.plan, self.job, self._point
        backend = job.options.backend
        warn_of_idle(plan.order.lanes, plan.order.ranks, job.workers)
        cursor = plan.cursor(job.workers, backend, plan.order.draws())
        cursor.last_epoch = point.epoch
        pipeline = self._session.start(job, cursor, backend, job.options.max_queue_size, point)
        try:
            self._use(pipeline)
        except BaseException:
            self.stop()
            raise

    def _use(self, pipeline: Pipeline) -> None:
        self._pipeline, self._backend = pipeline, cast("ProcessBackend", pipeline.backend)
        # Not a bound method: the pipeline would refer to this stream, and the workers would not stop when the last
        # reference to the stream is dropped.
        pipeline.ledger.settle = _settling(pipeline, self._backend.pressure)
        self.slots.ring = ring = self._backend.pool.ring
        # Consumers get this read-only descriptor, so none of them can change a batch of the others.
        self.ring_fd = descriptors.own(ring.segment.open_read_only())

    def stop(self, timeout: float | None = None) -> None:
        """Stop the workers and release the ring; idempotent. Mappings of other processes remain valid.

        Raises:
            StopTimeout: A worker was still running after the timeout; the message names it.
        """
        fd, self.ring_fd, self.slots.ring = self.ring_fd, -1, None
        if fd >= 0:
            # Consumers have duplicates of this descriptor, and their mappings remain valid.
            descriptors.close(fd)
        self._session.stop(timeout)

    @property
    def is_full(self) -> bool:
        """True if the queue is full, or waits for memory: no more batches are computed before some are taken."""
        return self._pipeline.is_full

    def statistics(self) -> Statistics:
        """Return the counters of the engine; after `stop`, the final ones."""
        return self._session.statistics()

    # -- The loop

    def fileno(self) -> int:
        """Return a descriptor that is readable when `advance` has work to do."""
        return self._pipeline.fileno()

    def timeout_s(self) -> float | None:
        """Return the seconds after which `advance` must be called at the latest; None for no limit."""
        waits = [self._backend.timeout_s()]
        # A worker waits for memory, and some was freed: only `advance` grants it, and no descriptor becomes readable.
        if self.slots.has_freed and self._backend.has_waiting:
            waits.append(0.0)
        if self._retry_at is not None:
            waits.append(max(0.0, self._retry_at - time.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def advance(self) -> None:
        """Process the reports of the workers and replace crashed ones; `take` may return a batch afterwards."""
        self.slots.has_freed = False
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
        self._pipeline.look()

    # -- Epochs

    def open_epoch(self, epoch: int) -> int | None:
        """Open an epoch for `take`; drop the rest of a previous one that has not ended.

        Returns: The number of its batches; None if it is endless or unknown.
        """
        self.epoch, self.has_ended = epoch, False
        # Open the epoch now, so that the workers are busy before the first request. An exception is kept for
        # `take`, which returns it as a failure.
        self._unopened = self._open()
        return self.total()

    def total(self) -> int | None:
        """Return the number of batches of the open epoch; None if it is endless or unknown."""
        return self._pipeline.ledger.cursor.length_of(self.epoch)

    def _open(self) -> BaseException | None:
        """Move the pipeline to the point in the epoch; return the exception that prevents it."""
        pipeline = self._pipeline
        self._is_open = False
        try:
            pipeline.epochs.finish()  # a retry if the source's hook has failed; otherwise without effect
            self._enter(self.epoch)
            self._request(self.epoch)
        except BaseException as error:
            return error
        self._is_open = True
        return None

    def _enter(self, epoch: int) -> None:
        """Move the pipeline to its point in an epoch."""
        pipeline = self._pipeline
        if pipeline.progress.epoch != epoch:
            pipeline.epochs.restart_at(ResumePoint(epoch))  # the previous epoch was abandoned

    def _request(self, epoch: int) -> None:
        """Make the pipeline yield an epoch that has a length."""
        # Do not prefetch past the first epoch before a second one is requested, as in a `Loader`.
        self._pipeline.epochs.bound(epoch, goes_on=epoch != self._point.epoch)
        self._pipeline.epochs.hand_out(epoch)

    def next_point(self) -> ResumePoint | None:
        """Return the point where the next epoch of an endless stream begins; None for the beginning of the source."""
        return None

    def finish_epoch(self) -> None:
        """Run the source's ``on_epoch_end`` if all of the epoch was taken; its exception becomes the next failure."""
        with masks.unblock_signals():  # the hook may start processes, which inherit the signal mask
            self._pipeline.epochs.finish()

    # -- BatchHandles

    def take(self, *, may_fail: bool = False) -> BatchHandle | Failure | None:
        """Return the next batch of the open epoch. Never waits.

        Args:
            may_fail: All holders wait for this batch. If no memory is available for it, fail: none will be freed.

        Returns: None if no batch is ready, or all were taken.
        """
        pipeline = self._pipeline
        # Without held slots, no memory will be freed either.
        pipeline.may_fail = may_fail or not self._backend.pool.ring.slots.num_leased
        if self.has_ended or self._retry_at is not None:
            return None
        if not self._is_open:
            error, self._unopened = self._open() if self._unopened is None else self._unopened, None
            if error is not None:
                return self._failed(error, None)
        while True:
            # The pipeline notes the work item of a failure here, so that the error gets its position.
            pipeline.rare.failed = None
            try:
                # Do not poll for reports here: `advance` does so when there are some. A poll would cost a system call
                # for each batch that is not ready.
                taken = pipeline.step(looks=False)
            except EndOfStream:
                return self._end()
            except Stopped:
                return None
            except BaseException as error:
                outcome = self._failed(error, pipeline.rare.failed)
            else:
                if taken is None:
                    return None
                outcome = self._counted(taken[1])
            if outcome is not None:
                return outcome

    def _counted(self, outcome: BatchHandle | Failure) -> BatchHandle | Failure | None:
        """Return an outcome with its position in the epoch; None to continue with the next one."""
        return outcome

    def _end(self) -> BatchHandle | Failure | None:
        """End the epoch, or return a failure."""
        self.has_ended = True
        return None

    def _failed(self, error: BaseException, work_item: WorkItem | None) -> BatchHandle | Failure | None:
        # A StopIteration raised by the source must not look like the end of the epoch.
        error = never_an_end(error)
        if work_item is None or work_item.position < 0:
            # Wait before the next attempt: a permanent error would otherwise fill the consumers' queues with copies of
            # itself.
            self._retry_at = time.monotonic() + _RETRY_S
            return Failure(self.epoch, -1, error)
        # The failure counts as a batch: consumers raise it and continue after it.
        return self._counted(Failure(self.epoch, work_item.position, error))


def _settling(pipeline: Pipeline, pressure: MemoryPressure) -> Callable[[WorkItem, Outcome], bool]:
    """Return a function that moves a stashed batch back into the ring when it is due."""

    def settle(work_item: WorkItem, outcome: Outcome) -> bool:
        # All other outcomes are in the ring already, or are exceptions.
        if not isinstance(outcome, Stashed):
            return True
        make_slot = partial(pressure.make_slot, work_item.work_id, may_fail=pipeline.may_fail)
        return outcome.settle(make_slot)

    return settle
