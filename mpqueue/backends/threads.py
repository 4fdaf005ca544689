"""The backend of worker threads.

Threads take work items under the pipeline's lock and compute without it. They are daemon threads, and `stop` does not
wait for items in progress: idle threads exit at once, busy ones after their item. Until then, their user code runs, but
caches store no results, see `context.has_stopped`. (A later start with the same generator object waits for them, see
`active_iterators`.) A thread that exceeds `batch_timeout` is abandoned with its item, and a new thread replaces it.
Threads use the caller's own source, and share the global random generators: only `mpqueue.rng()` is reproducible here.

If user code forks in such a thread, the child has only that thread and no consumer: it exits when the user's code
returns or raises.
"""

import contextlib
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from mpqueue.backends import active_iterators
from mpqueue.backends.in_process import InProcessBackend, LocalWork
from mpqueue.backends.job import Job
from mpqueue.backends.processes.hang import Looks, SlowBatch
from mpqueue.backends.waiting_consumers import WaitingConsumers
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.outcomes import NotifyingResult, Result
from mpqueue.errors import BatchTimeout, StopTimeout
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.system.processes.exit import leave_as_child
from mpqueue.system.processes.own_process import ProcessMark, make_mark
from mpqueue.system.signals.deferred import allow_signals
from mpqueue.system.signals.exceptions import matches
from mpqueue.system.signals.joined_threads import start_thread
from mpqueue.system.signals.locks import is_owned
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.stages import BlockedLooks, Stages
from mpqueue.telemetry.worker_stats import WorkerTally
from mpqueue.worker import context, failures, torch_info
from mpqueue.worker.concurrency.async_sources import close_in_loop
from mpqueue.worker.concurrency.stuck import awaited_by
from mpqueue.worker.random_state import tensorflow_rng
from mpqueue.worker.random_state.shared_generator_check import SharedGeneratorCheck
from mpqueue.worker.runners.runner import SourceRunner, StreamEnd, run_timed

# Python runs one thread at a time. If a batch takes less time than a switch to another thread, the threads that are
# awake do all the work, and no other is woken: with eight threads, waking them costs a fifth of the rate.
_QUICK_NS = 50_000  # average per batch
# A single slow batch blocks the others until the consumer has waited this long.
_PATIENCE_S = 0.001


class _Task(NamedTuple):
    """The work item of a busy thread, its start, and whether the outcome is still needed."""

    work_item: WorkItem
    since: float
    is_wanted: bool


class _Computation:
    """The computation of a thread's work items, without the lock of the pipeline.

    Args:
        worker: The index of the worker.
        runner: The runner of the worker, or of all workers if they share an iterator.
        work: The work items.
        job: The job.
        own: The mark of this process.
        has_stopped: Returns whether the backend was stopped. It must not refer to the backend.
    """

    def __init__(
        self,
        worker: int,
        runner: SourceRunner,
        work: LocalWork,
        job: Job,
        own: ProcessMark,
        has_stopped: Callable[[], bool],
    ) -> None:
        self.worker, self.runner, self._info = worker, runner, job.info(worker)
        self._work, self._job, self._own, self._has_stopped = work, job, own, has_stopped

    def initialise(self, loops: list[Any]) -> BaseException | None:
        """Call `worker_init`, which adds the event loop to the list; return its error."""
        init = self._job.init
        if init is None:
            return None
        context.enter_thread(self._info, self._job.source, has_stopped=self._has_stopped)
        try:
            loops.append(init())
        except BaseException as error:
            if not self._own[0]:
                leave_as_child(error)
            return failures.never_an_exit(error) if matches(error, SystemExit) else error
        finally:
            context.enter_thread(None)
        return None

    def compute(self, work_item: WorkItem, stages: Stages | None, looks: BlockedLooks) -> Result:
        """Return the outcome of a work item; ``stages`` receives its times if it is a timed one."""
        job, runner, work = self._job, self.runner, self._work
        index, argument = work.arguments(work_item, runner)
        context.enter_thread(
            self._info, job.source, is_seed_given=job.plan.seed_given, own=self._own, has_stopped=self._has_stopped
        )
        try:
            if stages is None:
                return work.outcome(runner.run(work_item.epoch, index, argument))
            with looks.at(stages), stages.of(runner):
                return work.outcome(run_timed(job.source, stages, runner.run, work_item.epoch, index, argument))
        except StreamEnd as ended:
            return work.ended(work_item, runner, ended)
        except BaseException as error:
            if not self._own[0]:
                leave_as_child(error)
            return work.failed(work_item, index, runner, error)
        finally:
            context.enter_thread(None)


