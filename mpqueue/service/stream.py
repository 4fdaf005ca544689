"""The engine as a server drives it: yields handles of batches in its ring, and never waits.

    open_epoch --> take, take, ... --> has_ended --> finish_epoch --> open_epoch
                     |
                     +--> BatchHandle: share(handle) for the first holder, release(handle) after the last one
                     +--> Failure: an exception in place of a batch

One thread calls all methods: `take` to get a batch, `advance` when `fileno` is readable or `timeout_s` has
passed. A handle belongs to the server until it is shared; the server counts the holders
(`mpqueue.service.loop.Deliveries`). As in a `Loader`, ``max_queue_size`` bounds the batches computed ahead.
``num_kept`` is the number of additional slots for batches that holders keep.

    worker --report--> PendingHandle --open--> BatchHandle (its slot is READY) --share, release--> FREE
                          |
                          +--evict--> Stashed --settle, in another slot--> open

A `PendingHandle` is a granted work item of this server; see `mpqueue.workers.handle.Work`. If memory is short, the
finished batches that are furthest from delivery are moved out of the ring, and back into it when they are due.

Order, seeds, restarts of workers and timeouts are as in a `Loader`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np

from mpqueue.engine.backend import EndOfStream, Stopped
from mpqueue.engine.outcomes import Outcome, Partial, Unreadable
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.skips import is_of_source
from mpqueue.errors import ServiceStateError, SharedMemoryFull
from mpqueue.loader.engine import Engine
from mpqueue.memory.layout import Array, ReadSpec, Spec, base_over
from mpqueue.memory.slots import Slot, SlotError
from mpqueue.plan.batch_info import SampleIds
from mpqueue.plan.cursors import Place, WorkItem
from mpqueue.plan.draws import Draws
from mpqueue.plan.history import NO_HISTORY, History
from mpqueue.plan.lane_order import Element
from mpqueue.plan.plans import IndexPlan, Plan, StreamPlan
from mpqueue.plan.sample_ids import SampleSet
from mpqueue.service.plan import make_plan
from mpqueue.service.records import PARTIAL
from mpqueue.system import descriptors, interrupts
from mpqueue.system.locks import Lock
from mpqueue.telemetry.stats import Statistics
from mpqueue.worker.failures import never_an_end, unreadable
from mpqueue.workers.handle import Work
from mpqueue.workers.memory_pressure import MemoryPressure
from mpqueue.workers.process import ProcessBackend

if TYPE_CHECKING:
    from mpqueue.loader.rewind import Rewind
    from mpqueue.loader.stream_rewind import StreamRewind


class BatchHandle(NamedTuple):
    """A batch in a slot.

    Attributes:
        epoch: Epoch, from 0.
        position: Position in the epoch, over all consumers.
        turn: Turn of the slot, a number that is never reused.
        slot: The slot.
        spec: How the batch is read, see `mpqueue.memory.layout`.
        header_offset: Offset of its header in the slot.
        nbytes: Offset of its end in the slot.
        flags: `PARTIAL` if samples were left out: then the batch is the first item of the structure in `spec`.
        is_extra: It was computed again for a late consumer.
        is_left_out: Always False.
        seat: Number of the seat that it was computed again for; 0 for the seat that has waited longest for it.
    """

    epoch: int
    position: int
    turn: int
    slot: Slot
    spec: Spec
    header_offset: int
    nbytes: int
    flags: int = 0
    is_extra: bool = False
    is_left_out: bool = False
    seat: int = 0


class Failure(NamedTuple):
    """An exception in place of a batch.

    Attributes:
        epoch: Epoch, from 0.
        position: Position in the epoch; -1 if it belongs to no batch.
        error: The exception of the source or the engine; None if a recomputed batch must be skipped.
        is_extra, seat: As in `BatchHandle`.
        turn: Always 0: it has no slot.
    """

    epoch: int
    position: int
    error: BaseException | None
    is_extra: bool = False
    turn: int = 0
    seat: int = 0

    @property
    def is_left_out(self) -> bool:
        """True if the batch is skipped without an error."""
        return self.error is None


class PendingHandle(Work):
    """A work item at a worker; after its report, a batch in a slot."""

    __slots__ = ()

    def timed(self, *, is_drawn: bool) -> Self:  # noqa: ARG002 - see `Work`
        """Return the same object: consumers time their leases themselves."""
        return self

    def open(self) -> Any:
        """Return the handle without changing its slot, or raise the reported exception.

        If samples were left out, return a `Partial`. An empty one has no slot anymore.
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
            batch = Partial(handle._replace(flags=PARTIAL), *_left_out(read, self._bytes(), self.header_offset))
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


