"""The hot path of a pool: which worker gets which work item, and what workers report.

    ledger --deal--> run of work items --grant, with a slot each--> a worker's pipe --report--> ready
                          ^                       |
                          +------ pending <-------+  taken back for an idle worker, or its worker died

*Granting.* A work item goes out together with a slot, so the batch that is due next can never lack one. All credit is
dealt at once, because nobody deals while the consumer computes. That binds work items to workers early, so while the
consumer waits and one worker is idle beside a longer queue, unread grants are *taken back*.

A grant or report to a process that sleeps costs some 5 to 20 µs to wake it. Cheap batches are dealt several in a row
to one worker, a *chunk*, and not before so many can be dealt: 2 to 3 times the rate for the smallest ones. Where many
workers bring a batch every few microseconds, though each takes its time, it is a *lot* that is waited for, which goes
round the workers: to deal work items singly took half of the trainer's time.

*Reuse.* A pool that begins has granted a slot without memory for each batch of its queue. To find, zero and map new
pages takes longer than to write them again, two to five times. So while such grants lie unread in pipes, a large slot
that comes free is exchanged for the one whose turn is next: the grants of its worker are taken back and granted anew,
in their order::

    worker's pipe:  5 -> new slot, 7 -> new slot      the consumer drops a batch, whose slot is free
                    5 -> that slot, 7 -> new slot     after `Reuse.apply`

A worker writes into new memory only when it is so far ahead of the consumer that no slot is free, which is when more
slots help: the ring grows to what the queue needs, and no further.

*Lanes.* The elements of a stream go to the workers that have their lanes (`mpqueue.workers.lane_owners`), each with
where to begin if its worker is not there. While the consumer waits, a lane of which the busiest worker has begun
nothing is given to an idle one, if that pays. Snapshots come back behind batches, and are copied out of the slot at
once.

*Reports.* Nothing that comes out of a worker's pipe is believed blindly: user code may have written to a wrong
descriptor. A report must be of a turn that this worker has been granted, of the slot of that turn, and within its
bounds; else the worker is not trusted any more, and is ended. What is no outcome of a work item and concerns other
parts of the pool is returned as a `Notice`, for the backend to route.
"""

import os
import struct
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from mpqueue.memory.layout import UNNUMBERED, ReadSpec, load_spec
from mpqueue.memory.slots import LARGE_BYTES, SlotError, SlotState
from mpqueue.plan.cursors import WorkItem
from mpqueue.system.callers import outside_stacklevel
from mpqueue.system.interrupts import is_of_handler
from mpqueue.telemetry.recorder import WorkerTally
from mpqueue.transport.records import ProtocolError
from mpqueue.worker.failures import LateSpec, unreadable
from mpqueue.worker.records import (
    GRANT,
    HELD,
    MAGIC,
    NEW_SPEC,
    OF_GROUP,
    OUTCOMES,
    PARTIAL,
    REPORT,
    TAIL,
    UNSHARDED,
    GrantKind,
    ReportKind,
    pack_listed,
    pack_start,
    unpack_tail,
)
from mpqueue.worker.shuffle_detection import Marks
from mpqueue.workers.handle import Cause, LifeError, Work, WorkerHandle
from mpqueue.workers.lane_owners import LaneOwners
from mpqueue.workers.memory_pressure import MemoryPressure
from mpqueue.workers.pool import WorkerPool

Grant = Callable[[WorkerHandle, list[WorkItem]], int]  # returns how many of them there were slots for

# To take a grant back and give it anew costs 3 µs, new memory of this size some 500 µs.
_WORTH_BYTES = LARGE_BYTES
_NEVER = 1 << 30