class ThreadBackend(InProcessBackend):
    """Worker threads.

    Args:
        ledger: The ledger of the work items.
        lock: Guards the ledger.
        job: The job to run.
    """

    def __init__(self, ledger: Ledger, lock: threading.RLock, job: Job) -> None:
        super().__init__(ledger, job)
        self._lock = lock
        self._condition = threading.Condition(lock)  # threads wait on it for work
        self._consumers = WaitingConsumers(ledger, lock)
        self._own = make_mark()
        self._has_lanes = ledger.is_stream and not self._gives_once
        # Work items by worker if each lane has an owner; otherwise all workers share one queue.
        self._queues = [deque[WorkItem]() for _ in range(job.workers if self._has_lanes else 1)]
        if self._has_lanes and not ledger.is_ordered:
            workers = job.workers
            ledger.owner_of = lambda lane: lane % workers  # same as `_queue_of`, without a reference to this backend
        self._runner_of: dict[int, SourceRunner] = {}
        self._working: dict[int, _Task] = {}  # by worker
        self._busy: set[threading.Thread] = set()  # threads in user code
        self._num_idle = self._num_coming = 0  # threads that wait for work, and the number of woken ones among them
        self._stuck: Result | None = None  # after a hang of a stream: the outcome of all its work items
        self._threads: dict[int, threading.Thread] = {}
        self._pace_ns = float(_QUICK_NS)  # moving average of the time per batch, with a weight of 1/16 for the latest
        self._tallies = [WorkerTally() for _ in range(job.workers)]
        # Until the first batch is computed.
        self._draw_check = SharedGeneratorCheck() if job.plan.seed_given else None
        self._tensorflow = tensorflow_rng.follow() if job.plan.seed_given else None
        self._slow, self._looks = SlowBatch(ledger, job.samples_of), Looks()
        self._loops: list[Any] = []  # the event loop, if it is the user's, kept until the stop
        self._requested: tuple[int, float] = (-1, 0.0)  # the requested work item, and the time of the request

    def start(self) -> None:
        """Start the threads.

        Raises:
            OSError: No more threads can be started.
        """
        # Before the first batch: user code may call torch's `get_worker_info` in any thread.
        torch_info.answer()
        shared = self._runner_for(0) if self._gives_once else None  # all threads share the iterator
        try:
            for worker in range(self._job.workers):
                self._begin(shared or self._runner_for(worker), worker)
        except OSError:
            # No work was dealt yet, so the threads that were started are idle, and end without a wait.
            with contextlib.suppress(StopTimeout):
                self.stop(0)
            raise
        with self._condition:
            self.pump()

    def _runner_for(self, worker: int) -> SourceRunner:
        return self._work.make_runner(self._job.info(worker), context.begin_batch)

    def _runners(self) -> list[SourceRunner]:
        return list(self._runner_of.values())

    def _begin(self, runner: SourceRunner, worker: int) -> None:
        self._runner_of[worker] = runner
        # Not in an executor: its threads are joined when the interpreter exits, and user code may hang.
        name = f"mpqueue-worker-{worker}"
        computation = _Computation(worker, runner, self._work, self._job, self._own, self._stopped.is_set)
        thread = threading.Thread(target=self._run, args=(computation,), name=name, daemon=True)
        with self._condition:  # under the lock, because the thread looks itself up in `_threads`
            start_thread(thread)
            self._threads[worker] = thread  # only now: a thread that was not started cannot be joined

    def pump(self) -> None:
        """Deal work items, and wake a thread for them, or the owner of the lane."""
        for work_item in self._ledger.deal():
            self._queue_of(work_item.lane).append(work_item)
        self._wake_worker()

    def _queue_of(self, index: int) -> deque[WorkItem]:
        """Return the queue of a lane, or of a worker."""
        return self._queues[index % len(self._queues)]

    def _wake_worker(self) -> None:
        """Wake one thread; it wakes the next for the next work item. Otherwise all would contend for the lock."""
        if self._has_lanes:
            self._condition.notify_all()
        elif self._num_coming < self._num_idle and (self._pace_ns >= _QUICK_NS or not (self._busy or self._num_coming)):
            self._num_coming += 1
            self._condition.notify()

    def take_in(self, head: int | None, *, may_fail: bool = True) -> bool:
        """Handle timeouts; the threads enter their own outcomes."""
        if self._wakeup is not None:
            self._wakeup.clear()
        if head is None:
            return False
        ready = self._ledger.ready
        if self._stuck is not None:
            ready[head] = self._stuck
        elif self._job.patience_s is not None:
            self._give_up_overdue(self._job.patience_s)
        if head in ready:
            return True  # True only for ``head``: for another batch, a `pause` would poll in a loop, with the lock held
        if self._pace_ns < _QUICK_NS:
            if self._requested[0] != head:
                self._requested = head, time.monotonic()
            # The running batch is slow, so sleeping threads must help.
            elif time.monotonic() >= self._requested[1] + _PATIENCE_S:
                self._pace_ns = float(_QUICK_NS)
                self._condition.notify_all()
        self._tell_of_slow()
        return False

    def wait(self, head: int, timeout_s: float | None) -> None:
        """Sleep until a batch is ready, the timeout or `wake`."""
        self._consumers.sleep(head, timeout_s)

    def timeout_s(self) -> float | None:
        """Return the seconds until the first timeout; None if no timeout is set."""
        waits = [self._slow.time_left_s(), _PATIENCE_S if self._pace_ns < _QUICK_NS else None]
        timeout_s = self._job.patience_s
        if timeout_s is not None:
            # If no thread is busy, the full time: a thread that starts later does not notify the consumer.
            now = self._look()
            since = min((task.since for task in self._working.values()), default=now)
            waits.append(self._looks.next_in_s(since + timeout_s - now))
        return min((wait for wait in waits if wait is not None), default=None)

    def _tell_of_slow(self) -> None:
        """Warn of an overdue batch, with the stack of its thread."""
        work_item = self._slow.overdue()
        if work_item is None:
            return
        worker = next((worker for worker, task in self._working.items() if task.work_item is work_item), None)
        if worker is None:
            self._slow.tell(work_item, "no thread has started it, because all are busy", "")
        else:
            thread = self._threads[worker]
            who = f"worker {worker} (thread {thread.name!r} of pid {os.getpid()})"
            awaited = awaited_by(thread.ident or 0)
            if awaited:
                self._slow.tell_awaited(work_item, who, awaited)
            else:
                self._slow.tell(work_item, f"{who} is here", self._stack_of(worker))

    def _stack_of(self, worker: int) -> str:
        frame = sys._current_frames().get(self._threads[worker].ident or 0)
        return "".join(traceback.format_stack(frame))

    def _look(self) -> float:
        """Exclude the time since the last look that does not count for `batch_timeout`; return the time."""
        now = time.monotonic()
        missed_s = self._looks.missed_s(now)
        if missed_s:
            for worker, task in self._working.items():
                self._working[worker] = task._replace(since=min(now, task.since + missed_s))
        return now

    def _give_up_overdue(self, timeout_s: float) -> None:
        """Set a timeout error as the outcome of overdue work items, and abandon their threads."""
        now = self._look()
        for worker, (work_item, since, is_wanted) in list(self._working.items()):
            if now < since + timeout_s:
                continue
            # The thread itself cannot be ended: Python has no safe way to stop a thread in user code.
            stack, samples = self._stack_of(worker), self._job.samples_of(work_item)
            limit_s = self._job.options.batch_timeout or timeout_s
            outcome = Result.failed(BatchTimeout(work_item.source_index, work_item.epoch, limit_s, stack, samples))
            if not self._ledger.is_stream:
                # first: if no thread can be started, the state is unchanged
                self._begin(self._runner_for(worker), worker)
            del self._working[worker]
            if is_wanted:
                self._ledger.ready[work_item.work_id] = outcome
            if self._ledger.is_stream:
                self._stuck = outcome

    def cancel(self) -> None:
        """Discard the dealt work items; items in progress are dropped when they finish or exceed the timeout."""
        super().cancel()
        for queue in self._queues:
            queue.clear()
        self._working = {worker: task._replace(is_wanted=False) for worker, task in self._working.items()}
        self.wake()  # their work items will get no outcome

    def reset(self, *, anew: bool = False) -> None:
        """Discard the dealt work items and wake all threads, because the count of woken ones may be wrong.

        A lane before the present position is opened again from its last snapshot.

        Raises:
            RuntimeError: The source is a generator object, which yields each element only once.
        """
        self._num_coming = 0
        self._condition.notify_all()
        super().reset(anew=anew)

    def is_stale(self) -> bool:
        """Return True: the caller may have changed the source since threads computed ahead."""
        return True

    def wake(self, work_id: int | None = None) -> None:
        """End each `wait`, or that for one work item, and make `fileno` readable."""
        if self._wakeup is not None:
            self._wakeup.wake()
        self._consumers.wake(work_id)

    def stop(self, timeout_s: float | None) -> None:
        """End the idle threads. Busy ones exit after their item; wait for them at most for the timeout."""
        if self._tensorflow is not None:
            self._tensorflow.end()
        # An epoch end hook that stops its own stream holds the lock, which each thread needs to exit.
        is_inside = is_owned(self._lock)
        with self._condition:
            # Under the lock: a thread tests it and then waits, and would miss a notification between the two.
            self._stopped.set()
            busy = set(self._busy)
            if self._gives_once:
                for thread in busy:
                    active_iterators.leave(thread, self._job.source)
            self._condition.notify_all()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            for thread in self._threads.values():
                if is_inside or thread is threading.current_thread() or (thread in busy and deadline is None):
                    continue
                allow_signals(thread.join, None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:  # also if a wait has raised: a second stop has no effect
            if self._wakeup is not None:
                self._wakeup.close()
            if self._job.is_asynchronous:
                close_in_loop(self._job.source)
            self._loops.clear()
        stragglers = tuple(thread.name for thread in self._threads.values() if thread in busy and thread.is_alive())
        if stragglers and deadline is not None and timeout_s is not None:
            raise StopTimeout(stragglers, timeout_s)

    def _run(self, computation: _Computation) -> None:
        try:
            self._serve(computation)
        finally:
            computation.runner.end()
            active_iterators.end(threading.current_thread())

    def _serve(self, computation: _Computation) -> None:
        worker, broken, time_at, done = computation.worker, None, 0, clock_ns()
        tally, looks = self._tallies[worker], BlockedLooks(partial(len, self._busy))
        work_item, is_new = self._await_work_item(worker), True
        while work_item is not None:
            waited_ns, started = clock_ns() - done, clock_ns()
            if is_new:  # only now, so that `batch_timeout` covers a hanging `worker_init`
                is_new, broken = False, computation.initialise(self._loops)
                if self._gives_once:
                    active_iterators.await_end(self._job.source)
                    if self._stopped.is_set():
                        return  # without taking an element
            stages = Stages() if started >= time_at else None  # see `mpqueue.telemetry.recorder`
            outcome = computation.compute(work_item, stages, looks) if broken is None else Result.failed(broken)
            if not self._own[0]:  # before the lock, which another thread may have held at the time of the fork
                leave_as_child()
            done = clock_ns()
            draw_check = self._draw_check
            if draw_check is not None:
                self._draw_check = None
                draw_check.tell()
            with self._condition:  # once for both the outcome and the next work item
                # Limited to four quick batches: a long pause of the CPU is not a slow batch.
                self._pace_ns += (min(done - started, 4 * _QUICK_NS) - self._pace_ns) / 16
                tally.compute_ns += done - started
                tally.wait_ns += waited_ns
                if stages is not None:
                    time_at = started + EVERY_NS
                    take = self._note_times(worker, work_item, stages, started, done - started, waited_ns)
                    if take is not None and outcome.is_plain:
                        outcome = NotifyingResult(outcome, take)
                if outcome.rows:
                    self._job.recorder.add_stages(outcome.rows, 1 if self._has_lanes else tally.weight)
                tally.batches += 1
                self._answer(worker, work_item, outcome)
                del outcome  # otherwise this thread would keep the batch until its next one
                work_item = self._await_work_item(worker)

    def _answer(self, worker: int, work_item: WorkItem, outcome: Result) -> None:
        """Enter an outcome, if it is still needed."""
        task, ledger = self._working.get(worker), self._ledger
        # The task was given up after its timeout, or the backend was stopped: a late outcome has no position in the
        # stream.
        if task is None or task.work_item is not work_item or self._stopped.is_set():
            return
        del self._working[worker]
        if not task.is_wanted:
            return
        snapshot = outcome.snapshot
        if snapshot is not None:
            ledger.lanes.note(work_item.lane, work_item.source_index + 1, snapshot)
        if outcome.parts:
            ledger.counts.parts.note(work_item, outcome.parts)
        ledger.ready[work_item.work_id] = outcome
        self.wake(work_item.work_id)

    def _await_work_item(self, worker: int) -> WorkItem | None:
        """Wait for work; return None if there will be none, or another thread has replaced this one."""
        me = threading.current_thread()
        with self._condition:
            self._busy.discard(me)
            # Its outcome was replaced by a timeout, and two threads must not take work for the same worker.
            if self._threads[worker] is not me:
                return None  # it took too long and was replaced
            while (work_item := self._take(worker)) is None and not self._stopped.is_set():
                self._num_idle += 1
                self._condition.wait()
                self._num_idle -= 1
                # At least 0: `reset` and `stop` notify threads that were not counted.
                self._num_coming = max(0, self._num_coming - 1)
            if work_item is None or self._stopped.is_set():
                return None
            self._busy.add(me)
            self._working[worker] = _Task(work_item, time.monotonic(), is_wanted=True)
            ledger = self._ledger
            if not self._has_lanes and (self._queues[0] or len(ledger.work_items) < ledger.allowance):
                self._wake_worker()
            return work_item

    def _take(self, worker: int) -> WorkItem | None:
        if self._stopped.is_set():
            return None
        try:
            queue = self._queue_of(worker)
            while not queue:
                dealt = self._ledger.deal()
                if not dealt:
                    return None
                # Items are dealt in the order of the stream, so some belong to the lanes of other threads.
                for work_item in dealt:
                    self._queue_of(work_item.lane).append(work_item)
                if self._queue_of(dealt[0].lane) is not queue:
                    self._condition.notify_all()
            return queue.popleft()
        except BaseException as error:
            # User code: a sampler, or the length of the source. The consumer gets the error, and this thread waits on.
            self._ledger.fail(error)
            self.wake()
            return None
