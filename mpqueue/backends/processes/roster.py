"""The workers of one pool; only this module starts, kills and ends them.

The launcher reports exits. The receiver of an `Exit` drains and closes the worker's handle
(`mpqueue.backends.processes.supervision`).
"""

import select
import signal
import time
from collections.abc import Iterable
from typing import NamedTuple

from mpqueue.backends.processes.handle import Cause, WorkerHandle
from mpqueue.backends.start.launcher import Launcher, LauncherGone
from mpqueue.errors import StopTimeout
from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.transport.poller import READABLE, close_poller, make_poller
from mpqueue.worker.config import WorkerConfig

STUCK_S = 5.0  # a process that survives SIGKILL for this time is stuck in the kernel


def end_orphans(workers: Iterable[WorkerHandle]) -> list[WorkerHandle]:
    """Kill and await the workers of a fork server that has exited; return the ones stuck in the kernel."""
    poll = select.poll()
    waiting: dict[int, WorkerHandle] = {}
    for worker in workers:
        process = worker.process
        if process is not None and process.sentinel >= 0:
            process.send(signal.SIGKILL)
            waiting[process.sentinel] = worker
            poll.register(process.sentinel, select.POLLIN)
        elif worker.pipes.reports >= 0:
            # The fork server exited before it reported this worker, which has run no user code yet. So its pipe ends
            # only with the process.
            waiting[worker.pipes.reports] = worker
            # Only the end counts, not reports. No code would read these here, and the poll would return repeatedly.
            poll.register(worker.pipes.reports, 0)
    until = time.monotonic() + STUCK_S
    while waiting and (left := until - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            process = waiting.pop(fd).process
            if process is not None and process.sentinel >= 0:
                # The fork server can no longer reap it. If this process is init, it is the new parent.
                process.reap_as_init()
    return list(waiting.values())


_GRACE_S = 0.2  # for workers to exit by themselves, before SIGTERM
_GRACE_OF_COROUTINES_S = 1.0  # the same if they await the `aclose` of their source
_TERM_S = 1.0  # after SIGTERM, before SIGKILL


class Exit(NamedTuple):
    """The exit of a worker.

    Attributes:
        worker: The worker.
        exitcode: Exit code (negative: number of a signal); None if it was not started.
        peak_bytes: Maximum resident size.
        error: Reason why it could not be started.
        oom_killed: The kernel's out-of-memory killer has killed it.
        lost: Name of its machine, if that is lost together with the worker.
        samples: The samples of the batch that it was computing, as in `mpqueue.errors.WorkerDied`.
    """

    worker: WorkerHandle
    exitcode: int | None
    peak_bytes: int = 0
    error: BaseException | None = None
    oom_killed: bool = False
    lost: str = ""
    samples: SampleIds = ()


class Roster:
    """All workers of a pool.

    Args:
        segment_fd: Descriptor of the ring.
        config: The configuration of worker 0; the other workers differ by the index.
        is_asynchronous: The source has coroutines.

    Attributes:
        launcher: Starts the workers; owned. None before `set_launcher`, and after its exit.
        poller: Polls the report pipes and the launcher.
        workers: Workers that are granted work, by index.
        by_reports: Workers with an open report pipe, by its descriptor.
        gone: Workers after `end_workers`, to be reaped or closed.
        dying: Killed workers without a reported exit, in the order of the kills, with the time of the kill
            (`time.monotonic`).
        moving: Workers that must exit after their work, because the launcher moves them.
    """

    def __init__(self, segment_fd: int, config: WorkerConfig, *, is_asynchronous: bool = False) -> None:
        self.launcher: Launcher | None = None
        self.workers: dict[int, WorkerHandle] = {}
        self.by_reports: dict[int, WorkerHandle] = {}
        self.poller = make_poller()
        self.gone: list[WorkerHandle] = []
        self.dying: dict[WorkerHandle, float] = {}
        self.moving: list[WorkerHandle] = []
        self._segment_fd, self._config = segment_fd, config
        self._grace_s = _GRACE_OF_COROUTINES_S if is_asynchronous else _GRACE_S
        self._by_key: dict[int, WorkerHandle] = {}  # without exited workers
        self._next_key = 0

    def set_launcher(self, launcher: Launcher) -> None:
        """Use this launcher for new workers; `launcher` must be None before."""
        self.launcher = launcher
        launcher.watch(self.poller)

    def drop_launcher(self) -> int | None:
        """End the launcher after its last worker; return its exit status, if its process had exited by itself."""
        launcher, self.launcher = self.launcher, None
        return None if launcher is None else launcher.release(reusable=False)

    def drop_unusable_launcher(self) -> None:
        """Drop a launcher without workers if an interrupt broke off a message to it, which is not a crash."""
        if self.launcher is not None and not self._by_key:
            try:
                self.events()
            except LauncherGone:
                self._lose_launcher()

    def start(self, index: int) -> None:
        """Request a worker; `events` reports that it runs, or why it does not.

        Raises:
            LauncherGone: There is no launcher, or it has exited.
            OSError: Descriptors or processes are exhausted.
        """
        if self.launcher is None:
            raise LauncherGone
        with defer_signals():  # Ctrl-C before the pipes are registered would leave them open
            worker = WorkerHandle(index, self._next_key)
            # Never reused, unlike the index of a worker: a late event must not concern the replacement.
            self._next_key += 1
            self.workers[index] = self._by_key[worker.key] = worker
            try:
                # Before the request: a running worker that cannot be polled would have to be killed again.
                self.poller.register(worker.pipes.reports, READABLE)
                # Only now: `_deafen` unregisters what is in this table, and would raise for a failed registration.
                self.by_reports[worker.pipes.reports] = worker
                config = self._config._replace(info=self._config.info._replace(id=index))
                event = self.launcher.start_worker(worker.key, config, worker.ends_for(self._segment_fd))
                if event is not None:
                    worker.process = event.process
            except BaseException:
                self._remove(worker)
                worker.close()
                raise
            finally:
                # The launcher has sent copies. While ours are open, the pipes do not end with the worker.
                worker.pipes.close_worker_ends()

    @property
    def pids(self) -> dict[int, int]:
        """The process ids of the workers on this machine, by worker index."""
        workers = sorted(self.workers.values(), key=lambda worker: worker.index)
        processes = {worker.index: worker.process for worker in workers}
        return {index: process.pid for index, process in processes.items() if process and not process.machine}

    @property
    def living(self) -> list[WorkerHandle]:
        """Workers that have work items, or can get some: present, leaving and killed ones."""
        return [worker for worker in self._by_key.values() if not worker.life.is_abandoned]

    def events(self, timeout_s: float | None = 0) -> list[Exit]:
        """Process the launcher's events; return the exits. Workers that have exited are removed.

        Raises:
            LauncherGone: The fork server has exited, and all workers with it.
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
                worker.busy_since = time.perf_counter_ns()  # the time until now does not count for a batch
            else:
                self._remove(worker)
                # Removed, but not drained: the receiver of the exit reads the last reports.
                exits.append(Exit(worker, event.exitcode, event.peak_bytes, event.error, lost=event.lost))
        return exits

    def _remove(self, worker: WorkerHandle) -> None:
        del self._by_key[worker.key]
        self.dying.pop(worker, None)
        self._deafen(worker)
        worker.life.end()
        if self.workers.get(worker.index) is worker:
            del self.workers[worker.index]

    def _deafen(self, worker: WorkerHandle) -> None:
        # Unregister: a poller would report the end of the pipe repeatedly, even for an empty event mask.
        if self.by_reports.pop(worker.pipes.reports, None) is not None:
            self.poller.unregister(worker.pipes.reports)

    def retire(self, worker: WorkerHandle) -> None:
        """Grant no more work to a worker: it exits after the rest, which `events` reports."""
        if self.workers.get(worker.index) is worker:
            # It remains in `_by_key`: its last reports are drained, and its exit is awaited.
            # Set before the pipe closes: an exit with code 0 is expected afterwards, and is not a crash.
            worker.is_leaving = True
            worker.pipes.close_grants()
            del self.workers[worker.index]

    def remove_all(self) -> list[WorkerHandle]:
        """Remove all workers after the exit of their launcher, or before it."""
        workers = list(self._by_key.values())
        for worker in workers:
            self._remove(worker)
        return workers

    def kill(self, worker: WorkerHandle, cause: Cause) -> None:
        """Send SIGKILL to a worker; `events` reports its exit."""
        # Only the first kill counts, so the time for `STUCK_S` is not extended by later ones.
        if worker.life.kill(cause):
            self.dying[worker] = time.monotonic()
        self.signal(worker, signal.SIGKILL)

    def signal(self, worker: WorkerHandle, number: int) -> None:
        """Send a signal to a worker, if it still exists."""
        process = worker.process
        if process is not None and process.sentinel >= 0:
            process.send(number)  # by descriptor: the process id may already belong to another process
        elif self.launcher is not None:  # it is still starting: only the launcher knows its process
            try:
                self.launcher.kill(worker.key, number)
            except LauncherGone:
                return  # the worker has exited with it, as the next call of `events` reports

    def silence(self, worker: WorkerHandle, cause: Cause) -> None:
        """Stop reading from a worker and kill it; only its exit is still reported."""
        with defer_signals():
            # In this order: a descriptor that is closed while registered may be reused the next moment.
            self._deafen(worker)
            worker.pipes.close_reports()
            self.kill(worker, cause)

    def abandon(self, worker: WorkerHandle) -> None:
        """Give up a killed worker that does not exit; `events` still reports its exit."""
        worker.life.abandon()
        del self.dying[worker]
        self._deafen(worker)
        worker.pipes.close_reports()
        if self.workers.get(worker.index) is worker:
            del self.workers[worker.index]

    def end_workers(self, timeout_s: float | None, *, is_urgent: bool = False) -> None:
        """End all workers, with one deadline for all; they are in `gone` afterwards.

        Raises:
            StopTimeout: Some still existed after the timeout, and `STUCK_S` after they were killed.
        """
        # Workers exit when their pipe of grants closes. Close all pipes before waiting, so that the workers exit in
        # parallel.
        for worker in self._by_key.values():
            worker.pipes.close_grants()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not is_urgent:
            self._await_exits(_earlier(self._grace_s, deadline))
            # The remaining ones run user code. SIGTERM allows it to clean up files and child processes.
            for worker in self._by_key.values():
                self.signal(worker, signal.SIGTERM)
            self._await_exits(_earlier(_TERM_S, deadline))
        for worker in self._by_key.values():
            self.kill(worker, Cause.STOPPED)
        # A killed process exits at once, unless it is stuck in the kernel. Then the fork server reports it, or hangs.
        # The caller's deadline does not shorten this wait: with forty processes on two CPUs it takes over a second, and
        # a `start` that was interrupted would raise `StopTimeout` instead of the interrupt.
        now = time.monotonic()
        until = max(now + STUCK_S, deadline or 0.0)
        self._await_exits(min(until, now + _TERM_S))
        if any(worker.process is not None and worker.process.has_ended() for worker in self._by_key.values()):
            # It has exited, but the fork server does not report that, so it will not report the others either.
            self._lose_launcher()
        if self.launcher is not None:
            # A launcher with several machines drops the machine instead, and then reports its workers.
            awaited = [key for key in self._by_key if self.launcher.give_up(key)]
            if any(worker.process is None for key, worker in self._by_key.items() if key not in awaited):
                # The fork server is still starting, loads the source or hangs. It would start the worker later.
                self._lose_launcher()
        self._await_exits(until)
        stragglers = tuple(
            f"worker {worker.index} (pid {worker.process.pid if worker.process else 'unknown'})"
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
        """End a launcher that has exited or hangs, and all its workers."""
        workers = self.remove_all()
        # Also workers without a confirmed exit: the receiver must close their handles.
        self.gone += workers
        self.drop_launcher()
        end_orphans(workers)

    def close(self, *, reusable: bool) -> None:
        """Release the launcher and the remaining workers."""
        workers = self.remove_all()
        if self.launcher is not None:
            self.launcher.release(reusable=reusable)
        end_orphans(workers)  # polls the descriptors that are closed next
        for worker in (*self.gone, *workers):
            worker.close()
        close_poller(self.poller)


def _earlier(wait_s: float, deadline: float | None) -> float:
    until = time.monotonic() + wait_s
    return until if deadline is None else min(until, deadline)