class Reuse:
    """The exchange of slots of one pool.

    Args:
        pool: Whose.

    Attributes:
        num_exchanged: How often it has taken back grants.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.num_exchanged = 0
        self._pool = pool

    def apply(self, grant: Grant) -> None:
        """Exchange large slots, if there are any; ``grant`` grants work items to a worker."""
        workers = self._pool.roster.workers
        for slot in self._pool.ring.slots.free_large_slots():
            if slot.state is not SlotState.FREE:
                continue  # it went with one before
            # The worker that comes to a slot without memory first; of several the one that has written to this slot,
            # and has its pages mapped.
            places = [(self._distance(worker), number != slot.owner, number) for number, worker in workers.items()]
            distance, _, number = min(places, default=(_NEVER, True, 0))
            if distance == _NEVER:
                return
            self._exchange(workers[number], grant)

    def _distance(self, worker: WorkerHandle) -> int:
        """Return how many grants a worker has before the first one of a slot without memory that it has hardly read."""
        in_flight = worker.in_flight
        # All that it has not read is taken back and granted anew, and that is to cost less than new memory.
        if len(in_flight) * _WORTH_BYTES > self._pool.ring.recent_bytes or not worker.is_stealable:
            return _NEVER
        works = iter(in_flight.values())
        next(works)  # which it is at, most likely
        return next((place for place, work in enumerate(works) if not work.slot.is_large), _NEVER)

    def _exchange(self, worker: WorkerHandle, grant: Grant) -> None:
        work_items = [work.work_item for work in self._pool.take_unread(worker)]
        count = grant(worker, work_items) if work_items else 0
        if count < len(work_items):
            self._pool.put_back(work_items[count:])
        worker.flush()
        self.num_exchanged += bool(work_items)


_CHEAP_NS = 300_000  # of work may go to one worker in a row,
_BUSY_WORKERS, _MOST_BUSY = 16, 4  # and that for each so many workers, which together give more than can be served
_MAX_CHUNK = 50  # and not more than fit into the smallest pipes, which unprivileged users with many get
_STEAL_AFTER_NS = 300_000  # taking back costs about 5 µs: not worth it for work that is nearly done
_STEAL_WAIT_S = 0.001
# A lane is moved for work that its owner will not get to for so long, and for so many times what its new owner has to
# compute again: what lies behind its last snapshot, and what its buffers hold, which a first element took to fill. Then
# none is moved for so long, and for so many times that.
_MOVE_AFTER_NS, _WORTH_MOVING = 100_000_000, 4
_MOVE_PAUSE_NS, _PAUSE_AFTER_MOVE = 1_000_000_000, 10
_MANY_WORKERS, _LOOK_PAUSE_NS = 64, 2_000  # the pause for each worker: a look at it costs a tenth of that
_ORDER_NAME = struct.Struct("<6Q")
_READ_BYTES = REPORT.size * 512

_WORK, _BATCH = GrantKind.WORK, ReportKind.BATCH
_FLAGGED = NEW_SPEC | PARTIAL | TAIL
_clock = time.perf_counter_ns


class Notice(NamedTuple):
    """A report that is no outcome of a work item.

    Attributes:
        kind: `ReportKind.FULL` or `ReportKind.LOADED`.
        turn: Of the slot that it is about.
        work: What there is no memory for; None if a new source was loaded.
        is_of_group: It is the control group that has no memory for it.
    """

    kind: int
    turn: int
    work: Work | None
    is_of_group: bool = False


class Dispatcher:
    """Grants work items and takes in reports.

    Args:
        pool: Whose.
        pressure: Says when nothing new may be dealt.
        tallies: Where is counted what they do, one for each.
        work: The class of a granted work item.

    Attributes:
        chunk: How many work items go to one worker in a row.
        lot: How many are worth a `pump`.
        num_drained: How often a worker has reported anything.
        tallies: As given.
    """

    def __init__(
        self,
        pool: WorkerPool,
        pressure: MemoryPressure,
        tallies: Sequence[WorkerTally],
        work: Callable[..., Work] | None = None,
    ) -> None:
        self.chunk = self.lot = 1
        self.num_drained = 0
        self.tallies = tallies
        self._pool, self._pressure = pool, pressure
        self._work: Callable[..., Work] = work or Work
        self._reuse = Reuse(pool)
        self._owners = pool.owners
        if self._owners is not None:
            if not pool.ledger.is_ordered:
                pool.ledger.owner_of = self._owners.owner
            self._grant = self._grant_lanes  # type: ignore[method-assign]  # nothing more for what has an index
        self._max_chunk = max(1, min(pool.ledger.credit // 2, _MAX_CHUNK))
        self.resize(len(tallies))
        self._item_ns = _CHEAP_NS  # what the latest batches have cost a worker, each
        self._fill_ns = 0  # what the first element of a lane has cost, at most
        self._rotation = -1  # the first work item is for worker 0, which runs first
        # That first items have bound: by name and elements the rows, and whether a worker has kept each.
        self._orders: dict[tuple[str, int], dict[int, bool]] = {}
        self._warned: set[str] = set()
        self._look_at = 0  # not before this time for those that are idle

    def resize(self, num_workers: int) -> None:
        """There are so many workers from now on."""
        credit = self._pool.ledger.credit
        self._num_workers = num_workers
        self._max_lot = max(1, min(credit // 4, credit - 2 * num_workers))

    # -- Granting

    def pump(self) -> None:
        """Deal what credit and slots allow, work items that came back first."""
        self.reuse()
        touched: set[WorkerHandle] = set()
        pressure = self._pressure
        while not (pressure.is_known and pressure.is_high) and (work_items := self._next_work_items()):
            count = self._grant_all(work_items, touched)
            if count < len(work_items):
                # In front, in their order: the next slot that comes free is for what is due first.
                self._pool.pending.extendleft(reversed(work_items[count:]))
                break
        workers = self._pool.roster.workers
        for worker in touched:
            if workers.get(worker.number) is worker:
                worker.flush()

    def reuse(self) -> None:
        """Collect the slots that the consumer has let go of, and have large ones used first."""
        ring = self._pool.ring
        ring.collect()
        if ring.recent_bytes >= _WORTH_BYTES and not self._pressure.is_known:
            self._reuse.apply(self._grant)

    def _next_work_items(self) -> list[WorkItem]:
        pending = self._pool.pending
        if not pending:
            # A lot, which goes round the workers; where memory is short a chunk, behind which `pump` asks again.
            return self._pool.ledger.deal(self.chunk if self._pressure.is_known else self.lot)
        if self._pool.ledger.has_urgent:  # what is asked for beside the order does not wait behind all of it
            self._pool.put_back(self._pool.ledger.deal())
        return [pending.popleft() for _ in range(min(self.chunk, len(pending)))]

    def _grant_all(self, work_items: list[WorkItem], touched: set[WorkerHandle]) -> int:
        """Grant work items, a chunk to each worker; return how many there were workers and slots for."""
        size = 1 if work_items[0].lane >= 0 else self.chunk
        for start in range(0, len(work_items), size):
            chunk = work_items[start : start + size]
            worker = self._choose(chunk[0])
            count = self._grant(worker, chunk) if worker is not None else 0
            if worker is not None and count:
                touched.add(worker)
            if count < len(chunk):
                return start + count
        return len(work_items)

    def _choose(self, work_item: WorkItem) -> WorkerHandle | None:
        """Return the work item's own worker, or the less busy of the next two; None if it has enough, or is gone."""
        workers = self._pool.roster.workers
        if self._owners is not None:
            worker = workers.get(self._owners.owner(work_item.lane))
            return None if worker is None or len(worker.in_flight) >= worker.room else worker
        # Of two, and not of all: a look at thousands of workers for each chunk would cost more than the grants.
        count = self._num_workers
        self._rotation = first = (self._rotation + 1) % count
        one, two = workers.get(first), workers.get((first + 1) % count)
        if one is None or (two is not None and len(two.in_flight) < len(one.in_flight)):
            one = two
        if one is None:
            one = next(iter(workers.values()), None)
        return None if one is None or len(one.in_flight) + self.chunk > one.room else one

    def _grant(self, worker: WorkerHandle, work_items: list[WorkItem]) -> int:
        """Grant a chunk; return how many of it there were slots for."""
        ring, in_flight, number = self._pool.ring, worker.in_flight, worker.number
        grant, pack, make = ring.grant, GRANT.pack, self._work
        if not in_flight:  # it was idle: what it is granted now is at work from now on
            worker.busy_since = _clock()
        records = []
        if work_items[0].listed is not None:
            return self._grant_listed(worker, work_items)
        for work_item in work_items:
            slot = grant(number)
            if slot is None:
                break
            # Entered before it is written: whatever happens from here on, the work item is granted again when this
            # worker is reaped.
            in_flight[slot.turn] = make(work_item, slot, ring)
            records.append(pack(MAGIC, _WORK, slot.number, slot.turn, work_item.unit, work_item.epoch, slot.high_water))
        worker.outbox += b"".join(records)  # one write for all of them, by `flush`: each may have to wake a process
        return len(records)

    def _grant_listed(self, worker: WorkerHandle, work_items: list[WorkItem]) -> int:
        """Grant a chunk whose samples are listed: the lists are written into the slots."""
        ring = self._pool.ring
        for count, work_item in enumerate(work_items):
            assert work_item.listed is not None
            slot, data = ring.grant(worker.number), pack_listed(work_item.listed)
            if slot is None:
                return count
            if not ring.reserve(slot, len(data)):
                ring.slots.release(slot)
                return count
            ring.memory[slot.offset : slot.offset + len(data)] = data
            worker.in_flight[slot.turn] = self._work(work_item, slot, ring)
            worker.outbox += GRANT.pack(
                MAGIC, GrantKind.LISTED, slot.number, slot.turn, work_item.unit, work_item.epoch, slot.high_water
            )
        return len(work_items)

    def _grant_lanes(self, worker: WorkerHandle, work_items: list[WorkItem]) -> int:
        """Grant elements of lanes, each with where to open its lane, if the worker is not there."""
        ring, owners = self._pool.ring, self._owners
        assert owners is not None
        if not worker.in_flight:
            worker.busy_since = _clock()
        for count, work_item in enumerate(work_items):
            slot = ring.grant(worker.number)
            if slot is None:
                return count
            goes_on = owners.goes_on(worker.key, work_item)
            start = None if goes_on else owners.start_for(work_item)
            if start is not None:
                data = pack_start(start)
                if not ring.reserve(slot, len(data)):
                    ring.slots.release(slot)
                    return count
                ring.memory[slot.offset : slot.offset + len(data)] = data
            worker.in_flight[slot.turn] = self._work(work_item, slot, ring)
            if not goes_on:
                # The one before may be alive and have the lane open, behind the place where it goes on.
                holder = owners.holder(work_item.lane)
                if holder is not None and holder != worker.key:
                    self._close_lane(holder, work_item.lane)
                owners.note_granted(worker.key, work_item)
            worker.outbox += GRANT.pack(
                MAGIC, _WORK if start is None else GrantKind.LANE, slot.number, slot.turn, owners.element(work_item),
                work_item.epoch, slot.high_water,
            )  # fmt: skip
        return len(work_items)

    def _close_lane(self, key: int, lane: int) -> None:
        """Have a worker let go of a lane that another one has now, or it keeps its buffers until the next epoch.

        This lies in its pipe before any grant by which the lane may come back.
        """
        for worker in self._pool.roster.workers.values():
            if worker.key == key:
                number = self._pool.ledger.cursor.lane_share.lane(lane)
                worker.outbox += GRANT.pack(MAGIC, GrantKind.CLOSE, 0, 0, number, 0, 0)
                worker.flush()

    def balance(self) -> float | None:
        """Give idle workers what the busiest has not begun; return the seconds until that is worth another try.

        A look through thousands of workers costs as much as dozens of batches, so there is a pause after it.
        """
        if self._owners is not None:
            return self._move_lane(self._owners)
        workers, now = self._pool.roster.workers.values(), _clock()
        if now < self._look_at:
            return (self._look_at - now) / 1e9
        if len(workers) > _MANY_WORKERS:
            self._look_at = now + _LOOK_PAUSE_NS * len(workers)
        num_idle = sum(not worker.in_flight for worker in workers)
        if not num_idle or num_idle == len(workers):
            return None
        victim = _busiest(workers)
        if victim is not None and not victim.is_stealable:
            victim = _busiest(worker for worker in workers if worker.is_stealable)
        if victim is None:
            return None
        if now - victim.busy_since + len(victim.in_flight) * self._item_ns < _STEAL_AFTER_NS:
            return _STEAL_WAIT_S
        # So that it and the idle ones have as many each; what it is at stays with it.
        count = -(-(len(victim.in_flight) - 1) // (num_idle + 1))
        if self._pool.recall(victim, count):
            self.pump()
        return None

    def _move_lane(self, owners: LaneOwners) -> float | None:
        """Give an idle worker a lane of the busiest, if that will not come to it for long; return as `balance` does."""
        if not owners.may_move:
            return None
        workers, now = self._pool.roster.workers.values(), _clock()
        idle = [worker for worker in workers if not worker.in_flight]
        if not idle or len(idle) == len(workers):
            return None
        victim = _busiest(worker for worker in workers if worker.is_stealable)
        if victim is None:
            return None
        worth_ns = now - victim.busy_since + (len(victim.in_flight) - 1) * self._item_ns
        wait_ns = max(self._look_at - now, _MOVE_AFTER_NS - worth_ns)
        if wait_ns > 0:
            return max(_STEAL_WAIT_S, wait_ns / 1e9)
        self._look_at = now + _MOVE_PAUSE_NS
        # All of them: the elements of its other lanes, too, are granted in their order.
        work_items = [work.work_item for work in self._pool.take_unread(victim)]
        victim.flush()
        # A lane of which it has begun an element stays: never do two processes run one.
        begun = {work.work_item.lane for work in victim.in_flight.values()}
        seen: set[int] = set()
        again_s = None
        for work_item in work_items:
            if work_item.lane in begun or work_item.lane in seen:
                continue
            seen.add(work_item.lane)
            distance = owners.distance(work_item)
            if distance is None:
                continue
            cost_ns = distance * self._item_ns + self._fill_ns if work_item.unit else 0
            again_s = _MOVE_PAUSE_NS / 1e9  # no event will tell that it is worth it by then
            if cost_ns * _WORTH_MOVING < worth_ns:
                owners.move(work_item.lane, idle[0].number)
                self._look_at = max(self._look_at, now + cost_ns * _PAUSE_AFTER_MOVE)
                again_s = None  # there will be a report
                break
        self._pool.put_back(work_items)
        self.pump()
        return again_s

    # -- Reports

    def drain(self, worker: WorkerHandle) -> Sequence[Notice] | None:
        """Enter what a worker has reported.

        Returns: What is to be routed, mostly nothing; None if nothing was reported, or it cannot be trusted.
        """
        if worker.pipes.reports < 0:
            return None
        try:
            data = os.read(worker.pipes.reports, _READ_BYTES)
        except BlockingIOError:
            return None
        if not data:  # it has ended, or user code closed the pipe, which comes to the same
            self._pool.roster.silence(worker, Cause.CLOSED)
            return None
        try:
            # Records are written whole, so a read of whole records ends between two, unless a stranger wrote.
            if len(data) % REPORT.size or worker.life.is_starved:
                raise ProtocolError(f"{len(data)} bytes are no reports, or come from a worker that waits for an answer")
            return self._enter(worker, data)
        except (ProtocolError, SlotError, LifeError, KeyError) as error:
            if is_of_handler(error):
                raise
            # Nothing that this worker says can be trusted any more; the launcher will tell of its end.
            self._pool.roster.silence(worker, Cause.UNTRUSTED)
            return None

    def _enter(self, worker: WorkerHandle, data: bytes) -> Sequence[Notice]:
        ring, in_flight, ready, specs = self._pool.ring, worker.in_flight, self._pool.ready, worker.specs
        publish = ring.slots.publish
        notices: Sequence[Notice] = ()
        num_bytes = compute_ns = copy_ns = wait_ns = num_others = 0
        for (
            magic, kind, flags, number, turn, spec, header, nbytes, high_water, compute, copy, wait,
        ) in REPORT.iter_unpack(data):  # fmt: skip
            if magic != MAGIC:
                raise ProtocolError("a report without its magic number")
            if kind != _BATCH and kind not in OUTCOMES:
                num_others += 1
                if kind == ReportKind.TIMES:
                    self._enter_times(worker, turn, header, (compute, copy, wait, nbytes, high_water), spec, number)
                    continue
                if kind == ReportKind.MARK:
                    # A turn that it was not granted is a KeyError, as below.
                    worker.mark = (in_flight[turn].slot.turn, (header, nbytes, high_water)) if flags else None
                    continue
                if kind == ReportKind.ORDER:
                    self._enter_order(
                        Marks(turn, spec, bool(flags)),
                        _ORDER_NAME.pack(header, nbytes, high_water, compute, copy, wait),
                    )
                    continue
                notices = self._enter_notice(worker, kind, number, turn, high_water, flags, notices)
                continue
            work = in_flight[turn]  # a turn that it was not granted, or has reported, is a KeyError: see `drain`
            slot = work.slot
            # The bounds are checked here, so that no view of the consumer ever reaches into another slot.
            if slot.number != number or not header <= nbytes <= high_water:
                raise ProtocolError(f"a batch of {nbytes} bytes in slot {number}, which has {high_water}")
            # Before all other changes: it raises where the slot was not granted, or has not so many bytes.
            publish(slot, high_water, flags & HELD)
            work.header_offset, work.nbytes = header, nbytes
            if kind != _BATCH:
                work.is_plain, work.read = False, None
                work.is_end = kind == ReportKind.END
                worker.has_ended = worker.has_ended or work.is_end
                if flags & TAIL:
                    self._enter_tail(worker, work)
                if flags & UNSHARDED and worker.process is not None and not worker.uses_queues:
                    self._pool.ledger.unsharded.add(work.work_item.lane)  # else a queue has divided the elements
            elif flags & _FLAGGED:
                self._enter_flagged(worker, spec, work, flags)
                if flags & NEW_SPEC and not work.work_item.unit:
                    self._fill_ns = max(self._fill_ns, compute)
            else:
                work.read = specs[spec]  # one that it has not sent is a KeyError, too
            num_bytes += header
            compute_ns += compute
            copy_ns += copy
            wait_ns += wait
            if work.is_end or work.cancelled:  # nobody will open it, and so nobody would release its slot
                ring.release(slot)
            if not work.cancelled:
                ready[work.work_item.number] = work
            # Last: an interrupt may strike between any two lines, and what is still in here counts as not reported, and
            # is computed again.
            del in_flight[turn]
        # The worker's own thread says nothing behind FULL before it has its answer; another one may have used a queue.
        if (
            notices
            and kind not in (ReportKind.FULL, ReportKind.QUEUES)
            and any(notice.kind == ReportKind.FULL for notice in notices)
        ):
            raise ProtocolError("reports of a worker that waits for an answer")
        count = len(data) // REPORT.size - num_others
        self.tallies[worker.number].add(count, num_bytes, compute_ns, copy_ns, wait_ns)
        self.num_drained += 1
        worker.busy_since = _clock()
        if count:
            self._note_cost((compute_ns + copy_ns) // count)
        return notices

    def _enter_times(
        self, worker: WorkerHandle, turn: int, began_ns: int, stages_ns: tuple[int, int, int, int, int], blocked: int,
        beside_us: int,
    ) -> None:  # fmt: skip
        """Enter the times of a batch whose outcome comes next, and have the lease of it timed, too."""
        work = worker.in_flight[turn]  # a KeyError for a turn that this worker was not granted
        tally = self.tallies[worker.number]
        tally.time(*stages_ns, beside_ns=1000 * beside_us)
        if blocked:
            tally.blocked.add(1000 * (blocked - 1))
            tally.blocked_beside_ns += 1000 * min(beside_us, blocked - 1)
        timeline, work_item, is_drawn = self._pool.ring.recorder.timeline, work.work_item, False
        if timeline is not None and (worker.process is None or not worker.process.machine):  # one clock
            place = work_item.number, work_item.epoch, work_item.unit
            is_drawn = timeline.batch(worker.number, place, began_ns, stages_ns)
        worker.in_flight[turn] = work.timed(is_drawn=is_drawn)  # its outcome comes next, in this read or a later one

    def _enter_flagged(self, worker: WorkerHandle, spec: int, work: Work, flags: int) -> None:
        """Enter a batch whose spec is new, of which something was left out, or that has a tail behind it."""
        if flags & TAIL:
            self._enter_tail(worker, work)
        work.is_partial = flags & PARTIAL != 0
        work.is_plain = not work.is_partial
        if flags & NEW_SPEC:
            self._learn_spec(worker, spec, work)
        else:
            work.read = worker.specs[spec]

    def _enter_tail(self, worker: WorkerHandle, work: Work) -> None:
        """Copy a tail out of the slot: from here on the batch ends before it."""
        work_item, start = work.work_item, work.slot.offset
        tail = unpack_tail(self._pool.ring.memory, start + work.header_offset, start + work.nbytes)
        work.nbytes -= tail.nbytes
        recorder = self._pool.ring.recorder
        if work_item.lane < 0:  # of a batch that was timed: its times came just before
            if tail.state is not None:
                raise ProtocolError("the snapshot of no lane")
            recorder.add_stages(tail.rows, self.tallies[worker.number].weight)
            return
        recorder.add_stages(tail.rows)
        if tail.state is not None and not work.cancelled:  # else it may be of another epoch, or of a source as it was
            self._pool.ledger.lanes.note(work_item.lane, work_item.unit + 1, tail.state)

    def _note_cost(self, item_ns: int) -> None:
        self._item_ns += (item_ns - self._item_ns) >> 4
        item_ns = self._item_ns + 1
        row_ns = _CHEAP_NS * min(self._num_workers // _BUSY_WORKERS or 1, _MOST_BUSY)
        self.chunk = min(self._max_chunk, max(1, row_ns // item_ns))
        self.lot = max(self.chunk, min(self._max_lot, _CHEAP_NS * self._num_workers // item_ns))

    def _enter_notice(
        self, worker: WorkerHandle, kind: int, number: int, turn: int, high_water: int, flags: int,
        notices: Sequence[Notice],
    ) -> Sequence[Notice]:  # fmt: skip
        """Enter a report that is no outcome of a work item; return the notices with it, if it is to be routed."""
        ring = self._pool.ring
        if kind == ReportKind.FULL:
            work = worker.in_flight[turn]
            work.slot.high_water = max(work.slot.high_water, min(high_water, ring.stride))
            notice = Notice(kind, turn, work, bool(flags & OF_GROUP))
            return (*notices, notice) if worker.life.starve() else notices
        if kind == ReportKind.LOADED:
            if turn not in worker.loading:
                raise ProtocolError("a source was loaded that was not sent")
            return (*notices, Notice(kind, turn, None))
        if kind == ReportKind.QUEUES:
            worker.has_used_queues = True
            return notices
        slots = ring.slots
        if kind != ReportKind.LET_GO or number >= slots.num_slots or slots.slots[number].owner != worker.number:
            raise ProtocolError(f"a report of kind {kind}, or of slot {number}, which worker {worker.number} never had")
        slots.let_go(number)
        return notices

    def _enter_order(self, marks: Marks, name: bytes) -> None:
        """Enter an order that the first item of a worker has bound; warn if another worker has another one."""
        shown = name.rstrip(b"\0").decode(errors="replace")
        rows = self._orders.setdefault((shown, marks.elements), {})  # of other elements: it differs by item
        rows[marks.row] = marks.is_kept or rows.get(marks.row, False)
        if len(rows) < 2 or not any(rows.values()) or shown in self._warned:
            return
        self._warned.add(shown)
        warnings.warn(
            f"{shown} was bound by the first item of each worker process, and is another order in each, so that some "
            f"items come twice and others not at all: draw it in {shown.partition('.')[0]}.__init__ and in "
            "on_epoch_end, which run in this process",
            UserWarning,
            stacklevel=outside_stacklevel(),
        )

    def _learn_spec(self, worker: WorkerHandle, number: int, work: Work) -> None:
        """Read the spec that lies in the slot of its first batch; the batch's own header follows its place."""
        memory, start, header = self._pool.ring.memory, work.slot.offset, work.header_offset
        if work.nbytes - header < 16:
            raise ProtocolError("a batch without the place of its spec")
        at, length = (int(word) for word in np.frombuffer(memory, "<i8", 2, start + header))
        if not 0 <= at <= at + length <= header:
            raise ProtocolError("a spec outside of its batch")
        load = partial(load_spec, memory[start + at : start + at + length])
        try:
            work.read = ReadSpec(load())
        except Exception as error:
            unreadable(error, load)
            if not isinstance(error, (ImportError, AttributeError)):  # what unpickling raises of anything else
                raise ProtocolError("a spec that is none") from error
            work.read = LateSpec(load)  # of a class that only the worker can import
        work.header_offset += 16
        if number != UNNUMBERED:
            worker.specs[number] = work.read


def _busiest(workers: Iterable[WorkerHandle]) -> WorkerHandle | None:
    return max(workers, key=lambda worker: len(worker.in_flight), default=None)
