"""The owners of lanes: which worker has which lane of a stream, and at which element.

    initially              lane l is of worker l modulo their number
    a worker dies          its successor has its number, and so its lanes: each is opened anew, from its last snapshot;
                           the one whose element it was at is marked, see `mpqueue.worker.retry_markers`
    an owner stays behind  a lane of which it has begun nothing goes to an idle worker, which opens it anew
    more, or fewer workers each gets as many lanes as the others, of those that are not at work

At most one worker runs a lane at a time, and each knows only the lanes that it has opened. So it is told to open one,
by a grant with a *start*, whenever the element that it is granted is not the next one of what it has: it is another
process than the one that had it before, or the work items have gone to another place. That is the only way to go on
after a death, a move or an interrupt, and to resume. A first element needs no start: a lane is opened anew for it.

What is kept of a lane here is what its owner will have when it has served all of its grants. Grants that are taken
back before they were read are taken off again.
"""

from collections.abc import Collection

from mpqueue.plan.cursors import Cursor, WorkItem
from mpqueue.plan.lanes import LaneStart, RetryStart


class LaneOwners:
    """The owners of the lanes of one pool.

    Args:
        cursor: Of the stream; it knows the snapshots.
        num_workers: In the pool.

    Attributes:
        may_move: A lane may be given to another worker.
    """

    def __init__(self, cursor: Cursor, num_workers: int) -> None:
        self.element = cursor.element
        self._lanes = cursor.lanes
        self._owners = [lane % num_workers for lane in range(cursor.num_lanes)]
        # With a lane for each worker, its code may take its share by the number of its worker.
        self.may_move = cursor.num_lanes != num_workers
        # By lane: the key of the process that has it, the epoch of its last grant, the next element.
        self._at: dict[int, tuple[int, int, int]] = {}
        self._afresh: set[int] = set()  # lanes that are begun anew, but not from their first element
        self._marked: dict[int, tuple[int, int, int]] = {}  # by lane: the epoch, the element, how many are marked

    def owner(self, lane: int) -> int:
        """Return the number of the worker that has a lane."""
        return self._owners[lane]

    def of(self, number: int) -> list[int]:
        """Return the lanes of a worker."""
        return [lane for lane, owner in enumerate(self._owners) if owner == number]

    def goes_on(self, key: int, work_item: WorkItem) -> bool:
        """Return whether a process is at an element behind the first one; if so, note that it is granted it.

        Nearly always it is: so there is one call for that, in place of `start_for`, `holder` and `note_granted`.
        """
        lane, number = work_item.lane, work_item.unit
        if not number or self._at.get(lane) != (key, work_item.epoch, number):
            return False
        self._at[lane] = key, work_item.epoch, number + 1
        return True

    def start_for(self, work_item: WorkItem) -> LaneStart | RetryStart | None:
        """Return where a process that does not go on with it is to open the lane; None: it need not be told."""
        lane, number = work_item.lane, work_item.unit
        start = LaneStart(number, None) if lane in self._afresh else self._lanes.start(lane, number)
        epoch, marked, count = self._marked.get(lane, (-1, 0, 0))
        if (epoch, marked) == (work_item.epoch, number):
            return RetryStart(start, count)
        return start if number or start.state is not None else None

    def mark(self, work_item: WorkItem, *, ahead: int = 0) -> None:
        """An element has cost its worker: it is marked the next time, or those up to so many behind it are, too."""
        self._marked[work_item.lane] = work_item.epoch, work_item.unit + ahead, 1 + ahead

    def holder(self, lane: int) -> int | None:
        """Return the key of the process that was granted elements of a lane last."""
        at = self._at.get(lane)
        return None if at is None else at[0]

    def note_granted(self, key: int, work_item: WorkItem) -> None:
        """A process was granted this element."""
        self._at[work_item.lane] = key, work_item.epoch, work_item.unit + 1
        self._afresh.discard(work_item.lane)

    def note_taken_back(self, key: int, work_item: WorkItem, *, with_start: bool) -> None:
        """A grant was taken back unread, and all that were granted after it will be: it was not granted."""
        at = self._at.get(work_item.lane)
        if at is None or at[0] != key:
            return  # the lane is another's by now
        if with_start or not work_item.unit:
            del self._at[work_item.lane]
        elif work_item.unit < at[2]:
            self._at[work_item.lane] = key, work_item.epoch, work_item.unit

    def forget_places(self) -> None:
        """All workers get another source, with which they open their lanes anew."""
        self._at.clear()

    def begin_afresh(self, number: int) -> None:
        """A worker is gone whose streams are to be called once more and go on where they then are."""
        self._afresh.update(self.of(number))

    def distance(self, work_item: WorkItem) -> int | None:
        """Return how many elements another worker has to compute again to take this work item, or None if unknown."""
        start = self._lanes.start(work_item.lane, work_item.unit)
        return work_item.unit - start.number if start.state is not None or not work_item.unit else None

    def move(self, lane: int, number: int) -> None:
        """Give a lane to another worker."""
        self._owners[lane] = number

    def adopt(self, numbers: Collection[int]) -> None:
        """Give the lanes of workers that there are no more to these."""
        if numbers and not set(numbers).issuperset(self._owners):
            self.share_out(numbers, [lane for lane, owner in enumerate(self._owners) if owner in numbers])

    def share_out(self, numbers: Collection[int], at_work: Collection[int] = ()) -> None:
        """Give each of these workers as many lanes as the others; those at work stay where they are."""
        free = [lane for lane, owner in enumerate(self._owners) if owner not in numbers]
        counts = dict.fromkeys(sorted(numbers), 0)
        for owner in self._owners:
            if owner in counts:
                counts[owner] += 1
        most = -(-len(self._owners) // len(counts))
        for lane, owner in reversed([*enumerate(self._owners)]):
            if owner in counts and counts[owner] > most and lane not in at_work:
                counts[owner] -= 1
                free.append(lane)
        for lane in sorted(free):
            self._owners[lane] = number = min(counts, key=lambda number: counts[number])
            counts[number] += 1
