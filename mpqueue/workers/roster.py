"""The workers of one pool: started, killed and ended here, and only here.

The launcher reports exits; whoever gets the `Exit` drains and closes the worker's handle
(`mpqueue.workers.supervision`).
"""

import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mpqueue.errors import StopTimeout
from mpqueue.system.interrupts import defer_signals
from mpqueue.transport.poller import READABLE, close_poller, make_poller
from mpqueue.worker.config import WorkerConfig
from mpqueue.workers.handle import Cause, WorkerHandle
from mpqueue.workers.launcher import Launcher, LauncherGone

STUCK_S = 5.0  # what SIGKILL has not ended by then is stuck in the kernel


def end_orphans(workers: Iterable[WorkerHandle]) -> list[WorkerHandle]:
    """Kill workers whose fork server is gone and wait for them; return those that are stuck in the kernel."""
    poll = select.poll()
    waiting: dict[int, WorkerHandle] = {}
    for worker in workers:
        process = worker.process
        if process is not None and process.sentinel >= 0:
            process.send(signal.SIGKILL)
            waiting[process.sentinel] = worker
            poll.register(process.sentinel, select.POLLIN)
        elif worker.pipes.reports >= 0:
            # The fork server had no time to tell of it, so it has run no user code yet: the end of its pipe is its own.
            waiting[worker.pipes.reports] = worker
            poll.register(worker.pipes.reports, 0)
    until = time.monotonic() + STUCK_S
    while waiting and (left := until - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            process = waiting.pop(fd).process
            if process is not None and process.sentinel >= 0:
                process.reap_as_init()
    return list(waiting.values())


_GRACE_S = 0.2  # for workers to leave by themselves, before SIGTERM
_TERM_S = 1.0  # and after it, before SIGKILL


class Exit(NamedTuple):
    """The end of a worker.

    Attributes:
        worker: Whose.
        exitcode: How it ended (negative: by that signal), None if it was not started.
        peak_bytes: Its largest resident size.
        error: Why it could not be started.
        oom_killed: The kernel's out-of-memory killer has ended it.
        lost: The machine that it was on, if that is lost, and the worker with it.
    """

    worker: WorkerHandle
    exitcode: int | None
    peak_bytes: int = 0
    error: BaseException | None = None
    oom_killed: bool = False
    lost: str = ""


class Roster:
    """All workers of a pool.

    Args:
        segment_fd: Descriptor of the ring.
        config_of: What a worker is started with, by its number.
        with_stacks: Give each worker a pipe for its stacks.

    Attributes:
        launcher: Starts the workers; owned. None before `set_launcher`, and when it is gone.
        poller: Waits for reports, and for the launcher.
        workers: Those that are dealt work, by number.
        by_reports: Those that are listened to, by descriptor.
        gone: Workers that `end_workers` has ended, to be reaped or closed.
        dying: Workers that were killed and whose exit was not reported yet, in the order of the kills, with the time of
            the kill (`time.monotonic`).
        moving: Workers whose launcher wants them to end after their work.
    """

    def __init__(self, segment_fd: int, config_of: Callable[[int], WorkerConfig], *, with_stacks: bool) -> None:
        self.launcher: Launcher | None = None
        self.workers: dict[int, WorkerHandle] = {}
        self.by_reports: dict[int, WorkerHandle] = {}
        self.poller = make_poller()
        self.gone: list[WorkerHandle] = []
        self.dying: dict[WorkerHandle, float] = {}
        self.moving: list[WorkerHandle] = []
        self._segment_fd, self._config_of, self._with_stacks = segment_fd, config_of, with_stacks
        self._by_key: dict[int, WorkerHandle] = {}  # all that have not ended
        self._next_key = 0

    def set_launcher(self, launcher: Launcher) -> None:
        """Start workers with this one from now on; there is no other."""
        self.launcher = launcher
        launcher.watch(self.poller)

    def drop_launcher(self) -> int | None:
        """End the launcher; no worker of it is left. Its exit status, if it is a process that had ended by itself."""
        launcher, self.launcher = self.launcher, None
        return None if launcher is None else launcher.release(reusable=False)

    def start(self, number: int) -> None:
        """Ask for a worker; that it runs, or why it does not, is reported by `events`.

        Raises:
            LauncherGone: There is no launcher, or it has died.
            OSError: There are not enough descriptors or processes.
        """
        if self.launcher is None:
            raise LauncherGone
        with defer_signals():  # Ctrl-C before the tables know of its pipes would leave them open
            worker = WorkerHandle(number, self._next_key, with_stacks=self._with_stacks)
            self._next_key += 1
            self.workers[number] = self._by_key[worker.key] = self.by_reports[worker.pipes.reports] = worker
            try:
                # Before it is asked for: one that runs and that nobody can listen to would have to be ended again.
                self.poller.register(worker.pipes.reports, READABLE)
                config = self._config_of(number)
                event = self.launcher.start_worker(worker.key, config, worker.ends_for(self._segment_fd))
                if event is not None:
                    worker.process = event.process
            except BaseException:
                self._remove(worker)
                worker.close()
                raise
            finally:
                # The launcher has sent copies. While ours were open, the pipes would not end with the worker.
                worker.pipes.close_worker_ends()

    @property
    def all_run(self) -> bool:
        """True if every worker that was asked for runs."""
        return all(worker.process is not None for worker in self.workers.values())

    @property
    def pids(self) -> dict[int, int]:
        """The process ids of the workers that run on this machine, by their numbers."""
        workers = sorted(self.workers.values(), key=lambda worker: worker.number)
        processes = {worker.number: worker.process for worker in workers}
        return {number: process.pid for number, process in processes.items() if process and not process.machine}

    @property
    def living(self) -> list[WorkerHandle]:
        """Workers that work on work items: those that are dealt work, are leaving, or are about to die."""
        return [worker for worker in self._by_key.values() if not worker.life.is_abandoned]

    def events(self, timeout_s: float | None = 0) -> list[Exit]:
        """Take in what the launcher reports; workers that have ended are removed.

        Raises:
            LauncherGone: The fork server has died, and all workers with it.
        """
        if self.launcher is None:
            raise LauncherGone
        exits = []
        for event in self.launcher.events(timeout_s):
            worker = self._by_key[event.key]
            if event.moves:
                self.moving.append(worker)
            elif event.process is not None:
                worker.process = event.process
                worker.busy_since = time.perf_counter_ns()  # the time until now is not that of a batch
            else:
                self._remove(worker)
                exits.append(Exit(worker, event.exitcode, event.peak_bytes, event.error, lost=event.lost))
        return exits

    def _remove(self, worker: WorkerHandle) -> None:
        del self._by_key[worker.key]
        self.dying.pop(worker, None)
        self._deafen(worker)
        worker.life.end()
        if self.workers.get(worker.number) is worker:
            del self.workers[worker.number]

    def _deafen(self, worker: WorkerHandle) -> None:
        # Not merely modified to no events: the end of the pipe would be reported all the same, again and again.
        if self.by_reports.pop(worker.pipes.reports, None) is not None:
            self.poller.unregister(worker.pipes.reports)

    def retire(self, worker: WorkerHandle) -> None:
        """Deal a worker no more: it ends when it has served what it has, and its exit is reported by `events`."""
        if self.workers.get(worker.number) is worker:
            worker.is_leaving = True
            worker.pipes.close_grants()
            del self.workers[worker.number]

    def remove_all(self) -> list[WorkerHandle]:
        """Remove all workers: the launcher is gone, and they with it; or it will be."""
        workers = list(self._by_key.values())
        for worker in workers:
            self._remove(worker)
        return workers

    def kill(self, worker: WorkerHandle, cause: Cause) -> None:
        """Send a worker SIGKILL; its exit is reported by `events`."""
        if worker.life.kill(cause):
            self.dying[worker] = time.monotonic()
        self.signal(worker, signal.SIGKILL)

    def signal(self, worker: WorkerHandle, number: int) -> None:
        """Send a worker a signal, if it is still there."""
        process = worker.process
        if process is not None and process.sentinel >= 0:
            process.send(number)  # by its descriptor: the number may be another process's by now
        elif self.launcher is not None:  # it is being started: only the launcher knows it
            try:
                self.launcher.kill(worker.key, number)
            except LauncherGone:
                return  # and the worker with it, as whoever asks for `events` learns

    def silence(self, worker: WorkerHandle, cause: Cause) -> None:
        """Hear no more of a worker but its end, which is made sure of."""
        with defer_signals():
            # In this order: a descriptor that is closed while the poller has it may be somebody else's the next moment.
            self._deafen(worker)
            worker.pipes.close_reports()
            self.kill(worker, cause)

    def abandon(self, worker: WorkerHandle) -> None:
        """Give a worker up that was killed and does not die; its exit is reported by `events` all the same."""
        worker.life.abandon()
        del self.dying[worker]
        self._deafen(worker)
        worker.pipes.close_reports()
        if self.workers.get(worker.number) is worker:
            del self.workers[worker.number]

    def end_workers(self, timeout_s: float | None, *, is_urgent: bool = False) -> None:
        """End all workers: one deadline for all. They are `gone` then.

        Raises:
            StopTimeout: Some were still there when the time was over, and `STUCK_S` after they were killed.
        """
        # The end of its grants is what a worker leaves by. All of them are told before one is waited for: they leave
        # side by side, and their times do not add up.
        for worker in self._by_key.values():
            worker.pipes.close_grants()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not is_urgent:
            self._await_exits(_earlier(_GRACE_S, deadline))
            # Those that are left are in user code, which may clear up: its files, programs that it started.
            for worker in self._by_key.values():
                self.signal(worker, signal.SIGTERM)
            self._await_exits(_earlier(_TERM_S, deadline))
        for worker in self._by_key.values():
            self.kill(worker, Cause.STOPPED)
        # What is killed is gone in a moment, unless it is stuck in the kernel; then the fork server reports it, or
        # hangs. The caller's own deadline does not shorten this: a moment takes over a second where forty processes
        # want two CPUs, and a `start` that an interrupt has ended would raise StopTimeout in place of the interrupt.
        now = time.monotonic()
        until = max(now + STUCK_S, deadline or 0.0)
        self._await_exits(min(until, now + _TERM_S))
        if any(worker.process is not None and worker.process.has_ended() for worker in self._by_key.values()):
            self._lose_launcher()  # it has ended, and the fork server does not say so: nor would it of the others
        if self.launcher is not None:
            for key in self._by_key:
                self.launcher.give_up(key)
        self._await_exits(until)
        stragglers = tuple(
            f"worker {worker.number} (pid {worker.process.pid if worker.process else 'unknown'})"
            for worker in self._by_key.values()
        )
        if stragglers:
            raise StopTimeout(stragglers, STUCK_S if timeout_s is None else timeout_s)

    def _await_exits(self, until: float) -> None:
        while self._by_key and (left := until - time.monotonic()) > 0:
            try:
                self.gone += [leaving.worker for leaving in self.events(left)]
            except LauncherGone:
                self._lose_launcher()

    def _lose_launcher(self) -> None:
        """End the launcher, which is gone or hangs, and all that it has started."""
        workers = self.remove_all()
        self.gone += workers
        self.drop_launcher()
        end_orphans(workers)

    def close(self, *, reusable: bool) -> None:
        """Let go of the launcher, and of the workers that are left."""
        workers = self.remove_all()
        if self.launcher is not None:
            self.launcher.release(reusable=reusable)
        end_orphans(workers)  # which waits at the descriptors that are closed next
        for worker in (*self.gone, *workers):
            worker.close()
        close_poller(self.poller)


def _earlier(wait_s: float, deadline: float | None) -> float:
    until = time.monotonic() + wait_s
    return until if deadline is None else min(until, deadline)
