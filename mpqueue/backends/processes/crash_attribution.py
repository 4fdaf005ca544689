"""Attributes a worker crash to the work item that was being computed, and gives up an item after too many crashes.

A work item may cost `restarts` workers. After the next crash it is given up, and its outcome is an error. Crashes
without a work item (in `worker_init`, or while the source is unpickled) are counted until a worker reports anything.
Too many in a row raise an error for the consumer. The next call tries again.

In a lane of a stream, giving up a work item would lose more than the sample that crashes workers: the batch, and
everything after it, because later elements can only be computed through it. So the next try uses retry markers
(`mpqueue.worker.retry_markers`), and only the sample that was being computed is given up. Its error is raised in the
lane, and the lane continues after it, as with an error of the source. A generator function runs as one piece of code
and has no markers: there the work item is given up, and if the next one crashes as well, the rest of the lane.
"""

import signal

from mpqueue.backends.processes.handle import Cause
from mpqueue.backends.processes.pool import WorkerPool
from mpqueue.backends.processes.roster import Exit
from mpqueue.engine.outcomes import END
from mpqueue.errors import BatchTimeout, WorkerDied
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.plan.position.lanes import Lost
from mpqueue.system.processes.oom import OomCounter, find_counter

_NO_REPLAY = "A generator object cannot be computed again: pass a generator function instead"
_EARLY = "Workers crash before they compute anything: check `worker_init` and the modules that the source imports"
_UNPICKLING = "It was restarted as often as `restarts` allows: check the code that runs when the source is unpickled"


