"""Supervision of workers: recovering the work of crashed workers, and starting their replacements.

*Crashes.* Reports of a crashed worker remain valid. The grant that it was computing counts against the `restarts` of
its work item (`mpqueue.backends.processes.crash_attribution`), and all its work items are granted again. Its position
is
*vacant* until a replacement was requested. If the request fails, because processes are exhausted or the fork server has
exited, too, the consumer gets the reason as an error, and its next call tries again. So an incomplete pool raises an
error for each requested batch, and never blocks indefinitely. The worker of an iterator is not replaced, because an
iterator yields its elements only once: after the reported batches, every call raises an error (`Supervision.lost`).

*Timeouts.* Two failures can only be detected by a timeout of `STUCK_S` after a kill: a worker that is stuck in the
kernel, and a fork server that hangs without a report. See `Supervision.give_up_overdue`.

*Moves.* A launcher with several machines may request that a worker be *moved*. It gets no more grants and exits after
its work. The launcher chooses the machine of its replacement.

*Resizing.* With "auto" (`mpqueue.backends.processes.autosize`), `Supervision.resize` changes the number of workers. A
surplus worker is *retired*: its unread work goes to other workers, and it exits after the rest. A worker with lanes of
a stream first finishes the items in progress, without new ones. Then other workers get its lanes, and open them from
their last snapshots. A new worker gets its share of the lanes that are not in progress. So no two processes run the
same lane.

Every crash and every restart is logged as a warning by the logger ``mpqueue``.
"""

import time
from collections import Counter

from mpqueue.backends.processes import incidents
from mpqueue.backends.processes.crash_attribution import CrashAttribution
from mpqueue.backends.processes.dispatcher import Dispatcher
from mpqueue.backends.processes.handle import Cause, Work, WorkerHandle
from mpqueue.backends.processes.pool import WorkerPool
from mpqueue.backends.processes.ring_memory.memory_pressure import MemoryPressure
from mpqueue.backends.processes.roster import STUCK_S, Exit, end_orphans
from mpqueue.backends.start.launcher import LauncherGone
from mpqueue.plan.position.cursors import WorkItem


