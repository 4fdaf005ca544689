"""The cursor of a stream.

Elements are read from virtual shards (lanes), each with its own order. Work items alternate between the lanes: element
0 of each lane, then element 1 of each, and so on. A lane after its end answers its remaining work items with "end" and
receives no more. The others continue in the same order, so the order of delivery does not depend on when the end was
noticed. The next lane follows from the number of elements that each lane has returned. A work item names its lane, not
a worker: the backend decides which worker runs a lane.
"""

import heapq
from collections.abc import Callable, Mapping

from mpqueue.plan.ids.batch_samples import ENDLESS
from mpqueue.plan.position.cursors import ConsumerProgress, Cursor, ResumePoint, WorkItem
from mpqueue.plan.position.lanes import LaneShare, LaneTable


class StreamCursor(Cursor):
    """Elements of virtual shards (lanes) in turn: the live lane that has returned the fewest elements is next.

    With ``epoch_batches``, the lanes never end, and an epoch is a number of successive elements. Then the epoch of all
    work items is 0, and the epoch of a batch is known on delivery. `length_of` is the same for all epochs, and
    work items that were dealt ahead remain valid after the end of an epoch.

    Args:
        share: The lanes of this process, or their number if there is only one process.
        epoch_batches: Number of elements of an epoch; None: it ends when the last lane ends.
    """

    def __init__(self, share: LaneShare | int, *, epoch_batches: int | None = None) -> None:
        super().__init__()
        if isinstance(share, int):
            share = LaneShare(share, share)
        self.lane_share = share._replace(is_endless=epoch_batches is not None)
        self.num_lanes, self.lanes = share.num_lanes, LaneTable(share.num_lanes)
        self._epoch_batches = epoch_batches
        self._consumer: ConsumerProgress | None = None
        # Heaps of (next element, lane) for lanes that may have this element: one for all, or one for each worker while
        # work items are dealt fairly. A finished lane leaves its heap in its turn: a search for it would
        # take as long as all lanes.
        self._turns: list[tuple[int, int]] = []
        self._shares: dict[int, list[tuple[int, int]]] = {}
        self._ended: set[int] = set()
        if epoch_batches is not None:
            # The work items of an endless stream have epoch 0, and the ledger looks up the length by that epoch.
            self.lengths[0] = epoch_batches

    def follow(self, consumer: ConsumerProgress) -> None:
        """Set the object that reports the epoch and the position of the consumer."""
        self._consumer = consumer

    def go_to(self, point: ResumePoint) -> None:
        """Continue dealing from a point."""
        self.epoch = point.epoch if self._epoch_batches is None else 0
        self.lanes.go_to(point.starts, point.ends)
        # The next lane follows from the counts alone, so the order does not depend on the number of workers.
        counts, ends = point.counts or [0] * self.num_lanes, self.lanes.ends
        # A lane with an unknown end takes its turns: its worker answers with the end, which changes no other turn.
        turns = [(count, lane) for lane, count in enumerate(counts) if count < ends.get(lane, count + 1)]
        heapq.heapify(turns)
        self._turns, self._shares, self._ended = turns, {}, set()

    def end_lane(self, lane: int, count: int) -> None:
        """Deal no more work items of a lane, which has only this many elements."""
        self.lanes.end(lane, count)
        self._ended.add(lane)

    def element(self, work_item: WorkItem) -> int:
        """Return the index of an element, counted over all lanes of all ranks."""
        return work_item.source_index * self.lane_share.total + self.lane_share.lane(work_item.lane)

    def room_for(self, num_outstanding: int) -> int:
        """Return how many more work items may be dealt before the end of the last epoch that was requested.

        A work item that reports the end of a lane is not a batch: after it, another work item may be dealt.
        """
        length, consumer = self._epoch_batches, self._consumer
        if length is None or self.last_epoch is None or consumer is None:
            return ENDLESS
        return (self.last_epoch + 1 - consumer.epoch) * length - consumer.position - num_outstanding

    def length_of(self, epoch: int) -> int | None:
        """Return the number of batches of an epoch; None: unknown."""
        return self._epoch_batches

    def deal_fairly(
        self, limit: int, credit: int, held: Mapping[int, int], owner: Callable[[int], int]
    ) -> list[WorkItem]:
        """Deal up to ``limit`` work items, so that no worker holds more than its share of the credit.

        Otherwise the work items of a slow worker would use all of the credit, and the others would be idle.

        Args:
            limit: As for `deal`.
            credit: Number of work items that all workers together may hold.
            held: Number of work items in flight, by worker.
            owner: Returns the worker that runs a lane.
        """
        shares = self._shares_of(owner)
        # Divided among the owners of lanes that have not ended: the share of any other worker would never be used.
        most = -(-credit // max(1, len(shares)))
        room = {worker: most - held.get(worker, 0) for worker in shares}
        firsts = [(turns[0], worker) for worker, turns in shares.items() if room[worker] > 0]
        heapq.heapify(firsts)
        dealt: list[WorkItem] = []
        while firsts and len(dealt) < limit:
            _, worker = firsts[0]
            turns = shares[worker]
            count, lane = turns[0]
            heapq.heapreplace(turns, (count + 1, lane))  # as in `deal`
            dealt.append(WorkItem(self.next_work_id, self.epoch, count, count, lane))
            self.next_work_id += 1
            room[worker] -= 1
            if room[worker] and self._has_turn(turns):
                heapq.heapreplace(firsts, (turns[0], worker))
            else:
                heapq.heappop(firsts)
        return dealt

    def _shares_of(self, owner: Callable[[int], int]) -> dict[int, list[tuple[int, int]]]:
        """Return the turns of each worker that owns lanes which have not ended."""
        if self._turns:
            turns, self._turns = self._turns, []
            for turn in turns:
                self._shares.setdefault(owner(turn[1]), []).append(turn)
            for turns in self._shares.values():
                heapq.heapify(turns)
        self._shares = {worker: turns for worker, turns in self._shares.items() if self._has_turn(turns)}
        return self._shares

    def forget_owners(self) -> None:
        """Divide the lanes among their owners again, because some have changed."""
        for turns in self._shares.values():
            self._turns += turns
        self._shares = {}
        heapq.heapify(self._turns)

    def _has_turn(self, turns: list[tuple[int, int]]) -> bool:
        """Remove ended lanes from the front of a heap; return whether a lane is left."""
        while turns and turns[0][1] in self._ended:
            heapq.heappop(turns)
        return bool(turns)

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return up to ``limit`` of the next work items; none after the end of all lanes."""
        if self._shares:
            self.forget_owners()
        dealt: list[WorkItem] = []
        while self._turns and len(dealt) < limit:
            count, lane = self._turns[0]
            if lane in self._ended:
                heapq.heappop(self._turns)
                continue
            # The lane may not have this element. Waiting for that information would prevent computing ahead.
            heapq.heapreplace(self._turns, (count + 1, lane))
            dealt.append(WorkItem(self.next_work_id, self.epoch, count, count, lane))
            self.next_work_id += 1
        return dealt
