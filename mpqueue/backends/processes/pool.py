"""The state that the parts of one pool of worker processes share, and the moves of work items that several parts use.

    pending --grant--> in flight at a worker --report--> ready --open--> consumer
       ^                      |                   |
       +------ put_back ------+                   +--evict--> ready, in private memory

The parts receive the pool, and each knows only those above it in this list:

    memory_pressure  memory for workers that lack it
    hang             kills workers that hang
    notices          reports that are not outcomes
    slot_reuse       exchanges slots of grants
    dispatcher       grants work items, processes reports
    lane_dispatcher  the same for a stream
    supervision      starts workers, replaces crashed ones, gives up work items
    process          the backend, which calls all of them

Everything runs in the consumer's calls, under the pipeline's lock. A work item is in exactly one place at a time. After
a crash, the items in flight at the worker are pending again.
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterable

from mpqueue.backends.job import MAX_CREDIT, Job
from mpqueue.backends.processes.handle import Work, WorkerHandle
from mpqueue.backends.processes.lane_owners import LaneOwners
from mpqueue.backends.processes.roster import Roster
from mpqueue.backends.processes.source_sync import SourceSync
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.memory.ring import Ring
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.worker.records import GRANT, GrantKind

COMPUTED = (GrantKind.WORK, GrantKind.LISTED, GrantKind.LANE)


class WorkerPool:
    """Ring, workers and work items of one pool.

    Args:
        ledger: The ledger of its stream.
        ring: The shared memory of its batches.
        roster: Its workers.
        sync: Its source, and the launcher of its workers.
        job: Its job.

    Attributes:
        owners: The owners of the lanes of its stream; None if it has no lanes.
        ready: The ledger's outcomes, by the number of their work item.
        pending: Work items that were dealt and have no worker at present, in order.
        num_retries: Number of work items that were put back after their work was lost.
    """

    def __init__(self, ledger: Ledger, ring: Ring, roster: Roster, sync: SourceSync, job: Job) -> None:
        self.ledger, self.ring, self.roster, self.sync, self.job = ledger, ring, roster, sync, job
        self.owners = LaneOwners(ledger.cursor, job.workers) if ledger.is_stream else None
        self.ready = ledger.ready
        self.pending: deque[WorkItem] = deque()
        self.num_retries = 0

    @property
    def nobody_works(self) -> bool:
        """True if no worker has work that will end by itself, or with a crash."""
        return all(worker.life.is_starved or not (worker.in_flight or worker.loading) for worker in self.roster.living)

    @property
    def is_idle(self) -> bool:
        """True if no worker has work, and no killed one is still to exit."""
        roster = self.roster
        return not roster.dying and not any(worker.in_flight or worker.loading for worker in roster.living)

    def put_back(self, work_items: Iterable[WorkItem], *, is_retry: bool = False) -> None:
        """Make work items pending again; with ``is_retry``, count them as lost work."""
        # By id, so that the batch that is due next is granted first.
        merged = sorted((*work_items, *self.pending))
        if is_retry:
            self.num_retries += len(merged) - len(self.pending)
        self.pending.clear()
        self.pending.extend(merged)

    def take_unread(self, worker: WorkerHandle, count: int = MAX_CREDIT) -> list[Work]:
        """Take back the grants of work that a worker has not read from its pipe, and free their slots.

        A record in a pipe goes to exactly one reader, and the trainer can be that reader. For a worker of a stream take
        all:
        the elements of a lane must be granted in order.
        """
        taken: list[Work] = []
        if worker.pipes.unread < 0:
            return taken
        try:
            data = os.read(worker.pipes.unread, count * GRANT.size)
        except BlockingIOError:
            return taken
        grants = list(GRANT.iter_unpack(data))
        if any(grant[1] not in COMPUTED for grant in grants):
            # Other records are written again at the end of the pipe, and may refer to grants that are left in it. So
            # leave none.
            with contextlib.suppress(BlockingIOError):
                grants += GRANT.iter_unpack(os.read(worker.pipes.unread, MAX_CREDIT * GRANT.size))
        for grant in grants:
            if grant[1] in COMPUTED:
                work = worker.in_flight.pop(grant[3])
                self.ring.release(work.slot)
                if self.owners is not None:
                    self.owners.note_taken_back(worker.key, work.work_item, with_start=grant[1] == GrantKind.LANE)
                if not work.cancelled:
                    taken.append(work)
            else:
                # A new source, a lane to close, or the answer for a starved worker.
                worker.outbox += GRANT.pack(*grant)
        return taken

    def recall(self, worker: WorkerHandle, count: int = MAX_CREDIT) -> list[WorkItem]:
        """Make the unread grants of a worker pending again; return their work items."""
        work_items = [work.work_item for work in self.take_unread(worker, count)]
        self.put_back(work_items)
        worker.flush()  # write back records other than grants of work, which were taken as well
        return work_items

    def take_all_unread(self) -> bool:
        """Take back the slots of all unread grants; return whether there were any."""
        taken = [self.recall(worker) for worker in self.roster.workers.values()]
        return any(taken)

    def evict(self, *, beyond: int) -> bool:
        """Move the finished batch that is due last to private memory; return whether one was found."""
        work = self._last_finished(beyond)
        if work is None:
            return False
        self.ready[work.work_item.work_id] = work.evict()
        return True

    def _last_finished(self, beyond: int) -> Work | None:
        finished = (work for work in self.ready.values() if isinstance(work, Work) and not work.is_end)
        later = [work for work in finished if work.work_item.work_id > beyond]
        return max(later, key=lambda work: work.work_item.work_id, default=None)

    def drop(self, *, beyond: int) -> bool:
        """Drop the finished batch that is due last, to compute it again; return whether one was found.

        Private memory counts in a control group, too, so `evict` would not help there. The elements of a lane are
        computed in order, so none is dropped.
        """
        if self.owners is not None:
            return False
        work = self._last_finished(beyond)
        if work is None:
            return False
        del self.ready[work.work_item.work_id]
        self.ring.release(work.slot)
        self.put_back([work.work_item], is_retry=True)
        return True

    def give_up(self, work_item: WorkItem, error: Exception) -> None:
        """Set an error as the outcome of a work item, at its position in the order."""
        self.ready[work_item.work_id] = Result.failed(error)

    def cancel(self) -> None:
        """Discard all work items; those in flight are dropped when they are reported."""
        for work in self.ready.values():
            if isinstance(work, Work) and not work.is_end:
                self.ring.release(work.slot)
        self.forget_work_items()
        for worker in self.roster.living:
            # Unread grants are taken back so that workers reach the next epoch sooner; only the item in progress must
            # end.
            self.take_unread(worker)
            worker.flush()
            for work in worker.in_flight.values():
                work.cancelled = True

    def forget_work_items(self) -> None:
        """Discard all work items that are not at a worker."""
        self.ready.clear()
        self.pending.clear()
