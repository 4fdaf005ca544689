"""State that the parts of one pool of worker processes share, and the moves of work items that several of them make.

    pending --grant--> in flight at a worker --report--> ready --open--> consumer
       ^                      |                   |
       +------ put_back ------+                   +--evict--> ready, in private memory

The parts, each of which is handed the pool and knows those above it in this list only:

    pressure       memory for those that lack it
    hang           the end of those that hang
    dispatcher     grants work items, takes in reports, exchanges slots of grants
    supervision    starts workers, replaces the dead, gives up work items
    process        the backend, which calls all of them

Everything happens in the consumer's calls, under the pipeline's lock. A work item is in one place at a time.
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterable

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.memory.ring import Ring
from mpqueue.plan.cursors import WorkItem
from mpqueue.system import platform_support
from mpqueue.worker.records import GRANT, GrantKind
from mpqueue.workers.handle import Work, WorkerHandle
from mpqueue.workers.job import MAX_CREDIT
from mpqueue.workers.lane_owners import LaneOwners
from mpqueue.workers.roster import Roster

_COMPUTED = (GrantKind.WORK, GrantKind.LISTED, GrantKind.LANE)


class WorkerPool:
    """Ring, workers and work items of one pool.

    Args:
        ledger: Of its stream.
        ring: Where batches lie.
        roster: Its workers.
        owners: Of the lanes of its stream; None: it has no lanes.

    Attributes:
        ready: Outcomes by the number of their work item: the ledger's.
        pending: Work items that were dealt and have no worker (any more), in their order.
        num_retries: Work items that were put back because what was done for them is lost.
    """

    def __init__(self, ledger: Ledger, ring: Ring, roster: Roster, owners: LaneOwners | None = None) -> None:
        self.ledger, self.ring, self.roster, self.owners = ledger, ring, roster, owners
        self.ready = ledger.ready
        self.pending: deque[WorkItem] = deque()
        self.num_retries = 0

    @property
    def nobody_works(self) -> bool:
        """True if no worker has work that will come to an end by itself, or by the worker's death."""
        return all(worker.life.is_starved or not (worker.in_flight or worker.loading) for worker in self.roster.living)

    @property
    def is_idle(self) -> bool:
        """True if no worker has work, and none that was killed is waited for."""
        roster = self.roster
        return not roster.dying and not any(worker.in_flight or worker.loading for worker in roster.living)

    def put_back(self, work_items: Iterable[WorkItem], *, is_retry: bool = False) -> None:
        """Make work items pending again; ``is_retry``: work on them is lost."""
        merged = sorted((*work_items, *self.pending))
        if is_retry:
            self.num_retries += len(merged) - len(self.pending)
        self.pending.clear()
        self.pending.extend(merged)

    def take_unread(self, worker: WorkerHandle, count: int = MAX_CREDIT) -> list[Work]:
        """Take grants of work that a worker has not read out of its pipe; their slots are free again.

        A record in a pipe goes to exactly one reader, and the trainer can be that reader. Of a stream's worker all are
        to be taken: the elements of a lane are granted in their order.
        """
        taken: list[Work] = []
        if worker.pipes.unread < 0 or not platform_support.CAN_REOPEN:
            return taken
        try:
            data = os.read(worker.pipes.unread, count * GRANT.size)
        except BlockingIOError:
            return taken
        grants = list(GRANT.iter_unpack(data))
        if any(grant[1] not in _COMPUTED for grant in grants):
            # That goes back behind what is left in the pipe, which it may be meant for: so nothing is left.
            with contextlib.suppress(BlockingIOError):
                grants += GRANT.iter_unpack(os.read(worker.pipes.unread, MAX_CREDIT * GRANT.size))
        for grant in grants:
            if grant[1] in _COMPUTED:
                work = worker.in_flight.pop(grant[3])
                self.ring.release(work.slot)
                if self.owners is not None:
                    self.owners.note_taken_back(worker.key, work.work_item, with_start=grant[1] == GrantKind.LANE)
                if not work.cancelled:
                    taken.append(work)
            else:
                # A new source, a lane to close, or the answer that a starved worker waits for.
                worker.outbox += GRANT.pack(*grant)
        return taken

    def recall(self, worker: WorkerHandle, count: int = MAX_CREDIT) -> list[WorkItem]:
        """Make the work items of grants pending again that a worker has not read; return them."""
        work_items = [work.work_item for work in self.take_unread(worker, count)]
        self.put_back(work_items)
        worker.flush()  # of what is no grant of work, and was taken out as well
        return work_items

    def take_all_unread(self) -> bool:
        """Take the slots of all grants that nobody has read; return whether there were any."""
        taken = [self.recall(worker) for worker in self.roster.workers.values()]
        return any(taken)

    def evict(self, *, beyond: int) -> bool:
        """Move the finished batch that is furthest from its turn out of the ring; False if there is none."""
        later = [
            number
            for number, work in self.ready.items()
            if number > beyond and isinstance(work, Work) and not work.is_end
        ]
        if not later:
            return False
        work = self.ready[max(later)]
        assert isinstance(work, Work)
        self.ready[max(later)] = work.evict()
        return True

    def drop(self, *, beyond: int) -> bool:
        """Drop the finished batch that is furthest from its turn, to compute it again; False if there is none.

        Private memory counts in a control group, too, so `evict` would not help there. The elements of a lane are
        computed in their order, so none is dropped.
        """
        if self.owners is not None:
            return False
        later = [
            number
            for number, work in self.ready.items()
            if number > beyond and isinstance(work, Work) and not work.is_end
        ]
        if not later:
            return False
        work = self.ready.pop(max(later))
        assert isinstance(work, Work)
        self.ring.release(work.slot)
        self.put_back([work.work_item], is_retry=True)
        return True

    def give_up(self, work_item: WorkItem, error: Exception) -> None:
        """Answer a work item that no worker can answer: it is an error at its place in the order."""
        self.ready[work_item.number] = Result.failed(error)

    def cancel(self) -> None:
        """Forget all work items; what is at work is dropped when it is done."""
        for work in self.ready.values():
            if isinstance(work, Work) and not work.is_end:
                self.ring.release(work.slot)
        self.forget_work_items()
        for worker in self.roster.living:
            self.take_unread(worker)
            worker.flush()
            for work in worker.in_flight.values():
                work.cancelled = True

    def forget_work_items(self) -> None:
        """Forget all work items that no worker has."""
        self.ready.clear()
        self.pending.clear()
