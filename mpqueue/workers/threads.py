"""The backend of worker threads.

Threads take work items under the pipeline's lock and compute outside of it. They are daemons, and nobody waits for an
item at work: a `stop` lets the idle ones end and leaves the others to end after their item (another start that runs
the same generator object waits for them: `active_iterators`). One that takes longer than
`batch_timeout` is left alone for good, with whatever it is at, and another takes its place. They work on the caller's
own source, and draw from the global random generators that all threads share: only `mpqueue.rng()` is reproducible
here.

A child that user code forks in such a thread has that thread only, and nobody who asks it for batches: it leaves when
the user's code returns, or raises.
"""

import contextlib
import errno
import os
import sys
import threading
import time
import traceback
from collections import deque
from itertools import starmap
from typing import Any, NamedTuple

from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import NotifyingResult, Result
from mpqueue.errors import BatchTimeout, StopTimeout
from mpqueue.plan.cursors import WorkItem
from mpqueue.system.interrupts import allow_signals
from mpqueue.system.leaving import leave_as_child
from mpqueue.system.own_process import make_mark
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.recorder import Stages
from mpqueue.worker import context, failures, tensorflow_rng, torch_info
from mpqueue.worker.runner import StreamEnd, run_timed
from mpqueue.worker.runners import AnyRunner, Parts, make_runner
from mpqueue.worker.sample_runner import SampleRunner
from mpqueue.worker.shared_generator_check import SharedDraws
from mpqueue.workers import active_iterators
from mpqueue.workers.hang import SlowBatch
from mpqueue.workers.in_process import InProcessBackend
from mpqueue.workers.job import Job

# Python runs in one thread at a time. Where a batch takes less time than the switch to another thread, those that are
# awake do all the work, and no other is woken: with eight of them it would cost a fifth of the rate.
_QUICK_NS = 50_000  # of a batch, on average
# One batch that is slow all the same holds up the others until the consumer has waited for it for so long.
_PATIENCE_S = 0.001


class _AtWork(NamedTuple):
    """The work item that a thread is at, since when, and whether anybody wants it still."""

    work_item: WorkItem
    since: float
    is_wanted: bool


