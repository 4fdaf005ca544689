"""The backend of worker processes: the calls of the pipeline, and the part of the pool that handles each.

    pump ---> dispatcher
    take_in -> memory_pressure, poll -+--> dispatcher.drain
                                      +--> supervision.take_exits
    refresh, reset ----------------> source_sync, supervision

`mpqueue.backends.processes.pool` describes the parts and their shared state. Everything here runs in the consumer's
calls, under the pipeline's lock. Workers run ahead with their granted work.

*Interrupts.* Ctrl-C may strike between reading and entering a report. The next call detects that and restarts all
workers: lost work is computed again.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mpqueue.backends.job import INTERRUPTED, Job
from mpqueue.backends.processes import incidents
from mpqueue.backends.processes.crash_attribution import worker_died
from mpqueue.backends.processes.dispatcher import Dispatcher
from mpqueue.backends.processes.hang import HangWatch, SlowBatch, tell_of_slow
from mpqueue.backends.processes.pool import WorkerPool
from mpqueue.backends.processes.ring_memory.memory_pressure import MemoryPressure
from mpqueue.backends.processes.roster import Roster
from mpqueue.backends.processes.source_sync import SourceSync
from mpqueue.backends.processes.supervision import Supervision
from mpqueue.engine.ledger import Ledger
from mpqueue.memory.ring import Ring
from mpqueue.system.processes.limits import free_memory
from mpqueue.system.processes.wakeup import Wakeup
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.units import size_text
from mpqueue.telemetry.stats import Statistics, statistics_of
from mpqueue.transport.poller import READABLE
from mpqueue.worker import queue_address
from mpqueue.worker.config import WorkerConfig

if TYPE_CHECKING:
    from mpqueue.backends.processes.autosize import Autosize, SizeCounts

# For batches of a few microseconds a sleep and a wake-up cost more than the batch. So with cheap batches the consumer
# first yields its CPU this many times, to a worker that would run there, and finds several batches afterwards.
# Measured: 1.05 times the rate for tiny batches, 1.17 times for small ones written in place, and a third less CPU time
# in the trainer for small ones.
_MAX_YIELDS = 10
_MEMORY_SHARE = 0.8
_THREAD_GAIN = 2.0  # minimum speed-up for the hint in the log


class ProcessBackend:
    """A pool of worker processes with its ring.

    Args:
        ledger: The ledger of the work items.
        sync: The source, and the launcher of its workers.
        job: The job to run.

    Attributes:
        chunk: Number of work items that make a `pump` worthwhile.
        low_water: Pump even for one work item while fewer than this are in flight.
        tells_changes: False if the workers have inherited their source.
        may_change_unseen: See `Backend`.
        may_begin_ahead: Workers read their grants on this machine, and can see the next one.
        pump: Grants as many work items as credit and slots allow.
    """

    may_begin_ahead = True
    _auto: "Autosize | None" = None
    _may_hint_threads = False

    def __init__(self, ledger: Ledger, sync: SourceSync, job: Job) -> None:
        self.chunk = 1
        self.low_water = 2 * job.workers
        self.tells_changes, self.may_change_unseen = not sync.is_inherited, job.may_change_unseen()
        self.ledger, self.sync, self.job = ledger, sync, job
        self._events: Sequence[tuple[int, int]] = ()  # results of the last `wait`, still to be processed
        self._is_resizing = False

    def start(self) -> None:
        """Create the ring, start the workers, and grant the first work items.

        Raises:
            OSError: The ring, a pipe or a process could not be created. Everything is released.
            Exception: An error of the source's unpickling.
        """
        with defer_signals(), contextlib.ExitStack() as undo:
            undo.callback(self.sync.drop)
            self.sync.begin()
            self._open(undo)
            self.supervision.ask_for_workers()
            self.pump()  # grants wait in the pipes, so the first worker computes while the next one is forked
            self.supervision.await_workers()
            undo.pop_all()
        incidents.report_ring(self.pool.ring, "the workers run")

    def _open(self, undo: contextlib.ExitStack) -> None:
        """Create everything except the workers; ``undo`` releases it."""
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
        # Undone in reverse order: workers have exited before their ring is closed.
        undo.callback(ring.close)
        roster = Roster(ring.segment.fd, self._configure(ring), is_asynchronous=job.is_asynchronous)
        undo.callback(roster.close, reusable=False)
        self._wakeup = Wakeup()
        undo.callback(self._wakeup.close)
        roster.poller.register(self._wakeup.fd, READABLE)
        self.pool = WorkerPool(self.ledger, ring, roster, self.sync, job)
        self.pressure = MemoryPressure(self.pool)
        self.dispatcher = self._make_dispatcher()
        self.pump = self.dispatcher.pump
        begins_ahead = self.may_begin_ahead and job.has_threads and options.restarts > 0
        self.supervision = Supervision(self.pool, self.dispatcher, self.pressure, begins_ahead=begins_ahead)
        self.dispatcher.may_retry = self.supervision.may_retry
        if job.is_auto:
            from mpqueue.backends.processes.autosize import Autosize, Size

            # Workers are added when their use is known, because each costs memory and a start.
            self._auto = Autosize(Size(1, 1), Size(job.workers, 1), time.monotonic())
            self._may_hint_threads = job.may_thread and not job.has_threads
            self.supervision.wanted = 1
            self.dispatcher.resize(1)
        self._slow = SlowBatch(self.ledger, job.samples_of)
        self._hang = None if job.patience_s is None else HangWatch(roster, job.patience_s)

    def _make_dispatcher(self) -> Dispatcher:
        if self.pool.owners is None:
            return Dispatcher(self.pool, self.pressure)
        from mpqueue.backends.processes.lane_dispatcher import LaneDispatcher

        return LaneDispatcher(self.pool, self.pressure, self.pool.owners)

    def _configure(self, ring: Ring) -> WorkerConfig:
        """Return the configuration of worker 0."""
        job, share = self.job, self.ledger.cursor.lane_share
        sizes = ring.segment.size, ring.segment.kind, ring.stride, job.options.max_batch_bytes
        queues = queue_address.directory_for_workers()
        return WorkerConfig(
            job.info(0), share.total, *sizes, queue_directory=queues, is_endless=share.is_endless, skips=job.plan.skips
        )

    def fileno(self) -> int:
        """Return a descriptor that is readable when reports or exits have arrived."""
        return self.pool.roster.poller.fileno()

    @property
    def has_waiting(self) -> bool:
        """True if work items or workers wait for free slots or memory."""
        return bool(self.pool.pending) or (self.pressure.is_known and self.pressure.has_starved)

    @property
    def is_calm(self) -> bool:
        """True if the trainer has no work until a worker reports."""
        supervision = self.supervision
        return not (self.has_waiting or supervision.vacant or supervision.lost is not None)

    def take_in(self, head: int | None, *, may_fail: bool = True) -> bool:
        """Process the reports and exits that have arrived.

        Args:
            head: The requested work item; None if the caller only checks the state.
            may_fail: Memory cannot become free without the caller.

        Returns: False if there were no arrivals.
        """
        pool, supervision, dispatcher = self.pool, self.supervision, self.dispatcher
        # Retry starts that failed in the last call, so that the consumer never waits for such a worker.
        if supervision.vacant and not self._run_supervised(supervision.take_exits):
            return True
        if self._auto is not None and not self._look_at_count(self._auto):
            return True
        if supervision.lost is not None and head is not None:  # no other worker would report anything
            self.ledger.fail(worker_died(supervision.lost))
            return True
        num_ready = len(pool.ready)
        if pool.pending:
            dispatcher.pump()
        else:
            dispatcher.reuse()
        if pool.pending or self.pressure.is_known:  # otherwise no worker waits for memory
            self.pressure.relieve(dispatcher.pump, may_fail=may_fail and head not in pool.ready)
        if len(pool.ready) != num_ready:
            return True  # a work item was given up, which raises no event
        # Since the `wait`, another thread or the lines above may have replaced workers, and a descriptor may belong to
        # a new one. That is harmless: each pipe is read without blocking, and an empty one is left alone.
        events, self._events = self._events, ()
        if not events:  # otherwise these are the results of a `wait`
            if head is not None and dispatcher.chunk > 1:
                os.sched_yield()  # see `_MAX_YIELDS`
            events = pool.roster.poller.poll(0)
        if not events:
            self._look_at_clocks(tells_slow=head is not None)
        has_exits = False
        for fd, _ in events:
            worker = pool.roster.by_reports.get(fd)
            if worker is not None:
                dispatcher.drain(worker)
            elif fd == self._wakeup.fd:
                self._wakeup.clear()
            else:
                has_exits = True  # of the launcher, or of a worker that was silenced since
        self.chunk = dispatcher.lot
        # After the reports: reaping closes descriptors, and new workers get their indices, but these events refer to
        # the old ones.
        if has_exits:
            self._run_supervised(supervision.take_exits)
        if supervision.open_items:
            supervision.begin_ahead_again()
        return bool(events)

    def _look_at_clocks(self, *, tells_slow: bool) -> None:
        """Handle timeouts. A caller that only checks the state must not wait for a worker's stacks."""
        if self._hang is not None:
            self._hang.end_hanging()
        if tells_slow:
            tell_of_slow(self._slow, self.pool.roster)
        if self.pool.roster.dying:
            self._run_supervised(self.supervision.give_up_overdue)

    def _look_at_count(self, auto: "Autosize") -> bool:
        """Adapt the number of workers; return False if that failed, which is the consumer's next error."""
        now = time.monotonic()
        if now >= auto.looks_at and auto.look(now, self._counts(), self._has_room):
            incidents.report_resize(str(auto.wanted), auto.steps[-1].reason)
            self.job.recorder.mark(f"{auto.wanted}: {auto.steps[-1].reason}")
            self._is_resizing = True
        if self._may_hint_threads and (gain := auto.thread_gain()) >= _THREAD_GAIN:
            self._may_hint_threads = False
            from mpqueue.backends.processes.autosize import MOST_THREADS

            incidents.report_threads_would_help(MOST_THREADS, gain)
        if not self._is_resizing:
            return True
        is_done = False

        def resize() -> None:
            nonlocal is_done
            is_done = self.supervision.resize(auto.wanted.workers)

        has_failed = not self._run_supervised(resize)
        self._is_resizing = not is_done
        return not has_failed

    def _counts(self) -> "SizeCounts":
        from mpqueue.backends.processes.autosize import SizeCounts

        tallies = self.dispatcher.tallies
        return SizeCounts(
            sum(tally.batches for tally in tallies),
            self.job.recorder.waited_ns / 1e9,
            sum(tally.compute_ns + tally.copy_ns for tally in tallies) / 1e9,
            sum(sum(tally.blocked.counts) for tally in tallies),
            # Only of the workers' own threads, like the seconds of work above: helpers that wait at the same time would
            # count several times.
            sum(tally.blocked.total_ns - tally.blocked_beside_ns for tally in tallies) / 1e9,
        )

    def _has_room(self, count: int) -> bool:
        """Return whether more workers, each as large as the largest, take at most 80 % of the free memory."""
        largest = max((_resident_bytes(pid) for pid in self.pool.roster.pids.values()), default=0)
        return count * largest <= _MEMORY_SHARE * free_memory()

    def wait(self, head: int, timeout_s: float | None) -> None:  # all arrivals are processed
        """Sleep until a report, an exit, the timeout or `wake`."""
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
        """Reap and replace workers; return False if that failed, which is the consumer's next error."""
        try:
            with defer_signals():
                supervise()
        except Exception as error:
            if is_interrupt(error):
                raise
            self.ledger.fail(error)
            return False
        self.pump()  # the work items of crashed workers are pending
        return True

    def timeout_s(self) -> float | None:
        """Return the seconds until a timeout must be handled; None if no timeout is set."""
        waits = [self.dispatcher.balance(), self._slow.time_left_s()]
        if self._hang is not None:
            waits.append(self._hang.time_left_s())
        if self.pool.roster.dying:
            waits.append(self.supervision.overdue_in_s())
        return min((wait for wait in waits if wait is not None), default=None)

    # -- Epochs and the end

    def cancel(self) -> None:
        """Discard all work items; those in flight are dropped when they are reported."""
        self.pool.cancel()
        self.pressure.cancel()

    def is_stale(self) -> bool:
        """Return whether the workers may have an older version of the source."""
        with self.job.recorder.starts.part("compare"):
            is_stale = self.sync.is_stale()
        self._note_size()
        if is_stale:  # the change may have added shared memory
            self.may_change_unseen = self.job.may_change_unseen()
        return is_stale

    def refresh(self) -> None:
        """Make the workers use the present state of the source."""
        incidents.report_ring(self.pool.ring, f"epoch {self.ledger.cursor.epoch} begins")
        with defer_signals():
            if self.pool.owners is not None:
                self.pool.owners.forget_positions()
            may_push = self.job.ring.may_hold_source
            obstacle = self.sync.refresh(self.pool.roster, self.pool.ring, may_push=may_push)
            if obstacle is not None:
                self.job.recorder.starts.note("restart", obstacle)
                with self.job.recorder.starts.part("restart"):
                    self.supervision.start_anew()
        self._note_size()

    def _note_size(self) -> None:
        if self.tells_changes:
            self.job.recorder.starts.note("compare", size_text(self.sync.num_bytes))

    def reset(self, *, anew: bool = False) -> None:
        """End all workers, discard all work items and start again: an interrupt may have left any state inconsistent.

        Raises:
            RuntimeError: The source is a generator object, which cannot repeat the lost elements.
        """
        roster = self.pool.roster
        with defer_signals():  # only inside its waits: elsewhere a signal would leak a process or a descriptor
            roster.end_workers(None, is_urgent=True)
            # Without reaping: their reports are for discarded work items.
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
        """End the workers, park the fork server, release the ring.

        Raises:
            StopTimeout: Some workers did not exit in time.
        """
        reusable, roster = False, self.pool.roster
        with defer_signals():
            try:
                roster.end_workers(timeout_s)
                reusable = True
            finally:
                incidents.report_ring(self.pool.ring, "the end")
                # Also after a StopTimeout, or an interrupt of the wait.
                roster.close(reusable=reusable)
                self._wakeup.close()
                # The outcomes hold slots, and would keep the memory of the ring that is closed next.
                self.pool.ready.clear()
                self.pool.ring.close()

    def statistics(self) -> Statistics:
        """Return the counters. Take no lock, so that a monitoring thread never waits for a consumer."""
        ring, pids = self.pool.ring, self.pool.roster.pids
        slots = ring.slots
        sizes = {index: _resident_bytes(pid) for index, pid in pids.items()}
        ring.enter_leases()
        resizes = () if self._auto is None else tuple(self._auto.steps)
        # The maximum number of workers so far.
        most = max((step.workers for step in resizes), default=self.job.workers)
        copies, moved = ring.num_copies, ring.num_moved
        requested = copies - moved if self.job.options.copy else 0
        return replace(
            statistics_of(self.job.recorder, self.dispatcher.tallies[:most], pids, sizes),
            resizes=resizes,
            slots_in_use=slots.num_slots - slots.num_free,
            num_slots=slots.num_slots,
            copies=copies,
            copies_asked=requested,
            copies_held=copies - moved - requested,
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
    except psutil.Error:  # it has just exited
        return 0
