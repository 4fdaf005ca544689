"""The backend without workers: the caller computes each batch in its own `next`.

With a seed, the global random generators are seeded for each batch and restored after it. So batches are the same as
with worker processes, and the trainer's own random numbers do not change.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from mpqueue.backends import active_iterators
from mpqueue.backends.in_process import InProcessBackend
from mpqueue.backends.job import Job
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import Result
from mpqueue.plan.options.batching import RunnerKind
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.seeding.global_rng import GlobalState
from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.system.signals.exceptions import matches
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.stages import Stages
from mpqueue.telemetry.worker_stats import WorkerTally
from mpqueue.worker import context, torch_info
from mpqueue.worker.concurrency.async_sources import close_in_loop
from mpqueue.worker.failures import never_an_exit
from mpqueue.worker.random_state import tensorflow_rng
from mpqueue.worker.random_state.user_generators import UserGenerators, user_generators
from mpqueue.worker.runners.runner import BeginBatch, SourceRunner, StreamEnd, run_timed


class Saved(Protocol):
    """A state of the caller, such as `GlobalState`."""

    def restore(self) -> None:
        """Restore the state. A second call has the same effect."""


class InlineBackend(InProcessBackend):
    """A backend that computes each batch in the calling thread, on request.

    Args:
        ledger: The ledger of the work items.
        job: The job to run.
    """

    def __init__(self, ledger: Ledger, job: Job) -> None:
        super().__init__(ledger, job)
        self._info = job.info(0)
        self._kept = user_generators(job.payload)
        # Repeating needs a look at all generators before and after each batch. That is worth its cost if it saves one
        # seeding for each of many stages.
        can_repeat = job.form is RunnerKind.LANES
        self._seeding = LazySeeding(can_repeat=can_repeat, is_shared=True) if job.plan.seed_given else None
        self._tensorflow = tensorflow_rng.follow() if job.plan.seed_given else None
        self._begin = _batch_beginner(self._kept, self._seeding)
        self._runner = self._own_runner()
        self._work_items: deque[WorkItem] = deque()
        self._init = job.init
        self._loop: Any = None  # the event loop, if it is the user's, or `worker_init` runs in it
        self._awaits_others = self._gives_once  # of threads of an earlier start, before the first element
        self._recorder = job.recorder
        self._tally = WorkerTally()
        self._tallies = [self._tally]
        self._stages: Stages | None = Stages()  # of the next batch, if it will be timed
        self._time_at = 0

    def _own_runner(self) -> SourceRunner:
        if self._ledger.cursor.lane_share.total > 1:
            torch_info.answer()  # reports the running lane: without workers, torch has only one and cannot report it
        return self._work.make_runner(self._info, self._begin, seeding=self._seeding)

    def start(self) -> None:
        """Deal the first work item."""
        self.pump()

    def pump(self) -> None:
        """Take the next work item, without computing it."""
        if not self._work_items:
            # Computed only by the `next` that needs it, so a broken loop costs no batch.
            self._work_items.extend(self._ledger.deal())

    def take_in(self, head: int | None, *, may_fail: bool = True) -> bool:
        """Compute the next batch, unless ``head`` is None."""
        if self._wakeup is not None:
            self._wakeup.clear()
        if head is None or not self._work_items:
            return False
        started, ledger = clock_ns(), self._ledger
        if self._awaits_others:
            active_iterators.await_end(self._job.source)
            self._awaits_others = False
        outcome = self._initialise() or self._compute(self._work_items[0])
        if outcome.snapshot is not None:
            ledger.lanes.note(self._work_items[0].lane, self._work_items[0].source_index + 1, outcome.snapshot)
        if outcome.parts:
            ledger.counts.parts.note(self._work_items[0], outcome.parts)
        ended = clock_ns()
        self._count(self._work_items[0], started, ended)
        if outcome.rows:
            self._recorder.add_stages(outcome.rows, 1 if ledger.is_stream else self._tally.weight)
        self._recorder.wait(ledger.counts.num_batches, ended - started)
        ledger.ready[self._work_items.popleft().work_id] = outcome
        return True

    def wait(self, head: int, timeout_s: float | None) -> None:
        """Return at once: no other thread computes batches."""

    def timeout_s(self) -> float | None:
        """Return None: there are no deadlines."""
        return None

    def _count(self, work_item: WorkItem, started: int, ended: int) -> None:
        """Count a batch, and record its times if it was timed; see `mpqueue.telemetry.recorder`."""
        tally, stages = self._tally, self._stages
        tally.compute_ns += ended - started
        if stages is not None:
            self._note_times(0, work_item, stages, started, ended - started)
            self._stages = None
        tally.batches += 1
        if ended >= self._time_at:
            self._stages, self._time_at = Stages(), ended + EVERY_NS

    def _initialise(self) -> Result | None:
        """Call `worker_init` once. Its error is the outcome of the batch, as in workers."""
        if self._init is not None:
            try:
                self._loop = self._init()
            except BaseException as error:
                if is_interrupt(error):
                    raise
                return Result.failed(never_an_exit(error) if matches(error, SystemExit) else error)
            self._init = None
        return None

    def _compute(self, work_item: WorkItem) -> Result:
        has_seed = self._seeding is not None
        shared = GlobalState() if has_seed else None
        saved: list[Saved] = []
        if shared is not None:
            saved = [shared, tensorflow_rng.SavedTensorFlowState(), *self._kept.saved_states()]
        stages = self._stages
        index, argument = self._work.arguments(work_item, self._runner)
        # The caller may itself compute a batch of an outer loader: restore the context of that loader.
        restore_thread = context.keep_thread()
        # Within `try`, and restored in a second `try`, without a gap for a signal: an interrupt anywhere else would
        # leave the training loop with the batch's worker and random numbers.
        try:
            if shared is not None:
                shared.use_up_normal()
            context.enter_thread(
                self._info,
                is_seed_given=has_seed,
                begin=self._begin,
                may_begin_blocks=self._may_begin_blocks,
                seeding=self._seeding,
                has_stopped=self._stopped.is_set,
            )
            run = self._runner.run if self._seeding is None else partial(self._seeding.each, self._runner.run)
            if stages is None:
                value = run(work_item.epoch, index, argument)
            else:
                self._note_stages(stages)
                value = run_timed(self._job.source, stages, run, work_item.epoch, index, argument)
            return self._work.outcome(value)
        except StreamEnd as ended:
            return self._work.ended(work_item, self._runner, ended)
        except BaseException as error:
            if is_interrupt(error):
                raise
            return self._work.failed(work_item, index, self._runner, error)
        finally:
            try:
                self._put_back(restore_thread, stages, saved)
            # A handler raised in the middle: without a second try the training loop would continue with the batch's
            # random numbers.
            except BaseException:
                self._put_back(restore_thread, stages, saved)
                raise

    def _put_back(self, restore_thread: Callable[[], None], stages: Stages | None, saved: list[Saved]) -> None:
        """Restore the state of the caller's thread; may be called twice."""
        restore_thread()
        if stages is not None:
            self._note_stages(None)
        for state in saved:
            state.restore()

    def _may_begin_blocks(self) -> bool:
        return self._seeding is None or (not self._seeding.is_due and self._kept.is_idle)

    def _note_stages(self, stages: Stages | None) -> None:
        self._runner.stages = self._kept.stages = stages
        if self._seeding is not None:
            self._seeding.stages = stages

    def _runners(self) -> list[SourceRunner]:
        return [self._runner]

    def cancel(self) -> None:
        """Discard the work item."""
        super().cancel()
        self._work_items.clear()

    def reset(self, *, anew: bool = False) -> None:
        """Discard the work item, and the runner, which an interrupt may have left inconsistent."""
        super().reset(anew=anew)
        if not self._ledger.is_stream:  # a stream's runner recovers by itself, see `mpqueue.worker.runners.lane_runner`
            self._runner = self._own_runner()

    def is_stale(self) -> bool:
        """Return False: no batch is computed ahead."""
        return False

    def wake(self) -> None:
        """Make `fileno` readable; no other thread waits."""
        if self._wakeup is not None:
            self._wakeup.wake()

    def stop(self, timeout_s: float | None) -> None:
        """Release the resources, without waiting."""
        self._stopped.set()
        if self._wakeup is not None:
            self._wakeup.close()
        if self._job.is_asynchronous:
            close_in_loop(self._job.source)
        self._runner.end()
        self._loop = None
        if self._seeding is not None and self._tensorflow is not None:
            self._seeding.end()
            self._tensorflow.end()


def _batch_beginner(kept: UserGenerators, seeding: LazySeeding | None) -> BeginBatch:
    # Not a method of the backend: a cycle would keep the source until the next garbage collection.
    def begin_batch(seed: int, epoch: int, index: int) -> None:
        context.begin_batch(seed, epoch, index)
        if seeding is not None:
            # Seeded only on demand: most batches draw no numbers from the global generators.
            if seeding.is_due:
                seeding.seed(seed, epoch, index)
            if not kept.is_idle:
                kept.seed(seed, epoch, index)

    return begin_batch
