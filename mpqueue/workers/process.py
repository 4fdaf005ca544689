"""The backend of worker processes: what the pipeline calls, and which part of the pool sees to it.

    pump ---> dispatcher
    take_in -> pressure, poll -+--> dispatcher.drain --notices--> supervision.route
                               +--> supervision.take_exits
    refresh, reset ----------------> source_sync, supervision

The parts, and what they share, are described in `mpqueue.workers.pool`. Everything here happens in the consumer's own
calls, under the pipeline's lock; workers run ahead on what they hold.

*Interrupts.* Ctrl-C may strike between the read of a report and its entry. The next call notices, and starts all
workers anew: what was lost with the report is computed again.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mpqueue.engine import queue_address
from mpqueue.engine.ledger import Ledger
from mpqueue.memory.ring import Ring
from mpqueue.system import platform_support
from mpqueue.system.interrupts import defer_signals, is_of_handler
from mpqueue.system.wakeup import Wakeup
from mpqueue.telemetry.stats import Statistics, summed, workers_of
from mpqueue.transport.poller import READABLE
from mpqueue.worker.config import WorkerConfig
from mpqueue.workers import incidents
from mpqueue.workers.crash_attribution import Tolerance, worker_died
from mpqueue.workers.dispatcher import Dispatcher
from mpqueue.workers.hang import HangWatch, SlowWatch
from mpqueue.workers.job import INTERRUPTED, Job
from mpqueue.workers.lane_owners import LaneOwners
from mpqueue.workers.memory_pressure import MemoryPressure
from mpqueue.workers.pool import WorkerPool
from mpqueue.workers.roster import Roster
from mpqueue.workers.source_sync import SourceSync
from mpqueue.workers.supervision import Supervision

if TYPE_CHECKING:
    from mpqueue.workers.autosize import Autosize, SizeCounts

# For batches of a few microseconds a sleep and a wake-up cost more than the batch. So with cheap ones the consumer
# gives up its CPU so many times before it sleeps, to a worker that would run there, and finds several batches when it
# is back: tiny batches come at 1.05 times the rate, small ones made in place at 1.17, and for small ones the trainer
# needs a third less CPU.
_MAX_YIELDS = 10
_MEMORY_SHARE = 0.8
_THREAD_GAIN = 2.0  # samples per second that threads must promise before the log mentions them


class ProcessBackend:
    """A pool of worker processes and its ring.

    Args:
        ledger: Whose work items it runs.
        sync: The source, and the launcher of workers that have it.
        job: What they run, and the options of it.

    Attributes:
        chunk: How many work items are worth a `pump`.
        low_water: Pump even for one work item while fewer than this are in flight.
        tells_changes: False if the workers have inherited their source.
        may_begin_ahead: Workers read their grants here, and can look at the next one.
        pump: Deals what credit and slots allow.
    """

    may_begin_ahead = True
    pool: WorkerPool  # these are there from `start` on
    pressure: MemoryPressure
    dispatcher: Dispatcher
    pump: Callable[[], None]
    supervision: Supervision
    _hang: HangWatch | None
    _slow: SlowWatch
    _wakeup: Wakeup
    _auto: "Autosize | None" = None
    _may_hint_threads = False

    def __init__(self, ledger: Ledger, sync: SourceSync, job: Job) -> None:
        self.chunk = 1
        self.low_water = 2 * job.workers
        self.tells_changes = not sync.is_inherited
        self.ledger, self.sync, self.job = ledger, sync, job
        self._events: Sequence[tuple[int, int]] = ()  # that have ended a wait, and are to be taken in
        self._is_resizing = False

    def start(self) -> None:
        """Make the ring, start the workers, and set them to work.

        Raises:
            OSError: The ring, a pipe or a process could not be made; nothing is left behind.
            Exception: What unpickling the source raised.
        """
        with defer_signals(), contextlib.ExitStack() as undo:
            undo.callback(self.sync.drop)
            self.sync.begin()
            self._open(undo)
            self.supervision.ask_for_workers()
            self.pump()  # grants wait in the pipes: the first worker computes while the next is forked
            self.supervision.await_workers()
            undo.pop_all()
        incidents.report_ring(self.pool.ring, "the workers run")

    def _open(self, undo: contextlib.ExitStack) -> None:
        """Make all but the workers; ``undo`` unmakes it."""
        job, options = self.job, self.job.options
        plan = job.ring
        ring = Ring(
            self.ledger.credit,
            job.workers,
            copy=options.copy,
            guard=job.guard,
            kind=plan.kind,
            num_spare=plan.num_spare,
            recorder=job.recorder,
        )
        undo.callback(ring.close)
        with_stacks = platform_support.HAS_REAL_TIME_SIGNALS or options.batch_timeout is not None
        roster = Roster(ring.segment.fd, self._configure(ring), with_stacks=with_stacks)
        undo.callback(roster.close, reusable=False)
        self._wakeup = Wakeup()
        undo.callback(self._wakeup.close)
        roster.poller.register(self._wakeup.fd, READABLE)
        owners = LaneOwners(self.ledger.cursor, job.workers) if self.ledger.is_stream else None
        self.pool = WorkerPool(self.ledger, ring, roster, owners)
        self.pressure = MemoryPressure(self.pool, can_replay=job.can_replay)
        tallies = job.recorder.expect(job.workers)
        self.dispatcher = Dispatcher(self.pool, self.pressure, tallies, plan.work)
        can_mark = job.plan.source.can_mark
        tolerance = Tolerance(
            int(options.restarts), job.workers, job.can_replay, options.batch_timeout, can_mark,
            begins_ahead=self.may_begin_ahead and job.has_threads and options.restarts > 0,
        )  # fmt: skip
        self.pump = self.dispatcher.pump
        self.supervision = Supervision(self.pool, self.sync, self.dispatcher, self.pressure, tolerance)
        if job.is_auto or job.finds_threads:
            from mpqueue.workers.autosize import MOST_THREADS, Autosize, Size

            first = Size(1 if job.is_auto else job.workers, 1)
            most = Size(job.workers, MOST_THREADS if job.finds_threads else 1)
            self._auto = Autosize(first, most, time.monotonic())
            self._may_hint_threads = job.may_thread and not job.has_threads
            self.supervision.wanted = first.workers
            self.dispatcher.resize(first.workers)
        self._slow = SlowWatch(self.ledger, roster)
        self._hang = HangWatch(roster, options.batch_timeout) if options.batch_timeout is not None else None

    def _configure(self, ring: Ring) -> Callable[[int], WorkerConfig]:
        """Return what a worker is started with, by its number."""
        # Not `self`: a cycle would keep the source until a garbage collection.
        job, share = self.job, self.ledger.cursor.lane_share
        common = WorkerConfig(
            job.info(0), share.total, ring.segment.size,
            ring.segment.kind, ring.stride, job.options.max_batch_bytes,
            queue_directory=queue_address.directory_for_workers(),
            is_endless=share.is_endless, skips=job.plan.skips,
        )  # fmt: skip

        def config_of(number: int) -> WorkerConfig:
            return common._replace(info=common.info._replace(id=number))

        return config_of

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to take in."""
        return self.pool.roster.poller.fileno()

    @property
    def has_waiting(self) -> bool:
        """True if work items or workers wait for slots or memory to come free."""
        return bool(self.pool.pending) or (self.pressure.is_known and self.pressure.has_starved)

    @property
    def is_calm(self) -> bool:
        """True if nothing is to be done before a worker reports something."""
        supervision = self.supervision
        return not (self.has_waiting or supervision.vacant or supervision.lost is not None)

    def take_in(self, head: int | None, *, may_fail: bool = True) -> bool:
        """Take in reports and exits that have come.

        Args:
            head: The work item that is asked for; None: somebody only looks.
            may_fail: No memory will come free without it.

        Returns: False if nothing has arrived.
        """
        pool, supervision, dispatcher = self.pool, self.supervision, self.dispatcher
        # What could not be started at the last call is tried again at this one: nobody waits for it without an end.
        if supervision.vacant and not self._run_supervised(supervision.take_exits):
            return True
        if self._auto is not None and not self._look_at_number(self._auto):
            return True
        if supervision.lost is not None and head is not None:  # nobody else would report anything
            self.ledger.fail(worker_died(supervision.lost))
            return True
        num_ready = len(pool.ready)
        if pool.pending:
            dispatcher.pump()
        else:
            dispatcher.reuse()
        if pool.pending or self.pressure.is_known:  # else nobody waits for memory
            self.pressure.relieve(dispatcher.pump, may_fail=may_fail and head not in pool.ready)
        if len(pool.ready) != num_ready:
            return True  # a work item was given up, of which no event will tell
        # Since the `wait` another thread, or the lines above, may have had workers replaced, and a number may be a new
        # worker's by now. It is only a hint: each pipe is read without blocking, and one that is empty is left alone.
        events, self._events = self._events, ()
        if not events:  # else they have ended a `wait`
            self.ledger.is_waiting = True  # safe to interrupt: what has come is still there
            if head is not None and dispatcher.chunk > 1:
                os.sched_yield()  # see `_MAX_YIELDS`
            events = pool.roster.poller.poll(0)
            self.ledger.is_waiting = False
        if not events:
            self._look_at_clocks(tells_slow=head is not None)
        has_exits = False
        for fd, _ in events:
            worker = pool.roster.by_reports.get(fd)
            if worker is not None:
                notices = dispatcher.drain(worker)
                if notices:
                    supervision.route(worker, notices)
            elif fd == self._wakeup.fd:
                self._wakeup.clear()
            else:
                has_exits = True  # of the launcher, or of a worker that was silenced meanwhile
        self.chunk = dispatcher.lot
        # Behind the reports: what is reaped closes descriptors, whose numbers new workers get, and these events are of
        # those that had them before.
        if has_exits:
            self._run_supervised(supervision.take_exits)
        return bool(events)

    def _look_at_clocks(self, *, tells_slow: bool) -> None:
        """Do what time alone brings; who only looks how many are ready is not to wait for a worker's stacks."""
        if self._hang is not None:
            self._hang.end_hanging()
        if tells_slow:
            self.ledger.is_waiting = True  # safe to interrupt
            self._slow.look()
            self.ledger.is_waiting = False
        if self.pool.roster.dying:
            self._run_supervised(self.supervision.give_up_overdue)

    def _look_at_number(self, auto: "Autosize") -> bool:
        """Have as many workers as pay; return False if that failed, which is the consumer's next error."""
        now = time.monotonic()
        if now >= auto.looks_at and auto.look(now, self._counts(), self._has_room):
            incidents.report_resize(str(auto.wanted), auto.steps[-1].reason)
            self.job.recorder.mark(f"{auto.wanted}: {auto.steps[-1].reason}")
            self._is_resizing = True
        if self._may_hint_threads and (gain := auto.thread_gain()) >= _THREAD_GAIN:
            self._may_hint_threads = False
            incidents.report_threads_would_help(gain)
        if not self._is_resizing:
            return True
        is_done = False

        def resize() -> None:
            nonlocal is_done
            self.supervision.use_threads(auto.wanted.threads)
            is_done = self.supervision.resize(auto.wanted.workers)

        has_failed = not self._run_supervised(resize)
        self._is_resizing = not is_done
        return not has_failed

    def _counts(self) -> "SizeCounts":
        from mpqueue.workers.autosize import SizeCounts

        tallies = self.dispatcher.tallies
        return SizeCounts(
            sum(tally.batches for tally in tallies),
            self.job.recorder.waited_ns / 1e9,
            sum(tally.compute_ns + tally.copy_ns for tally in tallies) / 1e9,
            sum(sum(tally.blocked.counts) for tally in tallies),
            # Of the workers' own threads, as the seconds of work above are: else helpers that wait count several times.
            sum(tally.blocked.total_ns - tally.blocked_beside_ns for tally in tallies) / 1e9,
        )

    def _has_room(self, count: int) -> bool:
        """Return whether so many more workers, as large as the largest, take at most 80 % of what is left."""
        from mpqueue.system.limits import free_memory

        largest = max((_resident_bytes(pid) for pid in self.pool.roster.pids.values()), default=0)
        return count * largest <= _MEMORY_SHARE * free_memory()

    def wait(self, head: int, timeout_s: float | None) -> None:  # noqa: ARG002 - whatever comes is taken in
        """Sleep until something comes, a time is over, or `wake`."""
        self._events = self._poll(timeout_s)

    def _poll(self, timeout_s: float | None) -> Sequence[tuple[int, int]]:
        poll = self.pool.roster.poller.poll
        if timeout_s != 0 and self.dispatcher.chunk > 1:
            for _ in range(_MAX_YIELDS):
                os.sched_yield()
                if events := poll(0):
                    return events
        return poll(timeout_s)

    def _run_supervised(self, supervise: Callable[[], None]) -> bool:
        """Have workers reaped and replaced; return False if that failed, which is the consumer's next error."""
        try:
            with defer_signals():
                supervise()
        except Exception as error:
            if is_of_handler(error):
                raise
            self.ledger.fail(error)
            return False
        self.pump()  # what the dead had is pending
        return True

    def timeout_s(self) -> float | None:
        """Return the seconds after which something is to be done though nothing has arrived; None: there is nothing."""
        waits = [self.dispatcher.balance(), self._slow.time_left_s()]
        if self._hang is not None:
            waits.append(self._hang.time_left_s())
        if self.pool.roster.dying:
            waits.append(self.supervision.overdue_in_s())
        return min((wait for wait in waits if wait is not None), default=None)

    # -- Epochs and the end

    def cancel(self) -> None:
        """Forget all work items; what is at work is dropped when it is done."""
        self.pool.cancel()
        self.pressure.cancel()

    def is_stale(self) -> bool:
        """Return whether the workers have an older version of the source, or nobody knows."""
        return self.sync.is_stale()

    def refresh(self) -> None:
        """Make the workers compute from the source's present state."""
        incidents.report_ring(self.pool.ring, f"epoch {self.ledger.epoch} begins")
        with defer_signals():
            if self.pool.owners is not None:
                self.pool.owners.forget_places()
            if not self.sync.refresh(self.pool):
                self.supervision.start_anew()

    def reset(self, *, anew: bool = False) -> None:
        """End all workers, forget all work items, and begin anew: an interrupt may have left anything inconsistent.

        Raises:
            RuntimeError: The source is a generator object, which cannot give again what is lost.
        """
        roster = self.pool.roster
        with defer_signals():  # its waits let signals through; elsewhere a process, or a descriptor, would be forgotten
            roster.end_workers(None, is_urgent=True)
            # Not reaped: what they have reported is of work items that are forgotten.
            while roster.gone:
                roster.gone.pop().close()
            self.pool.forget_work_items()
            self.sync.forget_loading()
            self.pressure.reset()
            self.pool.ring.reset()
            if not (self.job.can_replay or anew):
                raise RuntimeError(INTERRUPTED)
            self.supervision.ask_for_workers()
            self.supervision.await_workers()

    def wake(self) -> None:
        """End a `wait`, and make `fileno` readable."""
        self._wakeup.wake()

    def stop(self, timeout_s: float | None) -> None:
        """End the workers, park the fork server, let go of the ring.

        Raises:
            StopTimeout: Some workers did not end in time.
        """
        reusable, roster = False, self.pool.roster
        with defer_signals():
            try:
                roster.end_workers(timeout_s)
                reusable = True
            finally:
                incidents.report_ring(self.pool.ring, "the end")
                roster.close(reusable=reusable)
                self._wakeup.close()
                self.pool.ready.clear()
                self.pool.ring.close()

    def statistics(self) -> Statistics:
        """Return the counters; takes no lock, so that a monitoring thread never waits for a consumer."""
        ring, pids = self.pool.ring, self.pool.roster.pids
        slots = ring.slots
        sizes = {number: _resident_bytes(pid) for number, pid in pids.items()}
        ring.enter_leases()
        resizes = () if self._auto is None else tuple(self._auto.steps)
        most = max((step.workers for step in resizes), default=self.job.workers)
        copies, moved = ring.num_copies, ring.num_moved
        asked = copies - moved if self.job.options.copy else 0
        return replace(
            summed(workers_of(self.job.recorder, pids, sizes)[:most]),  # no more have ever been there
            resizes=resizes,
            slots_in_use=slots.num_slots - slots.num_free,
            num_slots=slots.num_slots,
            copies=copies,
            copies_asked=asked,
            copies_held=copies - moved - asked,
            copies_moved=moved,
            retries=self.pool.num_retries,
            deaths=self.supervision.num_deaths,
            restarts=self.supervision.num_restarts,
            ring_bytes=slots.bytes_reserved(),
            ring_kind=ring.segment.kind,
            worker_rss_bytes=tuple(sizes.values()),
        )


def _resident_bytes(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0
