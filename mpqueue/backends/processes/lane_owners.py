"""The owners of lanes: which worker runs which lane of a stream, and its position.

====================== ==============================================================================================
Event                  Effect
====================== ==============================================================================================
start                  lane l belongs to worker l modulo the number of workers
a worker crashes       its replacement has its index, and so its lanes; each is opened from its last snapshot. The
                       next try of the element in progress has markers, see `mpqueue.worker.retry_markers`
an owner is slow       a lane that it has not started goes to an idle worker, which opens it
more or fewer workers  lanes are redistributed evenly, except those in progress
====================== ==============================================================================================

At most one worker runs a lane at a time, and each knows only the lanes that it has opened. A grant with a *start* makes
it open one, whenever the granted element is not the next one of its open lane: the process is a replacement, or the
lane has moved. Crashes, moves, restarts and resumed checkpoints all take this path. The first element of a lane needs
no start.

The position kept here is the one that the owner will have after all its grants. Grants that are taken back unread are
subtracted.
"""

from collections.abc import Collection

from mpqueue.plan.position.cursors import Cursor, WorkItem
from mpqueue.plan.position.lanes import LaneStart, RetryStart


class LaneOwners:
    """The owners of the lanes of one pool.

    Args:
        cursor: Cursor of the stream; it has the snapshots.
        num_workers: Number of workers.

    Attributes:
        may_move: Lanes may move to other workers.
    """

    def __init__(self, cursor: Cursor, num_workers: int) -> None:
        self.element = cursor.element
        self._cursor, self._lanes = cursor, cursor.lanes
        self._owners = [lane % num_workers for lane in range(cursor.num_lanes)]
        # With one lane per worker, user code may choose its share by its worker's index.
        self.may_move = cursor.num_lanes != num_workers
        # By lane: key of the process, epoch of its last grant, index of the next element.
        self._at: dict[int, tuple[int, int, int]] = {}
        self._afresh: set[int] = set()  # lanes that restart without their state, at an element other than the first
        self._marked: dict[int, tuple[int, int, int]] = {}  # by lane: epoch, element, number of marked elements

    def owner(self, lane: int) -> int:
        """Return the index of the worker that owns a lane."""
        return self._owners[lane]

    def of(self, worker: int) -> list[int]:
        """Return the lanes of a worker."""
        return [lane for lane, owner in enumerate(self._owners) if owner == worker]

    def goes_on(self, key: int, work_item: WorkItem) -> bool:
        """Return whether a process continues its open lane with an element; if so, record the grant.

        This is nearly always the case. One call then replaces `start_for`, `holder` and `note_granted`.
        """
        lane, index = work_item.lane, work_item.source_index
        if not index or self._at.get(lane) != (key, work_item.epoch, index):
            return False
        self._at[lane] = key, work_item.epoch, index + 1
        return True

    def start_for(self, work_item: WorkItem) -> LaneStart | RetryStart | None:
        """Return the position at which a process must open the lane; None if it is open already."""
        lane, index = work_item.lane, work_item.source_index
        start = LaneStart(index, None) if lane in self._afresh else self._lanes.start(lane, index)
        epoch, marked, count = self._marked.get(lane, (-1, 0, 0))
        if (epoch, marked) == (work_item.epoch, index):
            return RetryStart(start, count)
        return start if index or start.state is not None else None

    def mark(self, work_item: WorkItem, *, ahead: int = 0) -> None:
        """Mark the samples of an element that crashed its worker, and of ``ahead`` more elements, at the next try."""
        self._marked[work_item.lane] = work_item.epoch, work_item.source_index + ahead, 1 + ahead

    def holder(self, lane: int) -> int | None:
        """Return the key of the process that has the latest grant of a lane."""
        at = self._at.get(lane)
        return None if at is None else at[0]

    def note_granted(self, key: int, work_item: WorkItem) -> None:
        """Record the grant of an element."""
        self._at[work_item.lane] = key, work_item.epoch, work_item.source_index + 1
        self._afresh.discard(work_item.lane)

    def note_taken_back(self, key: int, work_item: WorkItem, *, with_start: bool) -> None:
        """Record that a grant was taken back unread, as all later grants will be."""
        at = self._at.get(work_item.lane)
        if at is None or at[0] != key:
            return  # the lane has moved since
        if with_start or not work_item.source_index:
            # Its worker never opened the lane there, so the next grant must open it again.
            del self._at[work_item.lane]
        elif work_item.source_index < at[2]:
            self._at[work_item.lane] = key, work_item.epoch, work_item.source_index

    def forget_positions(self) -> None:
        """Forget all positions: all workers get a new source, and reopen their lanes with it."""
        self._at.clear()

    def begin_afresh(self, worker: int) -> None:
        """Restart the lanes of a worker that has exited by calling their streams once more, at the present element."""
        self._afresh.update(self.of(worker))

    def distance(self, work_item: WorkItem) -> int | None:
        """Return the number of elements that another worker must recompute before this work item; None if unknown."""
        start = self._lanes.start(work_item.lane, work_item.source_index)
        return (
            work_item.source_index - start.element_index
            if start.state is not None or not work_item.source_index
            else None
        )

    def move(self, lane: int, worker: int) -> None:
        """Assign a lane to another worker."""
        self._owners[lane] = worker
        self._cursor.forget_owners()

    def adopt(self, workers: Collection[int]) -> None:
        """Assign the lanes of removed workers to the given ones."""
        if workers and not set(workers).issuperset(self._owners):
            self.share_out(workers, [lane for lane, owner in enumerate(self._owners) if owner in workers])

    def share_out(self, workers: Collection[int], at_work: Collection[int] = ()) -> None:
        """Distribute the lanes evenly over the given workers, except that those in progress do not move."""
        free = [lane for lane, owner in enumerate(self._owners) if owner not in workers]
        counts = dict.fromkeys(sorted(workers), 0)
        for owner in self._owners:
            if owner in counts:
                counts[owner] += 1
        most = -(-len(self._owners) // len(counts))
        for lane, owner in reversed([*enumerate(self._owners)]):
            if owner in counts and counts[owner] > most and lane not in at_work:
                counts[owner] -= 1
                free.append(lane)
        for lane in sorted(free):
            self._owners[lane] = worker = min(counts, key=lambda worker: counts[worker])
            counts[worker] += 1
        self._cursor.forget_owners()
