"""The death of a worker is blamed on the work item that it was working on, or on nobody; too many are an error.

A work item may cost `restarts` workers; with the next one it is given up, and an error is its outcome. Deaths that no
work item is to blame for (in `worker_init`, while the source is unpickled) are counted as long as no worker reports
anything; too many in a row are an error for the consumer, whose next call tries again.

In a lane of a stream the work item is more than what kills: a batch, and what lies behind it can only be computed
through it. So the next try marks its samples (`mpqueue.worker.retry_markers`), and in place of the work item the one
sample is given up that was at work. The error is raised for it in the lane, and what is behind it comes, as with an
error of the source. Where there are no marks, because a generator function is one piece of code, the work item is given
up, and with the next one, which is computed through it, the rest of the lane.
"""

import signal
from typing import NamedTuple

from mpqueue.engine.outcomes import END
from mpqueue.errors import BatchTimeout, WorkerDied
from mpqueue.plan.cursors import WorkItem
from mpqueue.plan.lanes import Lost
from mpqueue.system.oom import OomCounter, find_counter
from mpqueue.workers.handle import Cause
from mpqueue.workers.pool import WorkerPool
from mpqueue.workers.roster import Exit

_NO_REPLAY = "A generator object cannot be computed again: pass a generator function instead"
_EARLY = "Workers die before they compute anything: look at `worker_init` and at what the source imports"
_UNPICKLING = "It was started again as often as `restarts` allows: look at what the source's unpickling does"


class Tolerance(NamedTuple):
    """Bounds on the deaths that a pool bears.

    Attributes:
        restarts: How many workers may die over one work item.
        num_workers: How many there are.
        can_replay: A work item can be computed again.
        batch_timeout: Seconds that one batch may take.
        can_mark: The source is a stream that can leave out a single sample, see `mpqueue.worker.retry_markers`.
        begins_ahead: Threads of a worker may begin the next batch before the one at work is over, until one dies.
    """

    restarts: int
    num_workers: int
    can_replay: bool
    batch_timeout: float | None
    can_mark: bool = False
    begins_ahead: bool = False


class CrashAttribution:
    """Counts the deaths in one pool.

    Args:
        pool: Whose work items may be to blame.
        tolerance: What it bears.
    """

    def __init__(self, pool: WorkerPool, tolerance: Tolerance) -> None:
        self._pool, self._tolerance = pool, tolerance
        self._oom = OomCounter(find_counter())
        self._by_work_item: dict[int, int] = {}  # deaths, by the number of the work item that was worked on
        self._given_up: dict[int, tuple[int, int]] = {}  # by lane: the epoch and the number of the last such element
        self._unblamed = 0  # deaths in a row that no work item is to blame for,
        self._reports_seen = 0  # since this many reports

    def was_oom_killed(self, exitcode: int | None, cause: Cause | None = None) -> bool:
        """Return whether the kernel's out-of-memory killer ended a process, which is asked once for each."""
        return exitcode == -signal.SIGKILL and cause is not Cause.HUNG and self._oom.take_kill()

    def count(self, leaving: Exit, work_item: WorkItem | None, num_reports: int) -> BaseException | None:
        """Count a death; give its work item up, or return the error for the consumer, if it is one too many.

        Args:
            leaving: Who died, and how.
            work_item: What it was working on, which is pending now.
            num_reports: How often workers have reported until now.
        """
        worker, tolerance = leaving.worker, self._tolerance
        if worker.life.cause is Cause.SACRIFICED or leaving.lost:
            return None  # our own doing, or its machine's
        if work_item is None:
            return self._count_unblamed(leaving, num_reports)
        is_outstanding = self._pool.ledger.is_outstanding
        self._by_work_item = {number: count for number, count in self._by_work_item.items() if is_outstanding(number)}
        deaths = self._by_work_item[work_item.number] = self._by_work_item.get(work_item.number, 0) + 1
        owners, mark = self._pool.owners, worker.mark
        # With marks there is one try more at least: without it nobody knows which sample is to be given up.
        if deaths <= max(tolerance.restarts, tolerance.can_mark) and tolerance.can_replay:
            if owners is not None:
                owners.mark(work_item)
            return None
        del self._by_work_item[work_item.number]
        if worker.life.cause is Cause.HUNG and tolerance.batch_timeout is not None:
            error: Exception = BatchTimeout(work_item.unit, work_item.epoch, tolerance.batch_timeout, worker.stacks)
        else:
            error = worker_died(leaving, work_item, self._remedy(deaths))
        if mark is not None and self._pool.ledger.lanes.lose(work_item.lane, Lost(mark[1], error)):
            return None
        self._pool.pending.remove(work_item)
        if work_item.lane >= 0:
            self._note_given_up(work_item, error)
        self._pool.give_up(work_item, error)
        return None

    def _note_given_up(self, work_item: WorkItem, error: Exception) -> None:
        """End the lane of an element that is given up if that before it was, too."""
        pool, lane, number = self._pool, work_item.lane, work_item.unit
        if self._given_up.get(lane) != (work_item.epoch, number - 1):
            self._given_up[lane] = work_item.epoch, number
            if pool.owners is not None:
                pool.owners.mark(work_item, ahead=1)  # what comes next is computed through this one
            return
        del self._given_up[lane]
        share = pool.ledger.cursor.lane_share
        error.add_note(
            f"this was met twice in a row in lane {share.lane(lane)} of {share.total}: to go on behind element "
            f"{number - 1}, that is computed again. So the rest of lane {share.lane(lane)} is left out of this "
            f"{'stream' if share.is_endless else 'epoch'}. Once the cause is mended, a state from before the first of "
            "the two errors brings all of it"
        )
        pool.ledger.cursor.end_lane(lane, number + 1)
        for later in [other for other in pool.pending if other.lane == lane]:  # all that were dealt: it had one owner
            pool.pending.remove(later)
            pool.ready[later.number] = END

    def _remedy(self, deaths: int) -> str:
        if not self._tolerance.can_replay:
            return _NO_REPLAY
        tried = "once" if deaths == 1 else f"{deaths} times"
        return f"It was tried {tried}. Run that index in the main process (workers=0) to see why"

    def _count_unblamed(self, leaving: Exit, num_reports: int) -> WorkerDied | None:
        tolerance = self._tolerance
        if not tolerance.can_replay and not leaving.worker.has_ended:
            return worker_died(leaving)
        if self._one_more(num_reports) <= tolerance.restarts + tolerance.num_workers:
            return None
        self._unblamed = 0
        return worker_died(leaving, None, _EARLY)

    def _one_more(self, num_reports: int) -> int:
        if num_reports != self._reports_seen:
            self._unblamed, self._reports_seen = 0, num_reports
        self._unblamed += 1
        return self._unblamed

    def count_launcher(self, exitcode: int | None, num_reports: int) -> None:
        """Count the death of a fork server.

        Raises:
            WorkerDied: It is one too many.
        """
        if self._one_more(num_reports) > self._tolerance.restarts:
            self._unblamed = 0
            raise WorkerDied(-1, exitcode, oom_killed=self.was_oom_killed(exitcode), remedy=_UNPICKLING)


def worker_died(leaving: Exit, work_item: WorkItem | None = None, remedy: str = _NO_REPLAY) -> WorkerDied:
    """Return the error for a death; without a remedy for that of an iterator's worker, which is not replaced."""
    index, epoch = (None, None) if work_item is None else (work_item.unit, work_item.epoch)
    number, exitcode = leaving.worker.number, leaving.exitcode
    return WorkerDied(number, exitcode, index, epoch, leaving.peak_bytes, leaving.oom_killed, remedy)
