"""The engine as a server drives it: it gives handles, which are the places of batches in its ring, and never waits.

    open_epoch --> take, take, ... --> has_ended --> finish_epoch --> open_epoch
                     |
                     +--> BatchHandle: share(handle) when others have it, release(handle) when none of them has it any
                     more +--> Failure: what was raised in the place of a batch

One thread calls everything: `take` when somebody wants a batch, `advance` when `fileno` is readable or `timeout_s` is
over. A handle belongs to the server until it is shared; who then holds it the server counts
(`mpqueue.service.loop.Deliveries`). What the workers compute ahead is bounded by ``max_queue_size``, as in a `Loader`;
what the holders keep by ``num_kept``, the slots that are there for it.

    worker --report--> PendingHandle --open--> BatchHandle (its slot is READY) --share, release--> FREE
                          |
                          +--evict--> Stashed --settle, in another slot--> open

`PendingHandle` is what a granted work item is for this server; see `mpqueue.workers.handle.Work`, whose place it takes.
Where memory is short, the finished batches furthest from their turn are moved out of the ring as they are, and back
into it when their turn has come.

Everything else is as in a `Loader`: order, seeds, restarts of workers, time-outs.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Self, cast

import numpy as np

from mpqueue.engine.backend import EndOfStream, Stopped
from mpqueue.engine.outcomes import Outcome, Partial, Unreadable
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.skips import is_of_source
from mpqueue.errors import SharedMemoryFull
from mpqueue.loader.engine import Engine
from mpqueue.memory.layout import Array, ReadSpec, Spec, base_over
from mpqueue.memory.slots import Slot, SlotError
from mpqueue.plan.cursors import Place, WorkItem
from mpqueue.service.plan import make_plan
from mpqueue.service.records import PARTIAL
from mpqueue.system import descriptors, interrupts
from mpqueue.telemetry.stats import Statistics
from mpqueue.worker.failures import never_an_end, unreadable
from mpqueue.workers.handle import Work
from mpqueue.workers.memory_pressure import MemoryPressure
from mpqueue.workers.process import ProcessBackend


class BatchHandle(NamedTuple):
    """A batch that lies in a slot.

    Attributes:
        epoch: From 0.
        position: In the order of the epoch, over all consumers.
        turn: Of the slot: a number that is never used again.
        slot: The slot itself.
        spec: How the batch is read, see `mpqueue.memory.layout`.
        header_offset: Where in the slot its header begins.
        nbytes: Where in the slot it ends.
        flags: `PARTIAL` where something was left out: the batch is the first item of what the spec describes.
        is_extra: It was computed again, for a late consumer.
        is_left_out: False: it is there.
        seat: For whom it was computed again, by the number of the seat; 0: for whoever has waited longest for it.
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
    """An error, in the place of a batch.

    Attributes:
        epoch: From 0.
        position: In the order of the epoch; -1: it belongs to no batch.
        error: What the source, or the engine, raised; None: a batch that was to be computed again is left out.
        is_extra, seat: As of a handle.
        turn: 0: there is no slot.
    """

    epoch: int
    position: int
    error: BaseException | None
    is_extra: bool = False
    turn: int = 0
    seat: int = 0

    @property
    def is_left_out(self) -> bool:
        """True if there is nothing to tell."""
        return self.error is None


