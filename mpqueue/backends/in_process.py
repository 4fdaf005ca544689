"""The common part of the backends without worker processes: threads, and the calling thread.

They compute from the caller's own source, so they send no data and need no shared memory.
"""

import copy
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from mpqueue.backends.job import INTERRUPTED, Job
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import BatchWithState, Partial, Result
from mpqueue.engine.skips import Skipped, may_skip
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.system.processes.wakeup import Wakeup
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.exceptions import add_note, matches
from mpqueue.telemetry.stages import Stages
from mpqueue.telemetry.stats import Statistics, statistics_of
from mpqueue.telemetry.worker_stats import WorkerTally
from mpqueue.worker.concurrency.stuck import SampleHung
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.failures import never_an_exit
from mpqueue.worker.runners.runner import BeginBatch, RunnerArguments, SourceRunner, StreamEnd
from mpqueue.worker.runners.runners import make_runner


class LocalWork:
    """The work items of a job that this process computes from the caller's own source.

    Args:
        ledger: The ledger of the work items.
        job: The job.
    """

    def __init__(self, ledger: Ledger, job: Job) -> None:
        self._ledger, self._job = ledger, job

    def make_runner(self, info: WorkerInfo, begin: BeginBatch, **options: Any) -> SourceRunner:
        """Return a runner of the caller's own source; ``options`` are further `RunnerArguments`."""
        job, share = self._job, self._ledger.cursor.lane_share
        arguments = RunnerArguments(
            job.source, info, begin, job.samples, in_slot=False, num_lanes=share.total, endless=share.is_endless,
            skips=job.plan.skips, coroutines=job.coroutines, **options,
        )  # fmt: skip
        return make_runner(job.form, arguments)

    def arguments(self, work_item: WorkItem, runner: SourceRunner) -> tuple[int, Any]:
        """Return the arguments for a runner: an index, and a list of samples or the start position of a lane."""
        if work_item.lane < 0:
            return work_item.source_index, work_item.listed
        ledger = self._ledger
        index = ledger.cursor.element(work_item)
        if work_item.source_index and runner.is_at(work_item.epoch, index):
            return index, None
        # Also for a first element: samples of its lane may have been given up.
        start = ledger.lanes.start(work_item.lane, work_item.source_index)
        return index, start if work_item.source_index or start.state is not None else None

    def outcome(self, value: Any) -> Result:
        """Return the outcome for the return value of a runner."""
        return Result.of(_copied(value) if self._job.options.copy else value)

    def ended(self, work_item: WorkItem, runner: SourceRunner, end: StreamEnd) -> Result:
        """Return the outcome of a work item after the end of its lane."""
        if not runner.is_shared:
            self._ledger.unsharded.add(work_item.lane)
        skipped = Partial(None, list(end.skipped), True) if end.skipped else None
        return Result(skipped, is_end=True, rows=end.rows)

    def failed(self, work_item: WorkItem, index: int, runner: SourceRunner, error: BaseException) -> Result:
        """Return the outcome of a work item after an error of the source."""
        if type(error) is SampleHung:  # a thread, or this one, cannot be replaced: the batch is not tried again
            error = error.as_timeout(work_item.source_index, work_item.epoch)
        note = runner.note(index, work_item.epoch)
        if matches(error, SystemExit):  # unchanged, it would end the program silently
            error = never_an_exit(error, note)
        else:
            add_note(error, note)
        if self._job.plan.skips and may_skip(error):
            # Its text is made here: the exception's own code may hang, which `batch_timeout` ends in a worker thread.
            return Result(Partial(None, [Skipped.because_of(error, work_item.source_index)], True))
        return Result.failed(error)


class InProcessBackend:
    """A backend that computes in this process.

    Args:
        ledger: The ledger of the work items.
        job: The job to run.
    """

    chunk = low_water = 1
    tells_changes = has_waiting = False
    is_calm = True
    _tallies: list[WorkerTally]  # by worker

    def __init__(self, ledger: Ledger, job: Job) -> None:
        self._ledger, self._job = ledger, job
        self._work = LocalWork(ledger, job)
        self.may_change_unseen = job.may_change_unseen()
        # A plain iterator: an interrupt in the middle of an element loses that element.
        self._gives_once = ledger.is_stream and not job.can_replay
        self._wakeup: Wakeup | None = None  # for polling
        # Not a bool: user code that still runs after the stop refers to it, and must not keep this backend.
        self._stopped = threading.Event()

    def fileno(self) -> int:
        """Return a descriptor that is readable when `wait` would end; created on first use."""
        if self._wakeup is None:
            with defer_signals():  # Ctrl-C between creating the pipe and storing it would leave it open
                self._wakeup = Wakeup()
            # A thread may have finished after the caller's last step, before this pipe existed, and no other batch may
            # follow. So the first wait returns at once, and the caller steps again.
            self._wakeup.wake()
        return self._wakeup.fd

    def cancel(self) -> None:
        """Discard all outcomes."""
        self._ledger.ready.clear()

    def reset(self, *, anew: bool = False) -> None:
        """Discard the work items that were dealt.

        Raises:
            RuntimeError: The source is a generator object, which yields each element only once.
        """
        self.cancel()
        if self._gives_once and not anew:
            raise RuntimeError(INTERRUPTED)

    def refresh(self) -> None:
        """Open lanes, and read lengths, again: the backend uses the caller's own source, which may have changed."""
        # Lanes keep iterators over the old state of the source, and runners of samples the length of the epoch. Items
        # follow from the present source.
        for runner in self._runners():
            runner.reopen()

    def _runners(self) -> Iterable[SourceRunner]:
        """Return the runners of all workers."""
        raise NotImplementedError

    def statistics(self) -> Statistics:
        """Return the counters."""
        return statistics_of(self._job.recorder, self._tallies)

    def _note_times(
        self, worker: int, work_item: WorkItem, stages: Stages, began_ns: int, compute_ns: int, wait_ns: int = 0
    ) -> Callable[[int], None] | None:
        """Record the times of a timed batch; if it is in the timeline, return the function to call when it is taken."""
        times = compute_ns, 0, wait_ns, stages.seed_ns, stages.collate_ns
        tally = self._tallies[worker]
        tally.time(*times, beside_ns=stages.beside_ns)
        if stages.is_looked_at:
            tally.blocked.add(stages.blocked_ns)
        timeline, position = self._job.recorder.timeline, (work_item.work_id, work_item.epoch, work_item.source_index)
        if timeline is None or not timeline.batch(worker, position, began_ns, times):
            return None
        return partial(timeline.take, position)


def _copied(value: Any) -> Any:
    """Return the value of a runner with a private copy of its batch."""
    if type(value) is BatchWithState:
        return value._replace(value=_copied(value.value))
    if type(value) is Partial:
        return value._replace(batch=copy.deepcopy(value.batch))
    return copy.deepcopy(value)