class ThreadBackend(InProcessBackend):
    """Worker threads.

    Args:
        ledger: Whose work items they run.
        lock: Guards the ledger.
        job: What they run.
    """

    def __init__(self, ledger: Ledger, lock: threading.RLock, job: Job) -> None:
        super().__init__(ledger, job)
        self._condition = threading.Condition(lock)  # of the threads: there is work
        self._consumers: dict[threading.Lock, int] = {}  # of those in `wait`: what wakes one, and its work item
        self._dealt: deque[WorkItem] = deque()
        self._is_stopped = False
        self._own = make_mark()
        has_lanes = ledger.is_stream and not self._gives_once
        self._lanes: list[deque[WorkItem]] = [deque() for _ in range(job.workers)] if has_lanes else []
        if self._lanes and not ledger.is_ordered:
            workers = job.workers
            ledger.owner_of = lambda lane: lane % workers  # as `_worker_of`, without a reference to this backend
        self._working: dict[int, _AtWork] = {}  # by worker
        self._busy: set[threading.Thread] = set()  # in user code
        self._num_idle = self._num_coming = 0  # threads that wait for work; of these, those that were woken
        self._stuck: Result | None = None  # a stream hangs: the answer to all its work items
        self._threads: dict[int, threading.Thread] = {}
        self._pace_ns = float(_QUICK_NS)  # what a batch takes: the average, of which the latest is a sixteenth
        self._tallies = job.recorder.expect(job.workers)
        self._shared_generator_check = (
            SharedDraws() if job.plan.seed_given else None
        )  # until the first batch is computed
        self._tensorflow = tensorflow_rng.follow() if job.plan.seed_given else None
        self._slow = SlowBatch(ledger)
        self._asked: tuple[int, float] = (-1, 0.0)  # the work item that is asked for, and since when

    def start(self) -> None:
        """Start the threads.

        Raises:
            OSError: There are not enough of them.
        """
        torch_info.answer()
        shared = self._make_runner(0) if self._gives_once else None  # they share the iterator
        try:
            for worker in range(self._job.workers):
                self._begin(shared or self._make_runner(worker), worker)
        except OSError:
            with contextlib.suppress(StopTimeout):
                self.stop(0)
            raise
        with self._condition:
            self.pump()

    def _make_runner(self, worker: int) -> AnyRunner:
        job, ledger = self._job, self._ledger
        share = ledger.cursor.lane_share
        parts = Parts(
            job.source, job.info(worker), context.begin_batch, job.samples, in_slot=False, num_lanes=share.total,
            endless=share.is_endless, skips=job.plan.skips,
        )  # fmt: skip
        return make_runner(job.form, parts)

    def _begin(self, runner: AnyRunner, worker: int) -> None:
        name = f"mpqueue-worker-{worker}"
        thread = threading.Thread(target=self._run, args=(worker, runner), name=name, daemon=True)
        with self._condition:  # with which it looks for itself among the threads
            try:
                thread.start()
            except RuntimeError as error:  # "can't start new thread"
                raise OSError(errno.EAGAIN, f"{error}; check `ulimit -u` and `ulimit -v`") from error
            self._threads[worker] = thread  # one that has not begun cannot be joined

    def pump(self) -> None:
        """Deal a work item, and wake a thread for it, or the one whose it is."""
        for work_item in self._ledger.deal():
            (self._lanes[self._worker_of(work_item.lane)] if self._lanes else self._dealt).append(work_item)
        self._wake_worker()

    def _worker_of(self, lane: int) -> int:
        return lane % len(self._lanes)

    def _wake_worker(self) -> None:
        """Wake one: who takes a work item wakes the next, if there is another. All of them would fight for the lock."""
        if self._lanes:
            self._condition.notify_all()
        elif self._num_coming < self._num_idle and (self._pace_ns >= _QUICK_NS or not (self._busy or self._num_coming)):
            self._num_coming += 1
            self._condition.notify()

    def take_in(self, head: int | None, *, may_fail: bool = True) -> bool:  # noqa: ARG002 - nothing lacks memory
        """See to what takes too long; what is done the threads have entered themselves."""
        if self._wakeup is not None:
            self._wakeup.clear()
        if head is None:
            return False
        ready = self._ledger.ready
        if self._stuck is not None:
            ready[head] = self._stuck
        elif self._job.options.batch_timeout is not None:
            self._give_up_overdue(self._job.options.batch_timeout)
        if head in ready:
            return True  # and not for another one that is there: a `pause` would look again and again, with the lock
        if self._pace_ns < _QUICK_NS:
            if self._asked[0] != head:
                self._asked = head, time.monotonic()
            elif time.monotonic() >= self._asked[1] + _PATIENCE_S:  # what is at work is slow: whoever sleeps shall help
                self._pace_ns = float(_QUICK_NS)
                self._condition.notify_all()
        self._ledger.is_waiting = True
        self._tell_of_slow()
        self._ledger.is_waiting = False
        return False

    def wait(self, head: int, timeout_s: float | None) -> None:
        """Sleep until a batch is done, a time is over, or somebody wakes us."""
        self._sleep(head, timeout_s)

    def timeout_s(self) -> float | None:
        """Return the seconds until a batch takes too long; None: nothing does, whatever it takes."""
        waits = [self._slow.time_left_s(), _PATIENCE_S if self._pace_ns < _QUICK_NS else None]
        timeout_s = self._job.options.batch_timeout
        if timeout_s is not None:
            now = time.monotonic()  # and that long if nothing is at work yet: nobody tells us when it begins
            since = min((at_work.since for at_work in self._working.values()), default=now)
            waits.append(max(0.0, since + timeout_s - now))
        return min((wait for wait in waits if wait is not None), default=None)

    def _tell_of_slow(self) -> None:
        """Tell of the batch that is waited for too long, if there is one, and where its thread is."""
        work_item = self._slow.overdue()
        if work_item is None:
            return
        worker = next((worker for worker, at_work in self._working.items() if at_work.work_item is work_item), None)
        if worker is None:
            self._slow.tell(work_item, "no thread has begun it, because all are busy", "")
        else:
            who = f"worker {worker} (thread {self._threads[worker].name!r} of pid {os.getpid()}) is here"
            self._slow.tell(work_item, who, self._stack_of(worker))

    def _stack_of(self, worker: int) -> str:
        frame = sys._current_frames().get(self._threads[worker].ident or 0)
        return "".join(traceback.format_stack(frame))

    def _sleep(self, head: int, timeout_s: float | None) -> None:
        """Without the pipeline's lock, until this work item is answered (or any, without an order), or `wake`.

        A condition would not do: a `stop` in a signal handler that strikes just before the wait would not be seen.
        """
        # As threading.Condition does it: all levels of a re-entrant lock. In C, which notes what it has done.
        lock: Any = self._condition._lock  # type: ignore[attr-defined]
        states: list[Any] = []
        take_back = map(lock._acquire_restore, states)  # as it is by then: nothing that was not released
        struck: list[BaseException] = []
        waker = threading.Lock()
        waker.acquire()
        self._consumers[waker] = head
        try:
            if not self._ledger.is_closed:
                states.extend(starmap(lock._release_save, ((),)))
                waker.acquire(timeout=-1 if timeout_s is None else timeout_s)
        except BaseException as error:
            struck = [error]
        # From the `except` to here, and in here, Python looks for no signals: nobody leaves without the lock.
        _ = [*take_back]
        self._consumers.pop(waker, None)
        if struck:
            raise struck.pop()  # out of a list: a variable would hold it, and it this frame with all of the backend

    def _wake_consumers(self, number: int | None = None) -> None:
        """Wake those who wait for this work item, or all: to be woken for another one costs two switches of threads."""
        if self._wakeup is not None:
            self._wakeup.wake()
        for waker, head in list(self._consumers.items()):
            if number is not None and number != head and self._ledger.is_ordered:
                continue
            with contextlib.suppress(RuntimeError):  # released by another
                waker.release()

    def _give_up_overdue(self, timeout_s: float) -> None:
        """Answer work items that take too long with an error, and give their threads up."""
        for worker, (work_item, since, is_wanted) in list(self._working.items()):
            if time.monotonic() < since + timeout_s:
                continue
            outcome = Result.failed(BatchTimeout(work_item.unit, work_item.epoch, timeout_s, self._stack_of(worker)))
            if not self._ledger.is_stream:
                self._begin(self._make_runner(worker), worker)  # first: if there is none to be had, nothing has changed
            del self._working[worker]
            if is_wanted:
                self._ledger.ready[work_item.number] = outcome
            if self._ledger.is_stream:
                self._stuck = outcome

    def cancel(self) -> None:
        """Forget what was dealt; items at work are dropped when they are done, and given up if they take too long."""
        super().cancel()
        for queue in (self._dealt, *self._lanes):
            queue.clear()
        self._working = {worker: at_work._replace(is_wanted=False) for worker, at_work in self._working.items()}
        self._wake_consumers()  # nobody will answer the work items that they wait for

    def reset(self, *, anew: bool = False) -> None:
        """Forget what was dealt, and wake all: a thread that was counted as woken may not have been.

        A lane that is behind the place by now is opened anew, from its last snapshot.

        Raises:
            RuntimeError: The source is a generator object, which does not give its elements again.
        """
        self._num_coming = 0
        self._condition.notify_all()
        super().reset(anew=anew)

    def is_stale(self) -> bool:
        """Threads work on the caller's own source: nobody knows what it was when they computed ahead from it."""
        return True

    def wake(self) -> None:
        """End each `wait`, and make `fileno` readable."""
        self._wake_consumers()

    def stop(self, timeout_s: float | None) -> None:
        """End the threads that wait; those at work end after their item, and are waited for only so long."""
        if self._tensorflow is not None:
            self._tensorflow.end()
        with self._condition:
            self._is_stopped = True
            busy = set(self._busy)
            if self._gives_once:
                for thread in busy:
                    active_iterators.leave(thread, self._job.source)
            self._condition.notify_all()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads.values():
            if thread is threading.current_thread() or (thread in busy and deadline is None):
                continue
            allow_signals(thread.join, None if deadline is None else max(0.0, deadline - time.monotonic()))
        stragglers = tuple(thread.name for thread in self._threads.values() if thread in busy and thread.is_alive())
        if self._wakeup is not None:
            self._wakeup.close()
        if stragglers and deadline is not None and timeout_s is not None:
            raise StopTimeout(stragglers, timeout_s)

    def _run(self, worker: int, runner: AnyRunner) -> None:
        try:
            self._serve(worker, runner)
        finally:
            if isinstance(runner, SampleRunner):
                runner.end()
            active_iterators.end(threading.current_thread())

    def _serve(self, worker: int, runner: AnyRunner) -> None:
        broken, time_at, done = None, 0, clock_ns()
        tally = self._tallies[worker]
        work_item, is_new = self._await_work_item(worker), True
        while work_item is not None:
            waited_ns, started = clock_ns() - done, clock_ns()
            if is_new:  # not before there is a work item: what hangs is found by the time that its work item takes
                is_new, broken = False, self._initialise(worker)
                if self._gives_once:
                    active_iterators.await_end(self._job.source)
                    if self._is_stopped:
                        return  # and takes no element of it
            stages = Stages() if started >= time_at else None  # see mpqueue.telemetry.recorder
            outcome = self._compute(runner, worker, work_item, stages) if broken is None else Result.failed(broken)
            if not self._own[0]:  # before the lock, which another thread may have held in the moment of the fork
                leave_as_child()
            done = clock_ns()
            shared_generator_check = self._shared_generator_check
            if shared_generator_check is not None:
                self._shared_generator_check = None
                shared_generator_check.tell()
            with self._condition:  # once for both: what it has done, and what comes next
                # At most four times as long as a quick one: a lost CPU is no slow batch.
                self._pace_ns += (min(done - started, 4 * _QUICK_NS) - self._pace_ns) / 16
                tally.compute_ns += done - started
                tally.wait_ns += waited_ns
                if stages is not None:
                    time_at = started + EVERY_NS
                    times = done - started, 0, waited_ns, stages.seed_ns, stages.collate_ns
                    tally.time(*times, beside_ns=stages.beside_ns)
                    outcome = self._draw(outcome, worker, work_item, started, times)
                if outcome.rows:
                    self._job.recorder.add_stages(outcome.rows, 1 if self._lanes else tally.weight)
                tally.batches += 1
                self._answer(worker, work_item, outcome)
                del outcome  # or this thread would keep the batch alive until its next one
                work_item = self._await_work_item(worker)

    def _answer(self, worker: int, work_item: WorkItem, outcome: Result) -> None:
        """Hand in what was done, unless nobody wants it any more."""
        at_work, ledger = self._working.get(worker), self._ledger
        if at_work is None or at_work.work_item is not work_item or self._is_stopped:
            return
        del self._working[worker]
        if not at_work.is_wanted:
            return
        snapshot = outcome.snapshot
        if snapshot is not None:
            ledger.lanes.note(work_item.lane, work_item.unit + 1, snapshot)
        ledger.ready[work_item.number] = outcome
        self._wake_consumers(work_item.number)

    def _draw(
        self,
        outcome: Result,
        worker: int,
        work_item: WorkItem,
        began_ns: int,
        stages_ns: tuple[int, int, int, int, int],
    ) -> Result:
        """Draw a batch in the timeline, if there is one; return its outcome, which tells when it is taken."""
        timeline = self._job.recorder.timeline
        if timeline is None or not outcome.is_plain:
            return outcome
        of_work_item = work_item.number, work_item.epoch, work_item.unit
        if not timeline.batch(worker, of_work_item, began_ns, stages_ns):
            return outcome
        return NotifyingResult(outcome, lambda began: timeline.take(of_work_item, began))

    def _await_work_item(self, worker: int) -> WorkItem | None:
        """Wait for work; None: there will be none, or another thread has taken this one's place."""
        me = threading.current_thread()
        with self._condition:
            self._busy.discard(me)
            if self._threads[worker] is not me:
                return None  # it took too long, and has a successor
            while (work_item := self._take(worker)) is None and not self._is_stopped:
                self._num_idle += 1
                self._condition.wait()
                self._num_idle -= 1
                self._num_coming = max(0, self._num_coming - 1)
            if work_item is None or self._is_stopped:
                return None
            self._busy.add(me)
            self._working[worker] = _AtWork(work_item, time.monotonic(), is_wanted=True)
            ledger = self._ledger
            if not self._lanes and (self._dealt or ledger.num_outstanding < ledger.allowance):
                self._wake_worker()
            return work_item

    def _compute(self, runner: AnyRunner, worker: int, work_item: WorkItem, stages: Stages | None) -> Result:
        job = self._job
        unit, given = self._work_of(work_item, runner)
        context.enter_thread(job.info(worker), job.source, is_seed_given=job.plan.seed_given)
        try:
            if stages is None:
                return Result.of(runner.run(work_item.epoch, unit, given))
            with stages.of(runner):
                return Result.of(run_timed(job.source, stages, runner.run, work_item.epoch, unit, given))
        except StreamEnd as ended:
            return self._ended(work_item, runner, ended)
        except BaseException as error:
            if not self._own[0]:
                leave_as_child(error)
            if isinstance(error, KeyboardInterrupt):
                return Result.failed(error)
            return self._failed(work_item, unit, runner, error)
        finally:
            context.enter_thread(None)

    def _initialise(self, worker: int) -> BaseException | None:
        worker_init = self._job.options.worker_init
        if worker_init is None:
            return None
        context.enter_thread(self._job.info(worker), self._job.source)
        try:
            worker_init()
        except BaseException as error:
            if not self._own[0]:
                leave_as_child(error)
            return failures.never_an_exit(error) if isinstance(error, SystemExit) else error
        finally:
            context.enter_thread(None)
        return None

    def _take(self, worker: int) -> WorkItem | None:
        if self._is_stopped:
            return None
        try:
            if not self._lanes:
                self._dealt.extend(() if self._dealt else self._ledger.deal())
                return self._dealt.popleft() if self._dealt else None
            while not self._lanes[worker]:
                dealt = self._ledger.deal()
                if not dealt:
                    return None
                for work_item in dealt:
                    self._lanes[self._worker_of(work_item.lane)].append(work_item)
                if self._worker_of(dealt[0].lane) != worker:
                    self._condition.notify_all()
            return self._lanes[worker].popleft()
        except Exception as error:
            self._ledger.fail(error)
            self._wake_consumers()
            return None