class PendingHandle(Work):
    """A work item at a worker; once it is reported, a handle that lies in its slot."""

    __slots__ = ()

    def timed(self, *, is_drawn: bool) -> Self:  # noqa: ARG002 - see `Work`
        """Return the same: consumers time their leases themselves."""
        return self

    def open(self) -> Any:
        """Return the handle, whose slot stays as it is; or raise what is there instead.

        Where something was left out: the fields of a `Partial`. An empty one has no slot any more.
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
            # The error goes out in the place of the handle: nobody else would free its slot.
            self.ring.release(slot)
            raise
        if batch.is_empty:
            self.ring.release(slot)
        return batch

    def evict(self) -> Any:
        """Return the same outcome in private memory; the slot is free then."""
        if self.read is None:
            return super().evict()
        stashed = Stashed(self, self._bytes())
        self.ring.release(self.slot)
        return stashed

    def _bytes(self) -> Array:
        return np.frombuffer(self.ring.memory, np.uint8, self.nbytes, self.slot.offset).copy()


class Stashed:
    """A handle that was moved out of the ring.

    Args:
        work: What it was.
        data: Its bytes.

    Attributes:
        is_plain, is_end, is_partial: See `mpqueue.engine.outcomes.Outcome`; it is plain once it is settled.
    """

    is_end = False

    def __init__(self, work: PendingHandle, data: Array) -> None:
        self.is_plain, self.is_partial = False, work.is_partial
        self._work, self._data = work, data
        self._error: SharedMemoryFull | None = None

    def settle(self, make_slot: Callable[[int], Slot | None]) -> bool:
        """Move it into a slot; return False if there is none with so many bytes now."""
        work, ring, nbytes = self._work, self._work.ring, len(self._data)
        try:
            slot = make_slot(nbytes)
        except SharedMemoryFull as error:
            self._error = error
            return True
        if slot is None:
            return False
        ring.memory[slot.offset : slot.offset + nbytes] = self._data.data
        ring.slots.publish(slot, nbytes)
        work.slot = slot
        self.is_plain = not self.is_partial
        return True

    def open(self) -> Any:
        """As of `PendingHandle`.

        Raises:
            SharedMemoryFull: There was no room for it.
        """
        if self._error is not None:
            raise self._error
        return self._work.open()

    def is_own(self, error: BaseException) -> bool:
        """As of `PendingHandle`."""
        return error is self._error or self._work.is_own(error)


def _left_out(read: ReadSpec, data: Array, header_offset: int) -> tuple[list[Any], bool]:
    """Return the entries of what was left out of a batch, and whether nothing is left of it."""
    recipe = read.recipes[data[header_offset:].tobytes()]
    base = base_over(data, 0, header_offset, recipe.structure)
    try:
        _, skipped, is_empty = read.rebuild(recipe, base)
    except Exception as error:
        raise unreadable(error, partial(read.rebuild, recipe, base)) from error
    return skipped, is_empty


MAX_KEPT = 1 << 22  # indices of a sampler, to compute again: 32 MB, or twice that where they are no small integers
_RETRY_S = 0.2  # after an error that is no batch's: the next try would most likely end like the last


class SharedRing(NamedTuple):
    """The memory in which the handles of a stream lie.

    Attributes:
        read_only_fd: A descriptor that can only be read; the stream's.
        nbytes: Bytes of address space.
        stride: Of these, bytes per slot: slot n begins at ``n * stride``.
    """

    read_only_fd: int
    nbytes: int
    stride: int


class Stream:
    """One stream of handles out of one source.

    Args:
        source: As of a `Loader`.
        workers: How many processes.
        max_queue_size: Batches computed ahead, those at work included.
        shuffle: A new order for every epoch (sequences only).
        world: The number of ranks among which the batches are to be split equally: the end is filled up, or dropped.
        place: Where to begin.
        lane_place: Where a stream in lanes begins, to get to ``place``: what lies between, and what is ahead of that,
            is dropped; None: at the beginning of the epoch.
        begun: Where the epoch of an endless stream began; None: at the beginning of the source.
        num_kept: Slots for what holders keep; None: enough for 8 batches of each of 32 consumers, or as many as the
            address space allows.
        options: Those of a `mpqueue.Server` about samples and workers.

    Attributes:
        plan: What it runs.
        is_generator: The source is a generator: nothing of it can be computed again beside its order.
        is_endless: It is one that never ends: an epoch is so many batches in a row, and the next one goes on behind.
        epoch: The one that was opened last.
        has_ended: All its batches were taken.
        count: BatchHandles and failures that it has given of it, and those before the place where it began.
        ring: The memory, from `start` to `stop`.
        places: From which the open epoch of a stream in lanes can be computed again; the first one is its beginning.
        unknown: Positions that cannot be computed again: `take_extra` gives them behind those that can.

    Raises:
        TypeError: The source is no source, or an option has the wrong type.
        ValueError: An option has an impossible value, excludes another one, or means nothing to a server.
    """

    _pipeline: Pipeline  # these are there from `start` on
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
        num_kept: int | None = None,
        **options: Any,
    ) -> None:
        self.plan = make_plan(
            source, workers=workers, max_queue_size=max_queue_size, shuffle=shuffle, world=world, num_kept=num_kept,
            work=PendingHandle, options=options,
        )  # fmt: skip
        self.is_generator = not self.plan.plan.has_index
        self.is_endless = self.plan.plan.ends_by_count
        self._place = _settled(place or Place())
        # Of a stream that goes on: the first position that is missing to anybody, and those behind it that are not.
        self._missing_from, self._given = 0, frozenset[int]()
        if self.is_generator:
            self._missing_from, self._given = self._place.position, frozenset(self._place.ahead)
            self._place = lane_place or Place(self._place.epoch)
        self._goes_on = self._missing_from > 0 or bool(self._given)
        self.places: tuple[Place, ...] = (begun or Place(self._place.epoch), self._place)
        self.epoch, self.has_ended, self.count = self._place.epoch, False, 0
        self.ring: SharedRing | None = None
        self._engine = Engine(ends_epochs=False)
        self._unopened: Exception | None = None
        self._is_wanted = self._is_open = self._has_freed = False
        self._retry_at: float | None = None
        self.unknown: deque[Failure] = deque()

    @property
    def seed(self) -> int:
        """Order and random numbers follow from it."""
        return self.plan.plan.seed

    def length(self) -> int | None:
        """Batches per epoch, over all ranks; None if it has no end, or nobody knows."""
        try:
            return self.plan.plan.length()
        except TypeError:
            return None

    # -- Life

    def start(self) -> None:
        """Start the workers, which begin with the epoch of the place.

        Raises:
            OSError: There are not enough processes, descriptors or memory; nothing is left behind.
            Exception: As of `mpqueue.loader.engine.Engine.start`.
        """
        plan, place = self.plan, self._place
        plan.plan.warn_of_idle(plan.job.workers, plan.backend)
        cursor = plan.cursor(plan.plan.draws())
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
        # No method of ours: what a pipeline holds lives as long as its workers, which end when nobody holds the stream.
        pipeline.settle_by(_settling(pipeline, self._backend.pressure))
        ring = self._backend.pool.ring
        self.ring = SharedRing(descriptors.own(ring.segment.open_read_only()), ring.segment.size, ring.stride)

    def stop(self, timeout: float | None = None) -> None:
        """End the workers, and let go of the ring; idempotent. What others have mapped of it lives on.

        Raises:
            StopTimeout: Some outlived the timeout; it names them.
        """
        if self.ring is not None:
            descriptors.close(self.ring.read_only_fd)
            self.ring = None
        self._engine.stop(timeout)

    @property
    def is_running(self) -> bool:
        """True from `start` to `stop`."""
        return self._engine.is_running

    @property
    def is_full(self) -> bool:
        """True if all that may be computed ahead is there, or waits for room: nothing goes on before some is taken."""
        return self._pipeline.is_full

    def statistics(self) -> Statistics:
        """Return the counters of the engine; after `stop` they stay as they were last."""
        return self._engine.statistics()

    # -- The loop

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something for `advance` to do."""
        return self._pipeline.fileno()

    def timeout_s(self) -> float | None:
        """Return the seconds after which `advance` is to be called at the latest; None: there is no such time."""
        waits = [self._backend.timeout_s()]
        # A worker waits for memory, and some has come free: `advance` is what gives it, and no descriptor tells.
        if self._has_freed and self._backend.has_waiting:
            waits.append(0.0)
        if self._retry_at is not None:
            waits.append(max(0.0, self._retry_at - time.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def advance(self) -> None:
        """Take in what the workers report, and replace those that died; `take` may have something after it."""
        self._has_freed = False
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
        self._pipeline.look()

    # -- Epochs

    def open_epoch(self, epoch: int) -> int | None:
        """Have `take` give the batches of an epoch; one before that has not ended is abandoned.

        Returns: The number of its batches, None if it has no end, or nobody knows.
        """
        self.epoch, self.has_ended, self.count, self._is_wanted = epoch, False, 0, True
        self._unopened = self._open()
        return self._pipeline.length_of(epoch)

    def _open(self) -> Exception | None:
        """Have the pipeline at the beginning of the epoch, or in the middle of it; return why that is not possible."""
        pipeline, epoch = self._pipeline, self.epoch
        self._is_open = False
        try:
            pipeline.finish_epoch()  # again, if the source's hook has failed
            if pipeline.epoch != epoch and self.is_endless:
                self._go_on_with(epoch)
            elif pipeline.epoch != epoch:
                pipeline.forget_wanted()
                pipeline.restart_at(Place(epoch))
            place = pipeline.place()
            self.count = place.position + len(place.ahead)
            if self.is_endless or not self.is_generator:
                # Do not prefetch past the first epoch before a second one is asked for, as a `Loader` does not.
                pipeline.bound_epoch(epoch, goes_on=epoch != self._place.epoch)
                pipeline.hand_out(epoch)
        except Exception as error:
            return error
        self._is_open = True
        if epoch != self.places[0].epoch:
            self.places = (self.lane_place(),)
        return None

    def _go_on_with(self, epoch: int) -> None:
        """Have an epoch begin where an endless stream is: the one before was abandoned."""
        pipeline = self._pipeline
        pipeline.begin_epoch(epoch)
        if pipeline.epoch != epoch:  # after a failure in the middle of its work, which left it where it is
            pipeline.restart_at(pipeline.place()._replace(epoch=epoch, position=0))

    def finish_epoch(self) -> None:
        """Run the source's ``on_epoch_end``, if all of the epoch was taken; what it raises is the next failure."""
        with interrupts.unblock_signals():  # it may start processes
            self._pipeline.finish_epoch()

    # -- BatchHandles

    def take(self, *, is_wanted: bool = True, may_fail: bool = False) -> BatchHandle | Failure | None:
        """Return the next batch: of those that are computed again, or of the open epoch. Never waits.

        Args:
            is_wanted: False: only of those that are computed again.
            may_fail: All who hold handles wait for this one: where there is no memory for it, none will come free.

        Returns: None if it is not ready, or all were taken.
        """
        pipeline = self._pipeline
        # Without a slot that others have, nothing will come free either.
        pipeline.may_fail = may_fail or not self._backend.pool.ring.slots.num_leased
        # Also where nothing of the order is wanted: who is late has room while the windows of the others are full.
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
            pipeline.failed = None
            try:
                # Reports are taken in by `advance`, which is called when there are some: to ask for them here would
                # cost a system call for each batch that is not there.
                taken = pipeline.step(looks=False)
            except EndOfStream:
                if self.is_endless and not self.count:
                    return self._failed(self._empty(), None)
                self.has_ended = True
                return None
            except Stopped:
                return None
            except Exception as error:
                failure = self._failed(error, pipeline.failed)
                if self._goes_on and self._is_given(failure.position):
                    continue
                return failure
            if taken is None:
                return None
            handle: BatchHandle = taken[1]
            if self.is_generator:
                # Its work item says the lane and the element; consumers, and the journal, count over all lanes.
                handle = handle._replace(epoch=self.epoch, position=self.count)
            self.count += 1
            if self._goes_on and self._is_given(handle.position):
                # It was computed for what lies behind it in its lane.
                self.release(handle)
                continue
            return handle

    def _is_given(self, position: int) -> bool:
        """Return whether a batch of a stream that goes on was taken before, from another server."""
        if self.epoch != self._place.epoch or position > max(self._given, default=self._missing_from):
            self._goes_on = False
            return False
        return 0 <= position < self._missing_from or position in self._given

    def lane_place(self) -> Place:
        """Return the place behind what it has given of the open epoch, with the snapshots of its lanes."""
        return self._pipeline.place()._replace(epoch=self.epoch, position=self.count)

    @property
    def begun(self) -> Place | None:
        """The place where the open epoch of an endless stream began; None: the beginning of the source."""
        return self.places[0] if self.places[0].counts else None

    def next_place(self) -> Place | None:
        """Return where the next epoch begins; None: at the beginning of the source."""
        return self._pipeline.place()._replace(epoch=self.epoch + 1, position=0) if self.is_endless else None

    def _take_extra(self) -> BatchHandle | Failure | None:
        """Return the next of the batches that are computed again; None if it is not ready, or there is none."""
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
            is_left_out = self.plan.plan.skips and is_of_source(error)
            return Failure(work_item.epoch, work_item.position, None if is_left_out else error, is_extra=True)
        if not outcome.is_partial:
            return cast("BatchHandle", opened._replace(is_extra=True))
        if opened.is_empty:
            return Failure(work_item.epoch, work_item.position, None, is_extra=True)
        return cast("BatchHandle", opened.batch._replace(is_extra=True))

    def _failed(self, error: BaseException, work_item: WorkItem | None) -> Failure:
        error = never_an_end(error)
        if work_item is None or work_item.position < 0:
            self._retry_at = time.monotonic() + _RETRY_S
            return Failure(self.epoch, -1, error)
        # It counts as a batch: its consumers are told, and go on behind it.
        position = self.count if self.is_generator else work_item.position
        self.count += 1
        return Failure(self.epoch, position, error)

    def _empty(self) -> RuntimeError:
        plan = self.plan.plan
        return RuntimeError(
            f"the stream of {type(plan.source.runs).__name__} has no elements, also when it is begun anew: no epoch of "
            f"{plan.epoch_batches} batches can be made of it"
        )

    def recompute(self, epoch: int, positions: Iterable[int]) -> None:
        """Have batches of the open epoch computed again: `take` gives them as extra ones, in this order.

        Raises:
            ValueError: It is another epoch, or the source is a stream: see `mpqueue.service.replaying`.
            LookupError: There is no such position; or a sampler gave it, and it is not kept any more.
        """
        if self.is_generator:
            raise ValueError("the source is a stream, of which no batch can be asked for by its position")
        if epoch != self.epoch or not self._is_wanted:
            raise ValueError(f"batches of epoch {epoch} cannot be computed again: epoch {self.epoch} is open")
        self._pipeline.want(epoch, positions)

    # -- BatchHandles of another stream

    def copy_of(self, handle: BatchHandle) -> Array:
        """Return a private copy of the bytes of a handle."""
        return np.frombuffer(self._backend.pool.ring.memory, np.uint8, handle.nbytes, handle.slot.offset).copy()

    def enter(self, handle: BatchHandle, data: Array, *, may_fail: bool) -> BatchHandle | Failure | None:
        """Return a handle of another stream as one of this, in a slot of this ring; None: there is no room now.

        Args:
            handle: What it was there.
            data: Its bytes.
            may_fail: As of `take`.
        """
        pipeline, ring = self._pipeline, self._backend.pool.ring
        with pipeline.lock:
            try:
                # As if it were due before all others: who waits for it waits for nothing else.
                slot = self._backend.pressure.make_slot(-1, handle.nbytes, may_fail=may_fail)
            except SharedMemoryFull as error:
                return Failure(handle.epoch, handle.position, error)
            if slot is None:
                return None
            ring.memory[slot.offset : slot.offset + handle.nbytes] = data.data
            ring.slots.publish(slot, handle.nbytes)
        # The turn is that of this ring: consumers release what they were offered by it.
        return handle._replace(turn=slot.turn, slot=slot)

    def forget_entering(self) -> None:
        """Nobody waits for room for another stream's handle any more."""
        if self.ring is not None:
            self._backend.pressure.cancel()

    @property
    def takes_from_queues(self) -> bool:
        """True if the source has used a queue in a worker."""
        return any(worker.uses_queues for worker in self._backend.pool.roster.workers.values())

    def wake(self) -> None:
        """Make `fileno` readable; from any thread, as long as the stream runs."""
        self._backend.wake()

    # -- Who has them

    def share(self, handle: BatchHandle) -> None:
        """Note that others have a handle.

        Raises:
            SlotError: The handle is free, or shared already.
        """
        slot = handle.slot
        if self.ring is not None:
            if slot.turn != handle.turn:  # the slot is another batch's by now: consumers would read that
                raise _gone(handle)
            self._backend.pool.ring.share(slot, handle.header_offset)

    def release(self, handle: BatchHandle) -> None:
        """Note that nobody has a handle any more, shared or not: its slot is free.

        Raises:
            SlotError: It was so before.
        """
        slot = handle.slot
        if self.ring is not None:
            if slot.turn != handle.turn:
                raise _gone(handle)
            self._backend.pool.ring.release(slot)
            # A slot in which the code of its worker still holds an array keeps its turn, and is not free yet.
            self._has_freed = self._has_freed or not slot.turn

    def __repr__(self) -> str:
        state = f"epoch {self.epoch}, {self.count} given" if self.is_running else "stopped"
        return f"<Stream of {type(self.plan.job.source).__name__}, {self.plan.job.workers} workers, {state}>"


def _gone(handle: BatchHandle) -> SlotError:
    return SlotError(f"slot {handle.slot.number} has turn {handle.slot.turn} and not {handle.turn} any more")


def _settled(place: Place) -> Place:
    """Return the same place, with as much before its position as possible."""
    position, ahead = place.position, set(place.ahead)
    while position in ahead:
        ahead.discard(position)
        position += 1
    return place._replace(position=position, ahead=tuple(sorted(ahead)))


def _settling(pipeline: Pipeline, pressure: MemoryPressure) -> Callable[[WorkItem, Outcome], bool]:
    """Return what moves a batch that was moved out of the ring into it again, when its turn has come."""

    def settle(work_item: WorkItem, outcome: Outcome) -> bool:
        if not isinstance(outcome, Stashed):
            return True
        make_slot = partial(pressure.make_slot, work_item.number, may_fail=pipeline.may_fail)
        return outcome.settle(make_slot)

    return settle
