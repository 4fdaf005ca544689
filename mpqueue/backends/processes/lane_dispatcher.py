"""Grants the elements of a stream, each to the worker that owns its lane.

A grant includes a start position if that worker is elsewhere in the lane, see `mpqueue.backends.processes.lane_owners`.
While the consumer waits, a lane moves from the busiest worker to an idle one, if the wait exceeds the cost of the move.
"""

import time

from mpqueue.backends.processes.dispatcher import STEAL_WAIT_S, Dispatcher, busiest
from mpqueue.backends.processes.handle import WorkerHandle
from mpqueue.backends.processes.lane_owners import LaneOwners
from mpqueue.backends.processes.pool import WorkerPool
from mpqueue.backends.processes.ring_memory.memory_pressure import MemoryPressure
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.worker.records import GRANT, MAGIC, GrantKind, pack_start

# A lane moves if its owner will not reach the work for this time, and for this multiple of the work that the new owner
# has to repeat: the elements after the last snapshot, and the contents of buffers, estimated by the time of a first
# element. Then no lane moves for this pause, and for this multiple of that cost.
_MOVE_AFTER_NS, _WORTH_MOVING = 100_000_000, 4
_MOVE_PAUSE_NS, _PAUSE_AFTER_MOVE = 1_000_000_000, 10

_clock = time.perf_counter_ns


class LaneDispatcher(Dispatcher):
    """The dispatcher of a stream.

    Args:
        pool, pressure: See `Dispatcher`.
        owners: The owners of its lanes.
    """

    def __init__(self, pool: WorkerPool, pressure: MemoryPressure, owners: LaneOwners) -> None:
        super().__init__(pool, pressure)
        self._owners = owners
        if not pool.ledger.is_ordered:
            pool.ledger.owner_of = owners.owner

    def _grant_all(self, work_items: list[WorkItem], touched: set[WorkerHandle]) -> int:
        """Grant elements one by one, because neighbours belong to different workers."""
        workers = self._pool.roster.workers
        for count, work_item in enumerate(work_items):
            worker = workers.get(self._owners.owner(work_item.lane))
            if worker is None or len(worker.in_flight) >= worker.room or not self._grant(worker, [work_item]):
                return count
            touched.add(worker)
        return len(work_items)

    def _grant(self, worker: WorkerHandle, work_items: list[WorkItem]) -> int:
        """Grant elements of lanes, each with a start position if the worker is not at it."""
        ring, owners = self._pool.ring, self._owners
        if not worker.in_flight:
            worker.busy_since = _clock()
        for count, work_item in enumerate(work_items):
            slot = ring.grant(worker.index)
            if slot is None:
                return count
            goes_on = owners.goes_on(worker.key, work_item)
            start = None if goes_on else owners.start_for(work_item)
            if start is not None:
                data = pack_start(start)
                if not ring.reserve(slot, len(data)):
                    ring.slots.release(slot)
                    # The start travels in the slot, because a record in the pipe has a fixed size.
                    return count
                ring.memory[slot.offset : slot.offset + len(data)] = data
            worker.in_flight[slot.turn] = self._work(work_item, slot, ring)
            if not goes_on:
                # The previous owner may still run and have the lane open.
                holder = owners.holder(work_item.lane)
                if holder is not None and holder != worker.key:
                    self._close_lane(holder, work_item.lane)
                owners.note_granted(worker.key, work_item)
            kind = GrantKind.WORK if start is None else GrantKind.LANE
            worker.outbox += GRANT.pack(
                MAGIC, kind, slot.index, slot.turn, owners.element(work_item), work_item.epoch, slot.high_water
            )
        return len(work_items)

    def _close_lane(self, key: int, lane: int) -> None:
        """Send a worker the order to close a lane that has moved; it would keep the buffers until the next epoch.

        The message precedes any grant with which the lane may return.
        """
        for worker in self._pool.roster.workers.values():
            if worker.key == key:
                index = self._pool.ledger.cursor.lane_share.lane(lane)
                worker.outbox += GRANT.pack(MAGIC, GrantKind.CLOSE, 0, 0, index, 0, 0)
                worker.flush()

    def balance(self) -> float | None:
        """Give an idle worker a lane that the busiest one will not reach for long.

        Returns: The seconds until the next try is worthwhile.
        """
        owners = self._owners
        if not owners.may_move:
            return None
        workers, now = self._pool.roster.workers.values(), _clock()
        idle = [worker for worker in workers if not worker.in_flight]
        if not idle or len(idle) == len(workers):
            return None
        victim = busiest(workers)
        if victim is None:
            return None
        worth_ns = now - victim.busy_since + (len(victim.in_flight) - 1) * self._item_ns
        wait_ns = max(self._look_at - now, _MOVE_AFTER_NS - worth_ns)
        if wait_ns > 0:
            return max(STEAL_WAIT_S, wait_ns / 1e9)
        self._look_at = now + _MOVE_PAUSE_NS
        # Take back all: the elements of its other lanes must be granted in order, too.
        work_items = [work.work_item for work in self._pool.take_unread(victim)]
        victim.flush()
        # A lane with an element in progress remains: two processes never run the same lane.
        active = {work.work_item.lane for work in victim.in_flight.values()}
        seen: set[int] = set()
        again_s = None
        for work_item in work_items:
            if work_item.lane in active or work_item.lane in seen:
                continue
            seen.add(work_item.lane)
            distance = owners.distance(work_item)
            # Without a snapshot the cost is unknown, and may be the whole epoch.
            if distance is None:
                continue
            cost_ns = distance * self._item_ns + self._fill_ns if work_item.source_index else 0
            again_s = _MOVE_PAUSE_NS / 1e9  # no event will signal that the move is worthwhile by then
            if cost_ns * _WORTH_MOVING < worth_ns:
                owners.move(work_item.lane, idle[0].index)
                self._look_at = max(self._look_at, now + cost_ns * _PAUSE_AFTER_MOVE)
                again_s = None  # a report will follow
                break
        self._pool.put_back(work_items)
        self.pump()
        return again_s
