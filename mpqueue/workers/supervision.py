"""Supervision: what a worker leaves behind, and who comes in its place.

What a dead worker had reported stands. The grant that it was working on is counted against the `restarts` of its work
item (`mpqueue.workers.crash_attribution`); all its work items are granted again. Its place is *vacant* until a
replacement was asked for; where that fails (no more processes, the fork server is gone too), it stays vacant, the
consumer gets the reason as an error, and its next call tries again. So a pool that cannot be filled is an error each
time somebody asks for a batch, and never a wait without end. An iterator gives its elements once: its worker is not
replaced, and when the consumer has had what was reported before, each of its calls is an error (`Supervision.lost`).

Two things show from outside only by waiting: that SIGKILL does not end a worker, because it is stuck in the kernel, and
that the fork server hangs and reports nothing any more. Both get `STUCK_S` from the kill on; see
`Supervision.give_up_overdue`.

A launcher that has several machines may ask for a worker to be *moved*: it is dealt nothing any more, ends when it has
served what it has, and its place is filled anew, on the machine that the launcher chooses.

Where the number of workers is "auto" (`mpqueue.workers.autosize`), it is changed by `Supervision.resize`. One that is
too many is *retired*: what it has not begun goes to others, and it ends when it has served the rest. A worker has lanes
of a stream: it first serves what it has begun, and gets no more meanwhile; then its lanes go to the others, of which
each opens them from their last snapshots. A new one gets its share of the lanes that are not at work then. So there is
never more than one process that runs a lane.

Each death, and each restart, is a WARNING in the logger ``mpqueue``.
"""

import time
from collections import Counter
from collections.abc import Sequence

from mpqueue.plan.cursors import WorkItem
from mpqueue.worker.records import GrantKind, ReportKind
from mpqueue.workers import incidents
from mpqueue.workers.crash_attribution import CrashAttribution, Tolerance
from mpqueue.workers.dispatcher import Dispatcher, Notice
from mpqueue.workers.handle import Cause, WorkerHandle
from mpqueue.workers.launcher import LauncherGone
from mpqueue.workers.memory_pressure import MemoryPressure
from mpqueue.workers.pool import WorkerPool
from mpqueue.workers.roster import STUCK_S, Exit, end_orphans
from mpqueue.workers.source_sync import SourceSync