class CrashAttribution:
    """Counts the crashes in one pool.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool, self._job = pool, pool.job
        self._oom = OomCounter(find_counter())
        self._by_work_item: dict[int, int] = {}  # number of crashes, by the id of the work item
        # By lane: epoch and index of the latest element that was given up.
        self._given_up: dict[int, tuple[int, int]] = {}
        self._unblamed = 0  # crashes in a row without a work item,
        self._reports_seen = 0  # since this number of reports

    def was_oom_killed(self, exitcode: int | None, cause: Cause | None = None) -> bool:
        """Return whether the kernel's out-of-memory killer ended a process; call it once per process."""
        # The counter cannot name its victim, so a kill by us must not be counted as one by the kernel.
        return exitcode == -signal.SIGKILL and cause is not Cause.HUNG and self._oom.take_kill()

    def count(self, leaving: Exit, work_item: WorkItem | None, num_reports: int) -> BaseException | None:
        """Count a crash; give up its work item, or return an error for the consumer, if the limit is exceeded.

        Args:
            leaving: The worker that exited, and how.
            work_item: The work item that it was computing, which is pending again.
            num_reports: Number of reports by all workers until now.
        """
        worker, job = leaving.worker, self._job
        if worker.life.cause is Cause.SACRIFICED or leaving.lost:
            return None  # killed by us, or lost with its machine: not a fault of the work item
        if work_item is None:
            return self._count_unblamed(leaving, num_reports)
        deaths = self._one_more_of(work_item)
        owners, mark = self._pool.owners, worker.mark
        # With markers there is at least one more try: only a marked try shows which sample to give up.
        if deaths <= max(job.options.restarts, job.plan.source.can_mark) and job.can_replay:
            if owners is not None:
                owners.mark(work_item)
            return None
        del self._by_work_item[work_item.work_id]
        timeout_s = job.options.batch_timeout
        if worker.life.cause is Cause.HUNG and timeout_s is not None:
            error: Exception = BatchTimeout(
                work_item.source_index, work_item.epoch, timeout_s, worker.stacks, leaving.samples
            )
        else:
            error = worker_died(leaving, work_item, self._remedy(deaths))
        # Only the marked sample is given up. If it was given up before and still crashes workers, the whole item is.
        if mark is not None and self._pool.ledger.lanes.lose(work_item.lane, Lost(mark[1], error)):
            return None
        # `reap` has put it back. It must not be granted again: its outcome is set below.
        self._pool.pending.remove(work_item)
        if work_item.lane >= 0:
            self._note_given_up(work_item, error)
        # At its position in the order, so that the consumer gets the error where the batch would be.
        self._pool.give_up(work_item, error)
        return None

    def _one_more_of(self, work_item: WorkItem) -> int:
        # Forget items that are finished, or the dictionary would grow throughout the run.
        outstanding = self._pool.ledger.work_items
        self._by_work_item = {work_id: count for work_id, count in self._by_work_item.items() if work_id in outstanding}
        deaths = self._by_work_item[work_item.work_id] = self._by_work_item.get(work_item.work_id, 0) + 1
        return deaths

    def may_retry(self, work_item: WorkItem) -> bool:
        """Count a batch with a sample that took too long in a live worker; return whether to compute it again."""
        if self._one_more_of(work_item) <= self._job.options.restarts:
            return True
        del self._by_work_item[work_item.work_id]
        return False

    def _note_given_up(self, work_item: WorkItem, error: Exception) -> None:
        """End the lane if the element before this one was given up, too."""
        pool, lane, index = self._pool, work_item.lane, work_item.source_index
        if self._given_up.get(lane) != (work_item.epoch, index - 1):
            self._given_up[lane] = work_item.epoch, index
            if pool.owners is not None:
                # The next element is computed through this one, so it is marked as well.
                pool.owners.mark(work_item, ahead=1)
            return
        del self._given_up[lane]
        share = pool.ledger.cursor.lane_share
        error.add_note(
            f"this happened twice in a row in lane {share.lane(lane)} of {share.total}: to continue after element "
            f"{index - 1}, the source must compute that element again. So the rest of lane {share.lane(lane)} is left "
            f"out of this {'stream' if share.is_endless else 'epoch'}. Fix the cause and restore a state from before "
            "the first of the two errors to get all elements"
        )
        # A third try would crash as well: every later element is computed through both.
        pool.ledger.cursor.end_lane(lane, index + 1)
        # The lane had one owner, so all its items are in `pending` again.
        for later in [other for other in pool.pending if other.lane == lane]:
            pool.pending.remove(later)
            pool.ready[later.work_id] = END

    def _remedy(self, deaths: int) -> str:
        if not self._job.can_replay:
            return _NO_REPLAY
        tried = "once" if deaths == 1 else f"{deaths} times"
        return f"It was tried {tried}. Run it in the main process (`workers=0`) to find the cause"

    def _count_unblamed(self, leaving: Exit, num_reports: int) -> WorkerDied | None:
        job = self._job
        # An iterator's elements are lost with its worker, so its first crash is an error.
        if not job.can_replay and not leaving.worker.has_ended:
            return worker_died(leaving)
        if self._one_more(num_reports) <= job.options.restarts + job.workers:
            return None
        self._unblamed = 0
        return worker_died(leaving, None, _EARLY)

    def _one_more(self, num_reports: int) -> int:
        # Any report since the last crash is progress, so the count starts again.
        if num_reports != self._reports_seen:
            self._unblamed, self._reports_seen = 0, num_reports
        self._unblamed += 1
        return self._unblamed

    def count_launcher(self, exitcode: int | None, num_reports: int) -> None:
        """Count a crash of the fork server.

        Raises:
            WorkerDied: The limit is exceeded.
        """
        if self._one_more(num_reports) > self._job.options.restarts:
            self._unblamed = 0
            raise WorkerDied(-1, exitcode, oom_killed=self.was_oom_killed(exitcode), remedy=_UNPICKLING)


def worker_died(leaving: Exit, work_item: WorkItem | None = None, remedy: str = _NO_REPLAY) -> WorkerDied:
    """Return the error for a crash.

    The default remedy is for the worker of an iterator, which is not replaced.
    """
    index, epoch = (None, None) if work_item is None else (work_item.source_index, work_item.epoch)
    worker, exitcode = leaving.worker.index, leaving.exitcode
    return WorkerDied(worker, exitcode, index, epoch, leaving.peak_bytes, leaving.oom_killed, remedy, leaving.samples)
