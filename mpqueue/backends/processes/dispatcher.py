"""The hot path of a pool: assigns work items to workers, and processes their reports.

    ledger --deal--> run of work items --grant, with a slot each--> a worker's pipe --report--> ready
                          ^                       |
                          +------ pending <-------+  taken back for an idle worker, or after a crash

*Grants.* A work item is sent together with a slot of the ring, so the batch that is due next never lacks one. All
credit is granted at once, because the trainer's thread cannot grant while it trains. If one worker is idle and
another has a long queue while the consumer waits, unread grants are *taken back*.

*Chunks and lots.* A *chunk* is a run of work items for one worker. A *lot* is the number of work items for which
granting is worthwhile; it is spread over the workers.

*Reuse.* A large slot that becomes free replaces an unused slot without memory and with an unread grant, see
`Reuse`. So the ring grows only to the size that the queue needs.

*Lanes.* `mpqueue.backends.processes.lane_dispatcher` grants the elements of a stream. Snapshots arrive after batches
and are copied out of the slot at once.

*Reports.* Reports are validated, because user code may write to the wrong file descriptor. A report must name a turn
granted to this worker and its slot, and stay within the bounds of the slot. Otherwise the worker is killed, and its
work items are granted again.

*Crash.* Everything in `WorkerHandle.in_flight` is granted again when the worker is reaped. An item leaves it as the
last step of processing its report.
"""

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from mpqueue.backends.processes import incidents
from mpqueue.backends.processes.handle import Cause, Work, WorkerHandle
from mpqueue.backends.processes.notices import Notice, Notices
from mpqueue.backends.processes.pool import WorkerPool
from mpqueue.backends.processes.ring_memory.memory_pressure import MemoryPressure
from mpqueue.backends.processes.ring_memory.slot_reuse import Reuse
from mpqueue.memory.layout import WITHOUT_ID, ReadSpec, load_spec
from mpqueue.memory.slots import SlotError
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.system.signals.exceptions import matches
from mpqueue.telemetry.worker_stats import WorkerTally
from mpqueue.transport.records import ProtocolError
from mpqueue.worker import failures
from mpqueue.worker.failures import LateSpec, unreadable
from mpqueue.worker.records import (
    GRANT,
    HELD,
    HUNG,
    MAGIC,
    NEW_SPEC,
    OUTCOMES,
    PARTIAL,
    REPORT,
    TAIL,
    UNSHARDED,
    GrantKind,
    ReportKind,
    pack_listed,
    unpack_tail,
)

# Work of up to this duration may go to one worker in a row: waking a sleeping process for a grant or a report costs
# some 5 to 20 µs. Chunks double or triple the rate of the smallest batches.
_CHEAP_NS = 300_000
# Many workers together can report more than the trainer can process, so chunks grow with their number. To grant work
# items one by one took half of the trainer's time.
_BUSY_WORKERS, _MOST_BUSY = 16, 4
_MAX_CHUNK = 50  # fits into the smallest pipes, which unprivileged users with many pipes get
_STEAL_AFTER_NS = 300_000  # taking back costs about 5 µs, too much for work that is nearly done
STEAL_WAIT_S = 0.001
_MANY_WORKERS, _LOOK_PAUSE_NS = 64, 2_000  # pause per worker: examining one costs a tenth of it
_READ_BYTES = REPORT.size * 512

_WORK, _BATCH = GrantKind.WORK, ReportKind.BATCH
_FLAGGED = NEW_SPEC | PARTIAL | TAIL
_clock = time.perf_counter_ns