class Supervision:
    """The workers of one pool: started, replaced, started anew.

    Args:
        pool: Whose.
        sync: The source, and the launcher of workers that have it.
        dispatcher: Takes in the last reports of the dead.
        pressure: Forgets the dead.
        tolerance: What the pool bears.

    Attributes:
        num_deaths: Workers that died.
        num_restarts: Workers that were started in their place.
        vacant: Numbers of the workers that are to be started, each with whether its predecessor has died.
        wanted: How many workers there are to be,
        threads: and how many threads in each, if that is found as the run goes on.
        lost: The death of a worker that cannot be replaced; None: there was none.
        deaths_on: Workers that died, by the machine that they were on; "" is this one.
    """

    def __init__(
        self, pool: WorkerPool, sync: SourceSync, dispatcher: Dispatcher, pressure: MemoryPressure, tolerance: Tolerance
    ) -> None:
        self.num_deaths = self.num_restarts = 0
        self.vacant: dict[int, bool] = {}
        self.lost: Exit | None = None
        self.deaths_on: Counter[str] = Counter()
        self._pool, self._sync, self._dispatcher, self._pressure = pool, sync, dispatcher, pressure
        self.wanted = self._num_workers = tolerance.num_workers
        self.threads = 1
        self._can_replay, self._begins_ahead = tolerance.can_replay, tolerance.begins_ahead
        self._attribution = CrashAttribution(pool, tolerance)
        self._kept: dict[WorkerHandle, list[int]] = {}  # slots that the code of abandoned workers held

    # -- Starting

    def ask_for_workers(self) -> None:
        """Ask for all workers; they run when `await_workers` has returned.

        Raises:
            OSError: There are not enough processes or descriptors.
            WorkerDied: The fork server dies again and again.
        """
        roster = self._pool.roster
        for number in range(self.wanted):
            self.vacant[number] = False
        try:
            if roster.launcher is None:
                roster.set_launcher(self._sync.launch())
            else:
                self._sync.equip(roster.launcher)
        except LauncherGone as gone:
            self._renew_launcher(gone)
        self._fill()

    def await_workers(self) -> None:
        """Wait until every worker runs.

        Raises:
            Exception: As of `take_exits`.
        """
        while not self._pool.roster.all_run:
            self.take_exits(None)

    def start_anew(self) -> None:
        """End all workers and start others, from the source as it is now; nothing that counts is in flight.

        Raises:
            StopTimeout: A worker does not end.
            Exception: As of `ask_for_workers` and `await_workers`.
        """
        roster = self._pool.roster
        roster.end_workers(None)
        while roster.gone:
            self.reap(roster.gone.pop())
        if self._sync.is_inherited:
            roster.drop_launcher()
        self.ask_for_workers()
        self.await_workers()

    def _fill(self) -> None:
        # Asked each time anew: where the launcher is gone, the places of all its workers become vacant meanwhile.
        while self.vacant:
            number, is_by_death = next(iter(self.vacant.items()))
            try:
                incidents.report_start(number)
                self._pool.roster.start(number)
                worker = self._pool.roster.workers[number]
                # These lie in its pipe before the first grant, and hold for that.
                if self.threads > 1:
                    worker.tell(GrantKind.THREADS, self.threads)
                if self._begins_ahead:
                    worker.tell(GrantKind.AHEAD, 1)
            except LauncherGone as gone:
                self._renew_launcher(gone)
            else:
                # Not before: where the start has raised, the place is vacant still, and the next call tries again.
                del self.vacant[number]
                self.num_restarts += is_by_death
                if is_by_death:
                    incidents.report_restart(number)
        if self._pool.owners is not None and self.wanted < self._num_workers:
            self._pool.owners.adopt(self._pool.roster.workers)

    # -- Deaths

    def take_exits(self, timeout_s: float | None = 0) -> None:
        """Take in what the launcher reports: reap the dead, and fill their places.

        Raises:
            OSError: A worker could not be started.
            WorkerDied: Workers, or the fork server, die again and again without having computed anything.
            Exception: What unpickling the source raised.
        """
        try:
            exits = self._pool.roster.events(timeout_s)
        except LauncherGone as gone:
            exits = []
            self._renew_launcher(gone)
        self._retire_moving()
        # All before one is raised: the launcher tells of each exit once.
        failures = [self._take_exit(leaving) for leaving in exits]
        for failure in failures:
            if failure is not None:
                raise failure
        self._fill()

    # -- Another number of them

    def resize(self, wanted: int) -> bool:
        """Have so many workers from now on: start some, or retire some; False: those are at work, so call it again.

        Raises:
            OSError: A worker could not be started.
            WorkerDied: The fork server dies again and again.
        """
        pool, roster = self._pool, self._pool.roster
        self.wanted = wanted
        for worker in sorted(roster.workers.values(), key=lambda worker: worker.number):
            worker.hold(held=False)
            if len(roster.workers) > wanted and worker.number >= wanted and not self._retire(worker):
                break
        taken = {*self.vacant, *(worker.number for worker in roster.living)}
        free = (number for number in range(self._num_workers) if number not in taken)
        while self._lacks_one and (number := next(free, None)) is not None:
            self.vacant[number] = False
        if pool.owners is not None and self.vacant:
            for worker in roster.workers.values():
                if worker.is_stealable:
                    pool.recall(worker)
            begun = {work.work_item.lane for worker in roster.living for work in worker.in_flight.values()}
            pool.owners.share_out({*roster.workers, *self.vacant}, begun)
        self._fill()
        self._dispatcher.resize(max(roster.workers, default=0) + 1)
        return len(roster.workers) == wanted

    def use_threads(self, threads: int) -> None:
        """Have each worker compute in so many threads, from the first grant on that it has not read."""
        if threads == self.threads:
            return
        self.threads = threads
        for worker in self._pool.roster.workers.values():
            if worker.is_stealable:  # else it would hear of it behind all that it has been granted
                self._pool.recall(worker)
            worker.tell(GrantKind.THREADS, threads)

    @property
    def _lacks_one(self) -> bool:
        return len(self._pool.roster.workers) + len(self.vacant) < self.wanted

    def _retire(self, worker: WorkerHandle) -> bool:
        """Deal a worker no more; False: it cannot be now, and gets nothing new meanwhile."""
        pool = self._pool
        worker.hold(held=True)
        if not worker.is_at_service:
            return False
        pool.recall(worker)
        if pool.owners is not None and worker.in_flight:  # its lanes go to others when it runs none of them
            return False
        pool.roster.retire(worker)
        return True

    def _retire_moving(self) -> None:
        """Deal those no more whose places are on other machines from now on; others get what they have not begun."""
        moving, pool = self._pool.roster.moving, self._pool
        while moving:
            worker = moving.pop()
            if pool.roster.workers.get(worker.number) is worker:
                pool.recall(worker)
                pool.roster.retire(worker)

    def _take_exit(self, leaving: Exit) -> BaseException | None:
        worker = leaving.worker
        incidents.report_end(leaving)
        culprit = self.reap(worker)
        if worker.life.is_abandoned:
            return None  # it has a successor already
        if worker.is_leaving and leaving.exitcode == 0:
            if self._lacks_one:  # more are wanted than when it was retired
                self.vacant[worker.number] = False
            return None
        # Before the error: whoever catches that and goes on has the start tried again.
        self._leave_vacant(leaving)
        if leaving.error is not None:
            return leaving.error
        was_oom_killed = self._attribution.was_oom_killed(leaving.exitcode, worker.life.cause)
        return self._count_death(leaving._replace(oom_killed=was_oom_killed), culprit)

    def _count_death(self, leaving: Exit, culprit: WorkItem | None) -> BaseException | None:
        self.num_deaths += 1
        number = leaving.worker.number
        self._dispatcher.tallies[number].deaths += 1
        self._pool.ring.recorder.mark(f"worker {number} died", number)
        process = leaving.worker.process
        self.deaths_on["" if process is None else process.machine] += 1
        incidents.report_death(leaving, culprit)
        self._stop_ahead()
        return self._attribution.count(leaving, culprit, self._dispatcher.num_drained)

    def _stop_ahead(self) -> None:
        """Have workers begin no batch before the one at work is over: the next death is to be blamed on the right one.

        This one may have been by a sample of the next batch, and be blamed on the one at work, once. That is granted
        again behind this message, so that it is not blamed for such a sample a second time.
        """
        if self._begins_ahead:
            self._begins_ahead = False
            for worker in self._pool.roster.workers.values():
                worker.tell(GrantKind.AHEAD, 0)

    def _leave_vacant(self, leaving: Exit) -> None:
        if not self._can_replay:  # another copy of the iterator would begin anew
            self.lost = leaving
            return
        worker = leaving.worker
        owners = self._pool.owners
        if owners is not None and worker.uses_queues:
            # What has used a queue is called afresh, and nothing of it dropped: the queue knows what was taken.
            owners.begin_afresh(worker.number)
        if self._lacks_one:
            self.vacant[worker.number] = True

    def reap(self, worker: WorkerHandle, *, is_gone: bool = True) -> WorkItem | None:
        """Enter the last reports of a worker and free what it held; return its work item, if it had one.

        With ``is_gone`` false it may still write: its slots are not used again.
        """
        pool = self._pool
        # What it has reported stands, though it is dead: a batch that was computed is not computed again.
        while (notices := self._dispatcher.drain(worker)) is not None:
            self.route(worker, notices)
        # Grants that are still in its pipe it has not begun: they are no reason to suspect their work items.
        unread = pool.take_unread(worker)
        begun = list(worker.in_flight.values())
        # A mark of a batch that it has reported since says nothing of its death.
        if worker.mark is not None and not (begun and begun[0].slot.turn == worker.mark[0]):
            worker.mark = None
        if is_gone:
            for work in begun:
                pool.ring.reclaim(work.slot)
            self._forget(worker)
        self._sync.note_gone(pool, worker)
        self._pressure.forget(worker)
        worker.in_flight.clear()
        worker.close()
        pool.put_back([work.work_item for work in (*begun, *unread) if not work.cancelled], is_retry=True)
        # One that hung may not have read its grant.
        suspects = begun or (unread if worker.life.cause is Cause.HUNG else [])
        return suspects[0].work_item if suspects and not suspects[0].cancelled else None

    def route(self, worker: WorkerHandle, notices: Sequence[Notice]) -> None:
        """Hand what a worker has said beside its outcomes to whom it concerns."""
        for notice in notices:
            if notice.kind == ReportKind.LOADED:
                self._sync.note_loaded(self._pool, worker, notice.turn)
            elif notice.work is not None:
                self._pressure.note(worker, notice.work, is_of_group=notice.is_of_group)

    def _forget(self, worker: WorkerHandle) -> None:
        slots = self._pool.ring.slots
        if worker.life.is_abandoned:  # the number is its successor's
            for number in self._kept.pop(worker, ()):
                slots.let_go(number)
        else:
            slots.forget_worker(worker.number)

    # -- Who does not die

    def overdue_in_s(self) -> float | None:
        """Return the seconds until the first worker that was killed should have ended; None if there is none."""
        killed_at = next(iter(self._pool.roster.dying.values()), None)
        return None if killed_at is None else max(0.0, killed_at + STUCK_S - time.monotonic())

    def give_up_overdue(self) -> None:
        """Replace workers that were killed and are not known to be gone.

        Either they are stuck in the kernel (a dead network disk, a driver): then their slots are not used again before
        they are gone. Or they are gone, and the fork server hangs: then it is ended.

        Raises:
            OSError: A worker could not be started.
            WorkerDied: The fork server dies again and again.
        """
        while self.overdue_in_s() == 0:
            worker = next(iter(self._pool.roster.dying))
            process, launcher = worker.process, self._pool.roster.launcher
            if launcher is not None and launcher.give_up(worker.key):
                del self._pool.roster.dying[worker]
            elif process is None or process.sentinel < 0 or process.has_ended():
                # It has ended, and its fork server does not tell of it: nor would it of the others.
                self._renew_launcher(LauncherGone())
            else:
                self._abandon(worker)
            self._fill()

    def _abandon(self, worker: WorkerHandle) -> None:
        pool = self._pool
        pool.roster.abandon(worker)
        slots = pool.ring.slots.slots
        # Now, while the number is its own: what its successor's code holds will have the same one.
        self._kept[worker] = [slot.number for slot in slots if slot.held and slot.owner == worker.number]
        unread = pool.take_unread(worker)
        begun = [work for work in worker.in_flight.values() if not work.cancelled]
        for work in begun:
            work.cancelled = True  # whoever computes it again has another slot
        self._pressure.forget(worker)
        pool.put_back([work.work_item for work in (*begun, *unread)], is_retry=True)
        leaving = Exit(worker, None)
        self._leave_vacant(leaving)
        failure = self._count_death(leaving, begun[0].work_item if begun else None)
        if failure is not None:
            raise failure

    def _renew_launcher(self, gone: LauncherGone) -> None:
        """Make another fork server: it is gone, and all workers with it.

        Raises:
            WorkerDied: It dies again and again.
            OSError: There are not enough processes or descriptors.
        """
        roster = self._pool.roster
        workers = roster.remove_all()
        exitcode = roster.drop_launcher()
        # The kernel kills them with the fork server. Their slots are not used again before each is known to be gone.
        stuck = end_orphans(workers)
        exitcode = gone.exitcode if exitcode is None else exitcode
        incidents.report_launcher_death(exitcode, len(workers))
        for worker in workers:
            self._dispatcher.tallies[worker.number].deaths += 1
            self._pool.ring.recorder.mark("the fork server died", worker.number)
            self.reap(worker, is_gone=worker not in stuck)
            if not worker.life.is_abandoned:
                self._leave_vacant(Exit(worker, exitcode))
        self.num_deaths += len(workers)
        self.deaths_on[""] += len(workers)
        while roster.launcher is None:
            self._attribution.count_launcher(exitcode, self._dispatcher.num_drained)
            try:
                roster.set_launcher(self._sync.launch())
            except LauncherGone as gone_again:  # while the source was sent to it
                exitcode = gone_again.exitcode