class Supervision:
    """Starts, replaces and restarts the workers of one pool.

    Args:
        pool: The pool.
        dispatcher: Processes the last reports of exited workers.
        pressure: Forgets exited workers.
        begins_ahead: Threads or coroutines of a worker may start the next batch before the present one is finished.

    Attributes:
        num_deaths: Number of crashed workers.
        num_restarts: Number of replacements that were started.
        vacant: Indices of the workers to start; True if the last worker with that index has crashed.
        wanted: Number of workers that the pool must have.
        lost: Exit of a worker that cannot be replaced, or None.
        deaths_on: Number of crashed workers, by machine; "" is this one.
        open_items: Ids of the work items that were open at the last crash, and are not computed again yet. Until
            then, workers finish each batch before they start the next one.
    """

    def __init__(
        self, pool: WorkerPool, dispatcher: Dispatcher, pressure: MemoryPressure, *, begins_ahead: bool
    ) -> None:
        self.num_deaths = self.num_restarts = 0
        self.vacant: dict[int, bool] = {}
        self.lost: Exit | None = None
        self.deaths_on: Counter[str] = Counter()
        self._pool, self._dispatcher, self._pressure = pool, dispatcher, pressure
        self.wanted = pool.job.workers
        self._begins_ahead = begins_ahead
        self._attribution = CrashAttribution(pool)
        self.may_retry = self._attribution.may_retry
        self.open_items: set[int] = set()
        self._kept: dict[WorkerHandle, list[int]] = {}  # slots with memory that user code of abandoned workers holds

    # -- Starting

    def ask_for_workers(self) -> None:
        """Request all workers; they run when `await_workers` has returned.

        Raises:
            OSError: Processes or descriptors are exhausted.
            WorkerDied: The fork server crashes repeatedly.
        """
        roster = self._pool.roster
        roster.drop_unusable_launcher()
        # All positions first: if a start fails, the remaining ones are still known as vacant, and the next call tries
        # again.
        for index in range(self.wanted):
            self.vacant[index] = False
        try:
            if roster.launcher is None:
                roster.set_launcher(self._pool.sync.launch())
            else:
                self._pool.sync.equip(roster.launcher)
        except LauncherGone as gone:
            self._renew_launcher(gone)
        self._fill()

    def await_workers(self) -> None:
        """Wait until every worker runs.

        Raises:
            Exception: See `take_exits`.
        """
        workers = self._pool.roster.workers
        while any(worker.process is None for worker in workers.values()):
            self.take_exits(None)

    def start_anew(self) -> None:
        """Restart all workers with the present source; all results in flight must be dispensable.

        Raises:
            StopTimeout: A worker does not exit.
            Exception: See `ask_for_workers` and `await_workers`.
        """
        roster = self._pool.roster
        roster.end_workers(None)
        while roster.gone:
            self.reap(roster.gone.pop())
        self.open_items.clear()  # no worker has crashed
        if self._pool.sync.is_inherited:
            roster.drop_launcher()
        self.ask_for_workers()
        self.await_workers()

    def _fill(self) -> None:
        # Read `vacant` again each time: if the launcher has exited, all its workers become vacant within this loop.
        while self.vacant:
            index, is_by_death = next(iter(self.vacant.items()))
            try:
                incidents.report_start(index)
                self._pool.roster.start(index)
                worker = self._pool.roster.workers[index]
                if (
                    self._begins_ahead and not self.open_items
                ):  # this precedes the first grant in its pipe, and applies to it
                    worker.begin_ahead(begins=True)
            except LauncherGone as gone:
                self._renew_launcher(gone)
            else:
                # Only now: if the start has raised, the position is still vacant, and the next call tries again.
                del self.vacant[index]
                self.num_restarts += is_by_death
                if is_by_death:
                    incidents.report_restart(index)
        if self._pool.owners is not None and self.wanted < self._pool.job.workers:
            self._pool.owners.adopt(self._pool.roster.workers)

    # -- Crashes

    def take_exits(self, timeout_s: float | None = 0) -> None:
        """Process the launcher's events: reap exited workers, and start replacements.

        Raises:
            OSError: A worker could not be started.
            WorkerDied: Workers or the fork server crash repeatedly before they compute anything.
            Exception: An error of the source's unpickling.
        """
        try:
            exits = self._pool.roster.events(timeout_s)
        except LauncherGone as gone:
            exits = []
            self._renew_launcher(gone)
        # Before the exits: a worker that must move may have exited already, and is replaced like any other then.
        self._retire_moving()
        # Process all before raising: the launcher reports each exit only once.
        failures = [self._take_exit(leaving) for leaving in exits]
        for failure in failures:
            if failure is not None:
                raise failure
        self._fill()

    # -- Resizing

    def resize(self, wanted: int) -> bool:
        """Change the number of workers; return False if some are busy, so that the caller must call again.

        Raises:
            OSError: A worker could not be started.
            WorkerDied: The fork server crashes repeatedly.
        """
        pool, roster = self._pool, self._pool.roster
        self.wanted = wanted
        for worker in sorted(roster.workers.values(), key=lambda worker: worker.index):
            worker.hold(held=False)
            if len(roster.workers) > wanted and worker.index >= wanted and not self._retire(worker):
                break
        taken = {*self.vacant, *(worker.index for worker in roster.living)}
        free = (index for index in range(self._pool.job.workers) if index not in taken)
        while self._lacks_one and (index := next(free, None)) is not None:
            self.vacant[index] = False
        if pool.owners is not None and self.vacant:
            # Take back unread elements first, so that as many lanes as possible can move.
            for worker in roster.workers.values():
                if worker.is_stealable:
                    pool.recall(worker)
            active = {work.work_item.lane for worker in roster.living for work in worker.in_flight.values()}
            pool.owners.share_out({*roster.workers, *self.vacant}, active)
        self._fill()
        self._dispatcher.resize(max(roster.workers, default=0) + 1)
        return len(roster.workers) == wanted

    @property
    def _lacks_one(self) -> bool:
        return len(self._pool.roster.workers) + len(self.vacant) < self.wanted

    def _retire(self, worker: WorkerHandle) -> bool:
        """Grant no more work to a worker; return False if it must first finish its present work."""
        pool = self._pool
        worker.hold(held=True)
        if not worker.is_at_service:
            return False
        pool.recall(worker)
        if pool.owners is not None and worker.in_flight:  # its lanes may move only between two elements
            return False
        pool.roster.retire(worker)
        return True

    def _retire_moving(self) -> None:
        """Retire the workers with replacements that start on other machines; other workers get their unread work."""
        moving, pool = self._pool.roster.moving, self._pool
        while moving:
            worker = moving.pop()
            if pool.roster.workers.get(worker.index) is worker:
                pool.recall(worker)
                pool.roster.retire(worker)

    def _take_exit(self, leaving: Exit) -> BaseException | None:
        worker = leaving.worker
        incidents.report_end(leaving)
        culprit = self.reap(worker)
        if worker.life.is_abandoned:
            return None  # its replacement runs already
        if worker.is_leaving and leaving.exitcode == 0:
            if self._lacks_one:  # the number has grown since it was retired
                self.vacant[worker.index] = False
            return None
        # Before the error: a caller that catches it retries the start with its next call.
        self._leave_vacant(leaving)
        if leaving.error is not None:
            return leaving.error
        was_oom_killed = self._attribution.was_oom_killed(leaving.exitcode, worker.life.cause)
        return self._count_death(leaving._replace(oom_killed=was_oom_killed), culprit)

    def _count_death(self, leaving: Exit, culprit: WorkItem | None) -> BaseException | None:
        self.num_deaths += 1
        index = leaving.worker.index
        self._dispatcher.tallies[index].deaths += 1
        self._pool.ring.recorder.mark(f"worker {index} died", index)
        process = leaving.worker.process
        self.deaths_on["" if process is None else process.machine] += 1
        if culprit is not None:
            leaving = leaving._replace(samples=self._pool.job.samples_of(culprit))
        incidents.report_death(leaving, culprit)
        return self._attribution.count(leaving, culprit, self._dispatcher.num_drained)

    def _stop_ahead(self, started: list[Work]) -> None:
        """Make workers finish each batch before they start the next one, so that the next crash has a unique work item.

        A sample of a later batch may have caused this crash, which is then attributed to the present batch, once. The
        batches that were open are granted again after this message, so the same sample cannot be attributed to another
        batch a second time. When they are computed, workers begin ahead again.
        """
        work_ids = {work.work_item.work_id for work in started if not work.cancelled}
        if self._begins_ahead and work_ids:
            self.open_items |= work_ids
            for worker in self._pool.roster.workers.values():
                worker.begin_ahead(begins=False)

    def begin_ahead_again(self) -> None:
        """Allow workers to begin ahead as soon as the batches that were open at the last crash are computed."""
        ledger, ready = self._pool.ledger, self._pool.ready
        self.open_items = {
            work_id for work_id in self.open_items if work_id in ledger.work_items and work_id not in ready
        }
        if not self.open_items:
            for worker in self._pool.roster.workers.values():
                worker.begin_ahead(begins=True)

    def _leave_vacant(self, leaving: Exit) -> None:
        if not self._pool.job.can_replay:  # another copy of the iterator would start from the beginning
            self.lost = leaving
            return
        worker = leaving.worker
        owners = self._pool.owners
        if owners is not None and worker.uses_queues:
            # A lane that has used a queue restarts without its state and drops no element: the queue knows the
            # delivered ones.
            owners.begin_afresh(worker.index)
        if self._lacks_one:
            self.vacant[worker.index] = True

    def reap(self, worker: WorkerHandle, *, is_gone: bool = True) -> WorkItem | None:
        """Process the last reports of a worker and free its slots; return the work item that it was computing.

        With ``is_gone`` False it may still write, so its slots are not reused.
        """
        pool = self._pool
        # Reports remain valid after the exit: a finished batch is not computed again.
        # In a loop, because one call reads a limited number of reports.
        while self._dispatcher.drain(worker):
            pass
        # Unread grants were not started, so their work items cannot have caused the crash.
        unread = pool.take_unread(worker)
        started = list(worker.in_flight.values())
        # A mark of a batch that was reported later does not concern this crash.
        if worker.mark is not None and not (started and started[0].slot.turn == worker.mark[0]):
            worker.mark = None
        if is_gone:
            for work in started:
                pool.ring.reclaim(work.slot)
            self._forget(worker)
        if not worker.is_leaving:
            self._stop_ahead(started)
        pool.sync.note_gone(pool.ring, worker)
        self._pressure.forget(worker)
        worker.in_flight.clear()
        worker.close()
        pool.put_back([work.work_item for work in (*started, *unread) if not work.cancelled], is_retry=True)
        # A hanging worker may not have read its grant.
        suspects = started or (unread if worker.life.cause is Cause.HUNG else [])
        return suspects[0].work_item if suspects and not suspects[0].cancelled else None

    def _forget(self, worker: WorkerHandle) -> None:
        slots = self._pool.ring.slots
        if worker.life.is_abandoned:  # the index belongs to its replacement
            for slot_index in self._kept.pop(worker, ()):
                slots.let_go(slot_index)
        else:
            slots.forget_worker(worker.index)

    # -- Killed workers that do not exit

    def overdue_in_s(self) -> float | None:
        """Return the seconds until the first killed worker is overdue; None if no killed worker remains."""
        killed_at = next(iter(self._pool.roster.dying.values()), None)
        return None if killed_at is None else max(0.0, killed_at + STUCK_S - time.monotonic())

    def give_up_overdue(self) -> None:
        """Replace killed workers without a reported exit.

        There are two cases. The worker is stuck in the kernel (a dead network disk, a driver): its slots are not reused
        before it exits. Or it has exited, and the fork server hangs: the fork server is ended.

        Raises:
            OSError: A worker could not be started.
            WorkerDied: The fork server crashes repeatedly.
        """
        while self.overdue_in_s() == 0:
            worker = next(iter(self._pool.roster.dying))
            process, launcher = worker.process, self._pool.roster.launcher
            if launcher is not None and launcher.give_up(worker.key):
                del self._pool.roster.dying[worker]
            elif process is None or process.sentinel < 0 or process.has_ended():
                # It has exited, but its fork server does not report that, so it will not report the others either.
                self._renew_launcher(LauncherGone())
            else:
                self._abandon(worker)
            self._fill()

    def _abandon(self, worker: WorkerHandle) -> None:
        pool = self._pool
        pool.roster.abandon(worker)
        slots = pool.ring.slots.slots
        # Now, while it still has this index: slots held by its replacement's code will be registered under the same
        # one.
        self._kept[worker] = [slot.index for slot in slots if slot.held and slot.owner == worker.index]
        unread = pool.take_unread(worker)
        started = [work for work in worker.in_flight.values() if not work.cancelled]
        self._stop_ahead(started)
        for work in started:
            work.cancelled = True  # a worker that computes it again has another slot
        self._pressure.forget(worker)
        pool.put_back([work.work_item for work in (*started, *unread)], is_retry=True)
        leaving = Exit(worker, None)
        self._leave_vacant(leaving)
        failure = self._count_death(leaving, started[0].work_item if started else None)
        if failure is not None:
            raise failure

    def _renew_launcher(self, gone: LauncherGone) -> None:
        """Start another fork server after an exit. All its workers have exited, too.

        Raises:
            WorkerDied: It crashes repeatedly.
            OSError: Processes or descriptors are exhausted.
        """
        roster = self._pool.roster
        workers = roster.remove_all()
        exitcode = roster.drop_launcher()
        # The kernel kills the workers with the fork server. Their slots are not reused before each exit is confirmed.
        stuck = end_orphans(workers)
        exitcode = gone.exitcode if exitcode is None else exitcode
        incidents.report_launcher_death(exitcode, len(workers))
        for worker in workers:
            self._dispatcher.tallies[worker.index].deaths += 1
            self._pool.ring.recorder.mark("the fork server died", worker.index)
            self.reap(worker, is_gone=worker not in stuck)
            if not worker.life.is_abandoned:
                self._leave_vacant(Exit(worker, exitcode))
        self.num_deaths += len(workers)
        self.deaths_on[""] += len(workers)
        while roster.launcher is None:
            self._attribution.count_launcher(exitcode, self._dispatcher.num_drained)
            try:
                roster.set_launcher(self._pool.sync.launch())
            except LauncherGone as gone_again:  # while the source was sent to it
                exitcode = gone_again.exitcode