def _left_out(read: ReadSpec, data: Array, header_offset: int) -> tuple[list[Any], bool]:
    """Return the entries of the samples left out of a batch, and whether the batch is empty."""
    recipe = read.recipes[data[header_offset:].tobytes()]
    base = base_over(data, 0, header_offset, recipe.structure)
    try:
        _, skipped, is_empty = read.rebuild(recipe, base)
    except Exception as error:
        raise unreadable(error, partial(read.rebuild, recipe, base)) from error
    return skipped, is_empty


MAX_KEPT = 1 << 22  # sampler indices kept for recomputing: 32 MB, or twice that if they are not small integers
_MOST_ELEMENTS = 1 << 14  # whose virtual shards are known: more than all consumers can be offered at once
_RETRY_S = 0.2  # after an error that belongs to no batch: an immediate retry would most likely fail again


class SharedRing(NamedTuple):
    """The memory of a stream's batches.

    Attributes:
        read_only_fd: A read-only descriptor, owned by the stream.
        nbytes: Bytes of address space.
        stride: Bytes per slot: slot n begins at ``n * stride``.
    """

    read_only_fd: int
    nbytes: int
    stride: int


class Stream:
    """A stream of batch handles from one source.

    Args:
        source: The source, as for a `Loader`.
        workers: Number of worker processes.
        max_queue_size: Number of batches computed ahead, including those being computed.
        shuffle: Use a new order for every epoch (sequences only).
        world: Number of ranks among which the batches are split equally: the end of an epoch is filled up or dropped.
        place: Where to begin.
        lane_place: For a stream with lanes, the start of the computation up to ``place``; batches in between, and
            batches listed as ahead of ``place``, are dropped. None for the beginning of the epoch.
        begun: Where the epoch of an endless stream began; None for the beginning of the source.
        history: The exclusions and changes of weights.
        changes: For a stream with lanes: the places of changes in the epoch of ``place``, with snapshots.
        num_kept: Number of slots for batches that holders keep. None: enough for 8 batches of each of 32 consumers, or
            fewer if the address space is limited.
        options: The options of an `mpqueue.Server` for samples and workers.

    Attributes:
        plan: The plan.
        is_generator: The source is a generator: its batches have no index.
        is_endless: An epoch has a fixed number of batches, and the next one continues where it stopped.
        epoch: The epoch opened last.
        has_ended: All of its batches were taken.
        count: Number of handles and failures yielded in it, including those before the place where it began.
        ring: The memory, from `start` to `stop`.
        places: Known places of the open epoch of a stream with lanes, to compute it again; the first is its beginning.
            A batch after a change can be computed only from the place of that change.
        history: The exclusions and changes of weights. While a resumed stream is before one of them, its plan has
            another history.
        rerun: Held while virtual shards are run in this process, because they share its random generators.
        unknown: Failures for positions that cannot be computed again; `take` yields them after the recomputed batches.

    Raises:
        TypeError: The source has an unsupported type, or an option has the wrong type.
        ValueError: An option has an invalid value, conflicts with another option, or has no meaning for a server.
    """

    _pipeline: Pipeline  # both are set by `start`
    _backend: ProcessBackend

    def __init__(
        self,
        source: Any,
        *,
        workers: int,
        max_queue_size: int = 10,
        shuffle: bool = False,
        world: int = 1,
        place: Place | None = None,
        lane_place: Place | None = None,
        begun: Place | None = None,
        history: History = NO_HISTORY,
        changes: Sequence[Place] = (),
        num_kept: int | None = None,
        **options: Any,
    ) -> None:
        self.plan = make_plan(
            source, workers=workers, max_queue_size=max_queue_size, shuffle=shuffle, world=world, num_kept=num_kept,
            work=PendingHandle, options=options,
        )  # fmt: skip
        self.history = history
        self.is_generator = not self.plan.plan.has_index
        self.is_endless = self.plan.plan.ends_by_count
        self._place = _settled(place or Place())
        # A resumed stream with lanes: the first position that a consumer still needs, and the taken positions after it.
        self._missing_from, self._given = 0, frozenset[int]()
        if self.is_generator:
            self._missing_from, self._given = self._place.position, frozenset(self._place.ahead)
            self._place = lane_place or Place(self._place.epoch)
        self.places: tuple[Place, ...] = (begun or Place(self._place.epoch),)
        for known in sorted((self._place, *changes), key=lambda known: known.position):
            self._know(known)
        # Changes that the stream reaches later: they were made before the restart, or the stream is a replay.
        self._upcoming = tuple(change for change in changes if change.position > self._place.position)
        if self.is_generator:
            self._place = next(known for known in self.places if known.position == self._place.position)
        self._is_resumed = self._missing_from > 0 or bool(self._given or self._upcoming)
        self._follow(self._history_at(self._place))
        # The elements that `take` returned last; their number is that of the positions before `count`.
        self._elements: deque[WorkItem] = deque(maxlen=_MOST_ELEMENTS)
        self._elements_before: tuple[int, int, Sequence[WorkItem]] = (-1, 0, ())  # of the previous epoch
        self.rerun = Lock()
        self.epoch, self.has_ended, self.count = self._place.epoch, False, 0
        self.ring: SharedRing | None = None
        self._engine = Engine(ends_epochs=False)
        self._unopened: Exception | None = None
        self._is_wanted = self._is_open = self._has_freed = self._is_outdated = False
        self._draws: Draws | None = None
        self._retry_at: float | None = None
        # Filled by the server's deliveries, in the order of the requests.
        self.unknown: deque[Failure] = deque()

    @property
    def seed(self) -> int:
        """The seed of the order and of random numbers."""
        return self.plan.plan.seed

    def length(self) -> int | None:
        """Return the number of batches per epoch over all ranks; None if it is endless or unknown."""
        try:
            return self.plan.plan.length()
        except TypeError:
            return None

    # -- Life

    def start(self) -> None:
        """Start the workers, which begin with the epoch of the place.

        Raises:
            OSError: There are not enough processes, descriptors or memory. All resources are released then.
            Exception: See `mpqueue.loader.engine.Engine.start`.
        """
        plan, place = self.plan, self._place
        plan.plan.warn_of_idle(plan.job.workers, plan.backend)
        self._draws = plan.plan.draws()
        cursor = plan.cursor(self._draws)
        cursor.edit = plan.plan.editor_by_place()
        # A sampler cannot be iterated again for the same order, so its indices are kept for consumers that need a batch
        # again. The bound limits the memory.
        cursor.keep(MAX_KEPT)
        cursor.last_epoch = place.epoch
        pipeline = self._engine.start(plan.job, cursor, plan.backend, plan.max_queue_size, place)
        try:
            self._use(pipeline)
        except BaseException:
            self.stop()
            raise

    def _use(self, pipeline: Pipeline) -> None:
        self._pipeline, self._backend = pipeline, cast("ProcessBackend", pipeline.backend)
        # Not a bound method: the pipeline would keep this stream alive, and the workers would not stop when the last
        # reference to the stream is dropped.
        pipeline.settle_by(_settling(pipeline, self._backend.pressure))
        ring = self._backend.pool.ring
        # Consumers get this read-only descriptor, so none of them can change a batch of the others.
        self.ring = SharedRing(descriptors.own(ring.segment.open_read_only()), ring.segment.size, ring.stride)

    def stop(self, timeout: float | None = None) -> None:
        """Stop the workers and release the ring; idempotent. Mappings of other processes remain valid.

        Raises:
            StopTimeout: A worker was still running after the timeout; the message names it.
        """
        if self.ring is not None:
            # Consumers have duplicates of this descriptor, and their mappings remain valid.
            descriptors.close(self.ring.read_only_fd)
            self.ring = None
        self._engine.stop(timeout)

    @property
    def is_running(self) -> bool:
        """True from `start` to `stop`."""
        return self._engine.is_running

    @property
    def is_full(self) -> bool:
        """True if the queue is full, or waits for memory: no more batches are computed before some are taken."""
        return self._pipeline.is_full

    def statistics(self) -> Statistics:
        """Return the counters of the engine; after `stop`, the final ones."""
        return self._engine.statistics()

    # -- The loop

    def fileno(self) -> int:
        """Return a descriptor that is readable when `advance` has work to do."""
        return self._pipeline.fileno()

    def timeout_s(self) -> float | None:
        """Return the seconds after which `advance` must be called at the latest; None for no limit."""
        waits = [self._backend.timeout_s()]
        # A worker waits for memory, and some was freed: only `advance` grants it, and no descriptor becomes readable.
        if self._has_freed and self._backend.has_waiting:
            waits.append(0.0)
        if self._retry_at is not None:
            waits.append(max(0.0, self._retry_at - time.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def advance(self) -> None:
        """Process the reports of the workers and replace crashed ones; `take` may return a batch afterwards."""
        self._has_freed = False
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
        self._pipeline.look()

    # -- Epochs

    def open_epoch(self, epoch: int) -> int | None:
        """Open an epoch for `take`; drop the rest of a previous one that has not ended.

        Returns: The number of its batches; None if it is endless or unknown.
        """
        if self.is_generator and epoch != self.epoch:
            self._settle_changes()
            self._elements_before = self.epoch, self.count, tuple(self._elements)
            self._elements.clear()
        self.epoch, self.has_ended, self.count, self._is_wanted = epoch, False, 0, True
        # Open the epoch now, so that the workers are busy before the first request. An exception is kept for
        # `take`, which returns it as a failure.
        self._unopened = self._open()
        return self.total()

    def total(self) -> int | None:
        """Return the number of batches of the open epoch; None if it is endless or unknown."""
        return self._pipeline.length_of(self.epoch)

    def _open(self) -> Exception | None:
        """Move the pipeline to the place in the epoch; return the exception that prevents it."""
        pipeline, epoch = self._pipeline, self.epoch
        self._is_open = False
        try:
            pipeline.finish_epoch()  # a retry if the source's hook has failed; otherwise without effect
            if pipeline.epoch != epoch and self.is_endless:
                self._continue_with(epoch)
            elif pipeline.epoch != epoch:
                # The previous epoch was abandoned: drop its requests, and start this epoch at its beginning.
                pipeline.forget_wanted()
                pipeline.restart_at(Place(epoch), refresh=self._is_outdated)
            elif self._is_outdated:
                pipeline.restart_at(pipeline.place(), refresh=True)
            self._is_outdated = False
            place = pipeline.place()
            # Batches taken before a restart count, too: the positions of a stream continue after them.
            self.count = place.position + len(place.ahead)
            if self.is_endless or not self.is_generator:
                # Do not prefetch past the first epoch before a second one is requested, as in a `Loader`.
                pipeline.bound_epoch(epoch, goes_on=epoch != self._place.epoch)
                pipeline.hand_out(epoch)
        except Exception as error:
            return error
        self._is_open = True
        if epoch != self.places[0].epoch:
            self.places = (self.lane_place(),)
        return None

    def _continue_with(self, epoch: int) -> None:
        """Begin an epoch at the current place of an endless stream: the previous epoch was abandoned."""
        pipeline = self._pipeline
        pipeline.begin_epoch(epoch)
        if pipeline.epoch != epoch:  # a failure in the middle of the work has left the pipeline at its place
            pipeline.restart_at(pipeline.place()._replace(epoch=epoch, position=0))

    def finish_epoch(self) -> None:
        """Run the source's ``on_epoch_end`` if all of the epoch was taken; its exception becomes the next failure."""
        with interrupts.unblock_signals():  # the hook may start processes, which inherit the signal mask
            self._pipeline.finish_epoch()

    # -- BatchHandles

    def take(self, *, is_wanted: bool = True, may_fail: bool = False) -> BatchHandle | Failure | None:
        """Return the next recomputed batch, or else the next one of the open epoch. Never waits.

        Args:
            is_wanted: If False, return only recomputed batches.
            may_fail: All holders wait for this batch. If there is no memory for it, fail: none will be freed.

        Returns: None if no batch is ready, or all were taken.
        """
        pipeline = self._pipeline
        # Without held slots, no memory will be freed either.
        pipeline.may_fail = may_fail or not self._backend.pool.ring.slots.num_leased
        # Recomputed batches first, even if `is_wanted` is False: a late consumer has room while the windows of
        # the others are full.
        if pipeline.has_wanted or self.unknown:
            extra = self._take_extra()
            if extra is not None:
                return extra
        if not is_wanted or self.has_ended or not self._is_wanted or self._retry_at is not None:
            return None
        if not self._is_open:
            error, self._unopened = self._unopened or self._open(), None
            if error is not None:
                return self._failed(error, None)
        while True:
            # The pipeline notes the work item of a failure here, so that the error gets its position.
            pipeline.failed = None
            try:
                # Do not poll for reports here: `advance` does so when there are some. A poll would cost a system call
                # for each batch that is not ready.
                taken = pipeline.step(looks=False)
            except EndOfStream:
                if self._upcoming:
                    self._reach_change()
                    continue
                # An endless stream without elements would restart forever.
                if self.is_endless and not self.count:
                    return self._failed(self._empty(), None)
                self.has_ended = True
                return None
            except Stopped:
                return None
            except Exception as error:
                failure = self._failed(error, pipeline.failed)
                if self._is_resumed and self._is_given(failure.position):
                    continue
                return failure
            if taken is None:
                return None
            handle: BatchHandle = taken[1]
            if self.is_generator:
                # The work item counts within its lane. Consumers and the journal count over all lanes.
                self._elements.append(taken[0])
                handle = handle._replace(epoch=self.epoch, position=self.count)
            self.count += 1
            if self._is_resumed and self._is_given(handle.position):
                # This batch was taken before the restart, and was computed only to reach the later ones of its lane.
                self.release(handle)
                continue
            return handle

    def _is_given(self, position: int) -> bool:
        """Return whether a batch of a resumed stream was taken from the previous server, or belongs before a change."""
        if self._upcoming and position >= self._upcoming[0].position:
            self._reach_change()
            return True
        if self.epoch != self._place.epoch or position > max(self._given, default=self._missing_from):
            self._is_resumed = bool(self._upcoming)
            return False
        return 0 <= position < self._missing_from or position in self._given

    def lane_place(self) -> Place:
        """Return the place after the yielded batches of the open epoch, with the snapshots of its lanes."""
        return self._pipeline.place()._replace(epoch=self.epoch, position=self.count)

    @property
    def begun(self) -> Place | None:
        """The place where the open epoch of an endless stream began; None for the beginning of the source."""
        return self.places[0] if self.places[0].counts else None

    def next_place(self) -> Place | None:
        """Return the place where the next epoch of an endless stream begins; None for the beginning of the source."""
        self._settle_changes()
        return self._pipeline.place()._replace(epoch=self.epoch + 1, position=0) if self.is_endless else None

    def _take_extra(self) -> BatchHandle | Failure | None:
        """Return the next recomputed batch; None if it is not ready or none was requested."""
        pipeline = self._pipeline
        if not pipeline.has_wanted:
            return self.unknown.popleft() if self.unknown else None
        taken = pipeline.step_extra()
        if taken is None:
            return None
        work_item, outcome = taken
        try:
            opened = outcome.open()
        except Exception as raised:
            error = raised.error if isinstance(raised, Unreadable) else raised
            # With ``on_error="skip"`` the batch was skipped the first time, too, so the late consumer must not get an
            # error for it.
            is_left_out = self.plan.plan.skips and is_of_source(error)
            return Failure(work_item.epoch, work_item.position, None if is_left_out else error, is_extra=True)
        if not outcome.is_partial:
            return cast("BatchHandle", opened._replace(is_extra=True))
        if opened.is_empty:
            return Failure(work_item.epoch, work_item.position, None, is_extra=True)
        return cast("BatchHandle", opened.batch._replace(is_extra=True))

    def _failed(self, error: BaseException, work_item: WorkItem | None) -> Failure:
        # A StopIteration raised by the source must not look like the end of the epoch.
        error = never_an_end(error)
        if work_item is None or work_item.position < 0:
            # Wait before the next attempt: a permanent error would otherwise fill the consumers' queues with copies of
            # itself.
            self._retry_at = time.monotonic() + _RETRY_S
            return Failure(self.epoch, -1, error)
        # The failure counts as a batch: consumers raise it and continue after it.
        position = work_item.position
        if self.is_generator:
            self._elements.append(work_item)
            position = self.count
        self.count += 1
        return Failure(self.epoch, position, error)

    def _empty(self) -> RuntimeError:
        plan = self.plan.plan
        return RuntimeError(
            f"the stream of {type(plan.source.runs).__name__} must have elements for an epoch of {plan.epoch_batches} "
            "batches, got none, even after a restart of the stream"
        )

    def recompute(self, epoch: int, positions: Iterable[int]) -> None:
        """Compute batches of the open epoch again: `take` returns them as extra ones, in this order.

        Raises:
            ValueError: Another epoch is open, or the source is a stream: see `mpqueue.service.replaying`.
            LookupError: There is no such position; or a sampler yielded it, and its indices were not kept.
        """
        if self.is_generator:
            raise ValueError("batches of a stream cannot be computed again by their position")
        if epoch != self.epoch or not self._is_wanted:
            raise ValueError(f"batches of epoch {epoch} cannot be computed again: epoch {self.epoch} is open")
        self._pipeline.want(epoch, positions)

    # -- Changes of the plan

    def _follow(self, history: History) -> None:
        plan = self.plan.plan.with_history(history)
        plan.prepare()
        self.plan = self.plan._replace(plan=plan, job=replace(self.plan.job, plan=plan))

    def _history_at(self, place: Place) -> History:
        """Return the history that the workers follow from a place on."""
        if not self.is_generator:
            return self.history  # `Plan.editor_by_place` finds the exclusions of each place
        return self.history.before(place.epoch, place.position, self.plan.plan.shard.world)

    @property
    def latest_plan(self) -> Plan:
        """The plan with all exclusions and changes of weights."""
        return self.plan.plan.with_history(self.history)

    def check_change(self) -> None:
        """Raise a `ValueError` if the stream cannot be changed while it runs."""
        if self.is_generator and self.takes_from_queues:
            raise ValueError(
                f"{self.plan.plan.source.name} takes elements from a queue, so its virtual shards cannot be run again "
                "for a change: filter the elements before they enter the queue"
            )

    def change_place(self, position: int | None, next_epoch: int) -> tuple[Place, bool]:
        """Return the place where a change begins, and whether it is in the open epoch.

        From a place in the open epoch, `take` yields all later positions again.

        Args:
            position: The first position that no consumer got; None: `take` has yielded all that consumers need.
            next_epoch: The epoch after the open one.

        Raises:
            ServiceStateError: A restarted server has not reached the place of the previous one yet.
        """
        place = self._pipeline.place()
        if position is not None and self.is_generator:
            try:
                return self._place_before(place, position), True
            except LookupError as error:  # the previous server has yielded all of the epoch
                if self.is_endless:
                    raise ServiceStateError(
                        "the server has just been restarted, and computes the last batches of the epoch again: try "
                        "again when its consumers have begun the next epoch"
                    ) from error
        elif position is not None:
            if place.epoch != self.epoch:  # it has ended
                return Place(self.epoch, position), True
            ahead = tuple(number for number in place.ahead if number < position)
            is_after = position > place.position
            return place._replace(position=min(place.position, position), ahead=ahead if is_after else ()), True
        # An endless stream continues where it is.
        return (place._replace(epoch=next_epoch, position=0) if self.is_endless else Place(next_epoch)), False

    def _place_before(self, now: Place, position: int) -> Place:
        """Return the place before a position of a stream, with the newest known snapshots."""
        latest = self.places[-1] if self.places[-1].epoch == self.epoch else Place(self.epoch)
        # Batches before an earlier change stay as they are. Positions that are not kept were not offered for long.
        position = max(position, latest.position, self.count - len(self._elements))
        if position > self.count:
            return self._rewind(max(now, latest, key=lambda place: place.position)).place_of(self.epoch, position)
        counts = list(now.counts)
        for element in islice(reversed(self._elements), self.count - position):
            counts[element.lane] = min(counts[element.lane], element.unit)
        starts = [self._pipeline.ledger.lanes.start(lane, count) for lane, count in enumerate(counts)]
        for known in self.places:
            starts = [
                new if old.number <= new.number <= count else old
                for old, new, count in zip(starts, known.starts or starts, counts, strict=True)
            ]
        return now._replace(
            epoch=self.epoch, position=position, ahead=(), counts=tuple(counts), starts=tuple(starts)
        )  # fmt: skip

    def rewind_at(self, place: Place) -> "Rewind | StreamRewind":
        """Return the object that changes the plan at a place."""
        if self.is_generator:
            return self._rewind(place)
        from mpqueue.loader.loop_position import KnownPlaces
        from mpqueue.loader.rewind import Rewind

        return Rewind(cast("IndexPlan", self.latest_plan), self.plan.job, KnownPlaces(place), self._draws)

    def _rewind(self, place: Place, history: History | None = None) -> "StreamRewind":
        # Imported for the first change or question.
        from mpqueue.loader.loop_position import KnownPlaces
        from mpqueue.loader.stream_rewind import StreamRewind

        plan = cast("StreamPlan", self.plan.plan.with_history(self.history if history is None else history))
        # A separate source: that of the plan changes with the stream.
        plan = plan.excluding(plan.history.excluded)
        return StreamRewind(plan, self.plan.job, KnownPlaces(place, self.places), self.plan.backend)

    def change(self, plan: Plan, place: Place, *, is_open: bool) -> None:
        """Continue with another history of the same plan. What was computed ahead, or again, is dropped.

        Args:
            plan: The plan of this stream with another history.
            place: Where the change begins, from `change_place`; of a stream with other snapshots.
            is_open: The place is in the open epoch.
        """
        has_other_weights = plan.history.weights() != self.history.weights()
        self.history = plan.history
        if self.is_generator:
            self._change_lanes(place, is_open=is_open)
            return
        pipeline = self._pipeline
        self._follow(self.history)
        pipeline.ledger.cursor.edit = self.plan.plan.editor_by_place()
        if not is_open:
            # The next epoch is opened later. Restarting now would run the end of this one too early.
            self._is_outdated = True
            return
        pipeline.forget_wanted()
        pipeline.restart_at(place, refresh=has_other_weights)
        pipeline.hand_out(place.epoch)
        self.count, self.has_ended = place.position + len(place.ahead), False

    def _change_lanes(self, place: Place, *, is_open: bool) -> None:
        if not is_open:
            self._follow(self.history)
            if self.is_endless:
                self._pipeline.restart_at(place, refresh=True)
            else:
                self._is_outdated = True
            return
        self._know(place)
        if place.position > self.count:
            earlier = (change for change in self._upcoming if change.position < place.position)
            self._upcoming, self._is_resumed = (*earlier, place), True
        else:
            self._go_to(place)

    def _know(self, place: Place) -> None:
        """Add a known place of the open epoch, and forget later ones."""
        self.places = (*(known for known in self.places if known.position < place.position), place)

    def _reach_change(self) -> None:
        """Continue at the next change, with its history."""
        place, *upcoming = self._upcoming
        self._upcoming = tuple(upcoming)
        self._go_to(place)

    def _go_to(self, place: Place) -> None:
        pipeline = self._pipeline
        self._follow(self._history_at(place))
        for _ in range(min(self.count - place.position, len(self._elements))):
            self._elements.pop()
        pipeline.restart_at(place, refresh=True)
        if self.is_endless:
            pipeline.hand_out(place.epoch)
        self.count, self.has_ended = place.position, False

    def _settle_changes(self) -> None:
        """Apply the changes after the place where the open epoch of a resumed stream is left."""
        if not self.is_generator or self.plan.plan.history is self.history:
            return
        self._upcoming = ()
        if self.is_endless:
            rewind = self._rewind(self._pipeline.place(), self.plan.plan.history)
            with self.rerun:
                place = rewind.shortened(self.history.excluded or SampleSet())
            self._follow(self.history)
            self._pipeline.restart_at(place, refresh=True)
        else:
            self._follow(self.history)
            self._is_outdated = True

    # -- The samples in a batch

    def explain(self, epoch: int, position: int) -> tuple[list[Any], list[SampleIds]]:
        """Return the indices in a batch of any epoch, and for each one the ids of its samples; not of a stream.

        Raises:
            LookupError: The epoch has no such batch, or the source has changed.
        """
        plan = cast("IndexPlan", self.plan.plan)
        if plan.epoch_end is not None and epoch != self.epoch:
            raise LookupError(f"{plan.source.name} changes itself in on_epoch_end, and epoch {epoch} is over")
        indices = plan.listed(plan.work_at(epoch, position, 0, self._draws)).indices
        return list(indices), plan.source.sample_ids(indices, plan.seed, epoch)

    def explanation(self, epoch: int, position: int) -> Callable[[], SampleIds]:
        """Return a function that returns the ids of the samples in a batch of a stream; from any thread.

        It calls the functions of the stream again, and raises a `LookupError` if the samples are unknown.

        Raises:
            LookupError: The samples are unknown.
        """
        plan = self.plan.plan
        if self.takes_from_queues:
            raise LookupError(f"{plan.source.name} takes elements from a queue, so its batches cannot be found again")
        work_item = self._element_at(epoch, position)
        if work_item is None and not (self.plan.job.options.ordered and (self.is_endless or not plan.skips)):
            raise LookupError(
                f"the samples of batch {position} of epoch {epoch} are unknown: the server has not kept which virtual "
                "shard it is from"
            )
        rewind = self._rewind(self.lane_place())
        element = None if work_item is None else Element(work_item.lane, work_item.unit)

        def find() -> SampleIds:
            with self.rerun:
                return rewind.samples_of(epoch, position, element)

        return find

    def _element_at(self, epoch: int, position: int) -> WorkItem | None:
        """Return the element at a position; None if it is not kept."""
        of, count, elements = self._elements_before
        if epoch == self.epoch:
            count, elements = self.count, self._elements
        elif epoch != of:
            return None
        number = position - count + len(elements)
        return elements[number] if 0 <= number < len(elements) else None

    # -- Batches of replays

    def copy_of(self, handle: BatchHandle) -> Array:
        """Return a private copy of the bytes of a batch."""
        return np.frombuffer(self._backend.pool.ring.memory, np.uint8, handle.nbytes, handle.slot.offset).copy()

    def enter(self, handle: BatchHandle, data: Array, *, may_fail: bool) -> BatchHandle | Failure | None:
        """Copy a batch of a replay into a slot of this ring; return None if there is no room now.

        Args:
            handle: The handle in the other stream.
            data: Its bytes.
            may_fail: See `take`.
        """
        pipeline, ring = self._pipeline, self._backend.pool.ring
        with pipeline.lock:
            try:
                # Priority -1, before all other batches: its consumer waits for this batch only.
                slot = self._backend.pressure.make_slot(-1, handle.nbytes, may_fail=may_fail)
            except SharedMemoryFull as error:
                return Failure(handle.epoch, handle.position, error)
            if slot is None:
                return None
            # Copy before `publish`: a published slot can be offered.
            ring.memory[slot.offset : slot.offset + handle.nbytes] = data.data
            ring.slots.publish(slot, handle.nbytes)
        # Use the turn of this ring: consumers name it to release the slot.
        return handle._replace(turn=slot.turn, slot=slot)

    def forget_entering(self) -> None:
        """Withdraw the request for room for another stream's batch."""
        if self.ring is not None:
            self._backend.pressure.cancel()

    @property
    def takes_from_queues(self) -> bool:
        """True if the source has used a queue in a worker."""
        return any(worker.uses_queues for worker in self._backend.pool.roster.workers.values())

    def wake(self) -> None:
        """Make `fileno` readable; from any thread, as long as the stream runs."""
        self._backend.wake()

    # -- Holders

    def share(self, handle: BatchHandle) -> None:
        """Record that a batch has its first holder.

        Raises:
            SlotError: The batch is free, or shared already.
        """
        slot = handle.slot
        if self.ring is not None:
            if slot.turn != handle.turn:  # the slot contains another batch by now, which consumers would read
                raise _stale(handle)
            self._backend.pool.ring.share(slot, handle.header_offset)

    def release(self, handle: BatchHandle) -> None:
        """Free the slot of a batch without holders, shared or not.

        Raises:
            SlotError: The slot was freed before.
        """
        slot = handle.slot
        if self.ring is not None:
            if slot.turn != handle.turn:
                raise _stale(handle)
            self._backend.pool.ring.release(slot)
            # If code in the worker still references an array in the slot, the slot keeps its turn and is not free yet.
            self._has_freed = self._has_freed or not slot.turn

    def __repr__(self) -> str:
        state = f"epoch {self.epoch}, {self.count} given" if self.is_running else "stopped"
        return f"<Stream of {type(self.plan.job.source).__name__}, {self.plan.job.workers} workers, {state}>"


def _stale(handle: BatchHandle) -> SlotError:
    return SlotError(f"expected turn {handle.turn} in slot {handle.slot.number}, got {handle.slot.turn}")


def _settled(place: Place) -> Place:
    """Return the same place with the largest possible position."""
    position, ahead = place.position, set(place.ahead)
    # Taken positions that directly follow the frontier extend it.
    while position in ahead:
        ahead.discard(position)
        position += 1
    return place._replace(position=position, ahead=tuple(sorted(ahead)))


def _settling(pipeline: Pipeline, pressure: MemoryPressure) -> Callable[[WorkItem, Outcome], bool]:
    """Return a function that moves a stashed batch back into the ring when it is due."""

    def settle(work_item: WorkItem, outcome: Outcome) -> bool:
        # All other outcomes are in the ring already, or are exceptions.
        if not isinstance(outcome, Stashed):
            return True
        make_slot = partial(pressure.make_slot, work_item.number, may_fail=pipeline.may_fail)
        return outcome.settle(make_slot)

    return settle