class Dispatcher:
    """Grants work items, and processes reports.

    Args:
        pool: The pool.
        pressure: Reports when to grant no new work items; gets the workers that lack memory.

    Attributes:
        chunk: Number of work items for one worker in a row.
        lot: Number of work items that make a `pump` worthwhile.
        num_drained: Number of times that a worker has reported anything.
        tallies: Counters, one per worker.
        may_retry: Counts a batch with a sample that took too long; returns whether to compute it again.
    """

    def __init__(self, pool: WorkerPool, pressure: MemoryPressure) -> None:
        self.chunk = self.lot = 1
        self.num_drained = 0
        self.tallies = [WorkerTally() for _ in range(pool.job.workers)]
        self._pool, self._pressure = pool, pressure
        self._work: Callable[..., Work] = pool.job.ring.work or Work
        self._reuse = Reuse(pool)
        self._max_chunk = max(1, min(pool.ledger.credit // 2, _MAX_CHUNK))
        self.resize(pool.job.workers)
        self._item_ns = _CHEAP_NS  # recent average per batch
        self._fill_ns = 0  # maximum for the first element of a lane
        self._rotation = -1  # the first work item is for worker 0, which runs first
        self._notices = Notices(pool, pressure)
        self.may_retry: Callable[[WorkItem], bool] = lambda _: False
        self._look_at = 0  # earliest time of the next look for idle workers

    def resize(self, num_workers: int) -> None:
        """Set the number of workers."""
        credit = self._pool.ledger.credit
        self._num_workers = num_workers
        self._max_lot = max(1, min(credit // 4, credit - 2 * num_workers))

    # -- Granting

    def pump(self) -> None:
        """Grant as many work items as credit and slots allow, beginning with returned ones."""
        self.reuse()
        touched: set[WorkerHandle] = set()
        pressure, ledger, pending = self._pressure, self._pool.ledger, self._pool.pending
        while not (pressure.is_known and pressure.is_high) and (work_items := self._next_work_items()):
            count = self._grant_all(work_items, touched)
            if count < len(work_items):
                # At the front, in order: the next free slot belongs to the item that is due first.
                pending.extendleft(reversed(work_items[count:]))
                break
            # Most passes use up the credit at once. A second pass would only find that no credit is left, in two calls.
            if len(ledger.work_items) >= ledger.credit and not pending:
                break
        workers = self._pool.roster.workers
        for worker in touched:
            # A worker that was replaced since has no pipe to write to.
            if workers.get(worker.index) is worker:
                worker.flush()

    def reuse(self) -> None:
        """Collect the slots that the consumer has released, and use large ones first."""
        ring = self._pool.ring
        ring.collect()
        # Under memory pressure, free slots return their memory instead.
        if ring.recent_bytes >= self._reuse.worth_bytes and not self._pressure.is_known:
            self._reuse.apply()

    def _next_work_items(self) -> list[WorkItem]:
        pending = self._pool.pending
        if not pending:
            # Normally a lot, spread over the workers. Under memory pressure a chunk, after which `pump` checks again.
            return self._pool.ledger.deal(self.chunk if self._pressure.is_known else self.lot)

        return [pending.popleft() for _ in range(min(self.chunk, len(pending)))]

    def _grant_all(self, work_items: list[WorkItem], touched: set[WorkerHandle]) -> int:
        """Grant work items, a chunk to each worker; return the number that got a worker and a slot."""
        size = self.chunk
        for start in range(0, len(work_items), size):
            chunk = work_items[start : start + size]
            worker = self._choose()
            count = self._grant(worker, chunk) if worker is not None else 0
            if worker is not None and count:
                touched.add(worker)
            if count < len(chunk):
                return start + count
        return len(work_items)

    def _choose(self) -> WorkerHandle | None:
        """Return the less busy of the next two workers; None if that is full or has exited."""
        workers = self._pool.roster.workers
        # Of two, not of all: examining thousands of workers for each chunk would cost more than the grants.
        count = self._num_workers
        self._rotation = first = (self._rotation + 1) % count
        one, two = workers.get(first), workers.get((first + 1) % count)
        if one is None or (two is not None and len(two.in_flight) < len(one.in_flight)):
            one = two
        # Both have exited: any other worker will do.
        if one is None:
            one = next(iter(workers.values()), None)
        return None if one is None or len(one.in_flight) + self.chunk > one.room else one

    def _grant(self, worker: WorkerHandle, work_items: list[WorkItem]) -> int:
        """Grant a chunk; return the number of work items that got a slot."""
        ring, in_flight, worker_index = self._pool.ring, worker.in_flight, worker.index
        grant, pack, make = ring.grant, GRANT.pack, self._work
        if not in_flight:  # it was idle, and starts this grant now
            worker.busy_since = _clock()
        records = []
        # If samples are excluded, only some of the work items have a list.
        if work_items[0].listed is not None or self._pool.ledger.cursor.edit is not None:
            return self._grant_listed(worker, work_items)
        for work_item in work_items:
            slot = grant(worker_index)
            if slot is None:
                break
            # Registered before it is written: if the worker crashes at any later point, the item is granted again when
            # the worker is reaped.
            in_flight[slot.turn] = make(work_item, slot, ring)
            records.append(
                pack(MAGIC, _WORK, slot.index, slot.turn, work_item.source_index, work_item.epoch, slot.high_water)
            )
        worker.outbox += b"".join(records)  # `flush` writes all at once: each write may have to wake a process
        return len(records)

    def _grant_listed(self, worker: WorkerHandle, work_items: list[WorkItem]) -> int:
        """Grant a chunk with listed samples; the lists are written into the slots."""
        ring = self._pool.ring
        for count, work_item in enumerate(work_items):
            slot, listed = ring.grant(worker.index), work_item.listed
            if slot is None:
                return count
            kind, data = (_WORK, b"") if listed is None else (GrantKind.LISTED, pack_listed(listed))
            # No memory for the list: the slot goes back, or it would be lost to the ring.
            if not ring.reserve(slot, len(data)):
                ring.slots.release(slot)
                return count
            ring.memory[slot.offset : slot.offset + len(data)] = data
            worker.in_flight[slot.turn] = self._work(work_item, slot, ring)
            worker.outbox += GRANT.pack(
                MAGIC, kind, slot.index, slot.turn, work_item.source_index, work_item.epoch, slot.high_water
            )
        return len(work_items)

    def balance(self) -> float | None:
        """Move unread work from the busiest worker to idle ones; return the seconds until the next try is worthwhile.

        Examining thousands of workers takes the time of dozens of batches, so a pause follows.
        """
        workers, now = self._pool.roster.workers.values(), _clock()
        if now < self._look_at:
            return (self._look_at - now) / 1e9
        if len(workers) > _MANY_WORKERS:
            self._look_at = now + _LOOK_PAUSE_NS * len(workers)
        num_idle = sum(not worker.in_flight for worker in workers)
        if not num_idle or num_idle == len(workers):
            return None
        victim = busiest(workers)
        if victim is None:
            return None
        if now - victim.busy_since + len(victim.in_flight) * self._item_ns < _STEAL_AFTER_NS:
            return STEAL_WAIT_S
        # Equal shares for it and the idle workers. Its present item remains with it.
        count = -(-(len(victim.in_flight) - 1) // (num_idle + 1))
        if self._pool.recall(victim, count):
            self.pump()
        return None

    # -- Reports

    def drain(self, worker: WorkerHandle) -> bool:
        """Process the reports of a worker; return False if there is no report, or an invalid one."""
        if worker.pipes.reports < 0:
            return False
        try:
            data = os.read(worker.pipes.reports, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:  # the worker has exited, or user code closed the pipe: it can serve no longer either way
            self._pool.roster.silence(worker, Cause.CLOSED)
            return False
        try:
            # Records are written in one piece, so a read ends between two of them, unless other code wrote to the pipe.
            if len(data) % REPORT.size:
                raise ProtocolError(f"expected reports of {REPORT.size} bytes, got {len(data)} bytes")
            if worker.life.is_starved:
                raise ProtocolError("expected no reports from a worker that waits for an answer")
            self._enter(worker, data)
        except (ProtocolError, SlotError, KeyError):
            # The worker cannot be trusted after that; the launcher will report its exit.
            self._pool.roster.silence(worker, Cause.UNTRUSTED)
            return False
        return True

    def _enter(self, worker: WorkerHandle, data: bytes) -> None:
        # Bound to local names, because the loop below runs for every batch.
        ring, in_flight, ready, specs = self._pool.ring, worker.in_flight, self._pool.ready, worker.specs
        publish = ring.slots.publish
        num_bytes = compute_ns = copy_ns = wait_ns = num_others = 0
        for report in REPORT.iter_unpack(data):
            magic, kind, flags, slot_index, turn, spec, header, nbytes, high_water, compute, copy, wait = report
            if magic != MAGIC:
                raise ProtocolError("expected a report with its magic number")
            if kind != _BATCH and kind not in OUTCOMES:
                num_others += 1
                if kind == ReportKind.TIMES:
                    self._enter_times(worker, turn, header, (compute, copy, wait, nbytes, high_water), spec, slot_index)
                    continue
                words = header, nbytes, high_water, compute, copy, wait
                self._notices.enter(worker, Notice(kind, flags, slot_index, turn, spec, words))
                continue
            # A turn that was not granted, or was reported already, raises `KeyError`: see `drain`
            work = in_flight[turn]
            slot = work.slot
            # Checked here, so that no view of the consumer ever reaches into another slot.
            if slot.index != slot_index or not header <= nbytes <= high_water:
                raise ProtocolError(f"expected at most {high_water} bytes in slot {slot_index}, got {nbytes}")
            # Before all other changes: it raises if the slot was not granted, or is smaller.
            publish(slot, high_water, flags & HELD)
            work.header_offset, work.nbytes = header, nbytes
            if flags & HUNG and self._retries(worker, work):
                del in_flight[turn]
                num_others += 1
                continue
            if kind != _BATCH:
                work.is_plain, work.read = False, None
                work.is_end = kind == ReportKind.END
                worker.has_ended = worker.has_ended or work.is_end
                if flags & TAIL:
                    work.skipped = self._enter_tail(worker, work)
                    work.is_partial = work.is_end and bool(work.skipped)
                if flags & UNSHARDED and worker.process is not None and not worker.uses_queues:
                    self._pool.ledger.unsharded.add(work.work_item.lane)  # otherwise a queue has divided the elements
            elif flags & _FLAGGED:
                self._enter_flagged(worker, spec, work, flags)
                if flags & NEW_SPEC and not work.work_item.source_index:
                    self._fill_ns = max(self._fill_ns, compute)
            else:
                work.read = specs[spec]  # an unknown spec raises `KeyError`, too
            num_bytes += header
            compute_ns += compute
            copy_ns += copy
            wait_ns += wait
            if work.is_end or work.cancelled:  # it will never be opened, so its slot would never be released
                ring.release(slot)
            if not work.cancelled:
                ready[work.work_item.work_id] = work
            # Last: an interrupt may strike between any two lines. Whatever is still registered counts as not reported,
            # and is computed again.
            del in_flight[turn]
        # The worker's own thread does not write after FULL until it gets an answer. Another of its threads may report
        # the use of a queue.
        if num_others and worker.life.is_starved and kind != ReportKind.FULL:
            raise ProtocolError("expected no reports from a worker that waits for an answer")
        count = len(data) // REPORT.size - num_others
        tally = self.tallies[worker.index]
        tally.batches += count
        tally.num_bytes += num_bytes
        tally.compute_ns += compute_ns
        tally.copy_ns += copy_ns
        tally.wait_ns += wait_ns
        self.num_drained += 1
        worker.busy_since = _clock()
        if count:
            self._note_cost((compute_ns + copy_ns) // count)

    def _retries(self, worker: WorkerHandle, work: Work) -> bool:
        """Request a batch again after a sample took too long; return False if that was done often enough."""
        if work.cancelled or not self.may_retry(work.work_item):
            return False
        slot, start = work.slot, work.slot.offset
        error = failures.unpack(self._pool.ring.memory[start + work.header_offset : start + work.nbytes])
        incidents.report_hang(worker.index, error)
        self._pool.ring.release(slot)
        self._pool.put_back([work.work_item], is_retry=True)
        return True

    def _enter_times(
        self, worker: WorkerHandle, turn: int, began_ns: int, stages_ns: tuple[int, int, int, int, int], blocked: int,
        beside_us: int,
    ) -> None:  # fmt: skip
        """Record the times of a batch before its outcome, and have its lease timed, too."""
        work = worker.in_flight[turn]  # raises `KeyError` for a turn that was not granted
        tally = self.tallies[worker.index]
        tally.time(*stages_ns, beside_ns=1000 * beside_us)
        if blocked:
            tally.blocked.add(1000 * (blocked - 1))
            tally.blocked_beside_ns += 1000 * min(beside_us, blocked - 1)
        timeline, work_item, is_drawn = self._pool.ring.recorder.timeline, work.work_item, False
        # Only workers of this machine share the clock.
        if timeline is not None and (worker.process is None or not worker.process.machine):
            position = work_item.work_id, work_item.epoch, work_item.source_index
            is_drawn = timeline.batch(worker.index, position, began_ns, stages_ns)
        work.time(is_drawn=is_drawn)  # the outcome follows, in this read or a later one

    def _enter_flagged(self, worker: WorkerHandle, spec: int, work: Work, flags: int) -> None:
        """Process a batch with a new spec, without some of its samples, or with a tail."""
        if flags & TAIL:
            self._enter_tail(worker, work)
        work.is_partial = flags & PARTIAL != 0
        work.is_plain = not work.is_partial
        if flags & NEW_SPEC:
            self._learn_spec(worker, spec, work)
        else:
            work.read = worker.specs[spec]

    def _enter_tail(self, worker: WorkerHandle, work: Work) -> list[tuple[Any, ...]]:
        """Copy a tail out of the slot, and return its skipped samples; the batch ends before it."""
        work_item, start = work.work_item, work.slot.offset
        tail = unpack_tail(self._pool.ring.memory, start + work.header_offset, start + work.nbytes)
        work.nbytes -= tail.nbytes
        recorder = self._pool.ring.recorder
        if tail.parts and not work.cancelled:
            self._pool.ledger.counts.parts.note(work_item, tail.parts)
        if work_item.lane < 0:  # with rows, the tail of a timed batch: its times arrived just before
            if tail.state is not None:
                raise ProtocolError("expected a snapshot only for a lane")
            if tail.rows:
                recorder.add_stages(tail.rows, self.tallies[worker.index].weight)
            return tail.skipped
        if tail.rows:
            recorder.add_stages(tail.rows)
        # The snapshot of cancelled work may belong to another epoch or to an earlier source.
        if tail.state is not None and not work.cancelled:
            self._pool.ledger.lanes.note(work_item.lane, work_item.source_index + 1, tail.state)
        return tail.skipped

    def _note_cost(self, item_ns: int) -> None:
        # A moving average: one slow batch must not end the use of chunks.
        self._item_ns += (item_ns - self._item_ns) >> 4
        item_ns = self._item_ns + 1
        row_ns = _CHEAP_NS * min(self._num_workers // _BUSY_WORKERS or 1, _MOST_BUSY)
        self.chunk = min(self._max_chunk, max(1, row_ns // item_ns))
        self.lot = max(self.chunk, min(self._max_lot, _CHEAP_NS * self._num_workers // item_ns))

    def _learn_spec(self, worker: WorkerHandle, spec_id: int, work: Work) -> None:
        """Read the spec from the slot of its first batch; the batch's own header follows its position."""
        memory, start, header = self._pool.ring.memory, work.slot.offset, work.header_offset
        if work.nbytes - header < 16:
            raise ProtocolError("expected a pointer to a spec in its first batch")
        at, length = (int(word) for word in np.frombuffer(memory, "<i8", 2, start + header))
        # User code can write to the slot. The spec is unpickled, so it must be where the worker put it.
        if not 0 <= at <= at + length <= header:
            raise ProtocolError("expected a spec within its batch")
        load = partial(load_spec, memory[start + at : start + at + length])
        try:
            work.read = ReadSpec(load())
        except BaseException as error:
            unreadable(error)
            # Unpickling raises these for a missing class; anything else means corrupt data.
            if not matches(error, ImportError, AttributeError):
                raise ProtocolError("expected a valid spec") from error
            work.read = LateSpec(load)  # its class can only be imported in the worker
        work.header_offset += 16
        if spec_id != WITHOUT_ID:
            worker.specs[spec_id] = work.read


def busiest(workers: Iterable[WorkerHandle]) -> WorkerHandle | None:
    """Return the worker with the longest queue that can be taken back; None if there is no such worker."""
    stealable = (worker for worker in workers if worker.is_stealable)
    return max(stealable, key=lambda worker: len(worker.in_flight), default=None)
