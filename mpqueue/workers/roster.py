"""The workers of one pool: started, replaced and ended here, and only here.

Each worker is a `Link` on the trainer's side: its pipes, what it was granted, the specs that it has sent. The trainer
keeps the read end of the grant pipes too: so that a write to a dead worker is never a SIGPIPE, whatever handler the
user has set, and to take back grants that were not read. Ends that belong to the worker are closed as soon as it
runs, so that its reports end when it does.

Who ended is told by the launcher. A link is buried (its reports read to the end) by whoever gets the `Exit`.
"""

import contextlib
import fcntl
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from mpqueue.errors import StopTimeout
from mpqueue.memory.recipes import ReadSpec
from mpqueue.memory.slots import PAGE
from mpqueue.system import descriptors
from mpqueue.system.interrupts import HeldBack
from mpqueue.workers.launcher import Launcher, LauncherGone
from mpqueue.workers.records import GRANT
from mpqueue.workers.work import Work
from mpqueue.workers.worker_main import WorkerConfig, WorkerEnds

_GRACE_S = 0.2  # for workers to leave by themselves, before SIGTERM
_TERM_S = 1.0  # and after it, before SIGKILL
STUCK_S = 5.0  # what SIGKILL has not ended by then is stuck in the kernel


class Link:
    """The trainer's side of one worker process.

    Attributes:
        worker: Number of the worker; a replacement has the same.
        key: Number of this process among all that the pool ever started.
        in_flight: What it was granted and has not reported, by turn, in the order of its grants.
        room: How much that may be, so that the trainer never waits for a worker that waits for the trainer.
        outbox: Grants that are to be written.
        specs: Those that it has sent, by number.
        busy_since: When it took up its present grant, as far as the trainer knows.
        states: Turns of the states of the source that it has not loaded yet.
        pidfd: For signals that cannot hit a stranger, and to know that it is gone; -1 until it runs.
        is_starved: It holds a batch that it found no memory for.
        is_blameless: Its death will be our doing, not its ticket's.
        is_silenced: It is being killed, and nothing that it says is believed any more.
        killed_at: When it was sent SIGKILL, by `time.monotonic`; 0: it was not.
        is_abandoned: It does not die although it was killed, and has a successor.
        kept: Slots that its code held when it was abandoned.
        has_ended: Its stream has ended.
        published: Elements of a stream that it has reported in this epoch.
        dumped: Its stacks, if it was found hanging and is being killed for it.
    """

    def __init__(self, worker: int, key: int, segment_fd: int, *, with_stacks: bool) -> None:
        self.worker, self.key, self.pid, self.pidfd = worker, key, 0, -1
        opened: list[int] = []
        try:
            grants, self.grants = _noted(opened)
            self.reports, reports = _noted(opened)
            self.stacks, stacks = _noted(opened) if with_stacks else (-1, -1)
            self.take_back = _second_reader(grants)
        except OSError:
            for fd in opened:
                descriptors.close(fd)
            raise
        os.set_blocking(self.reports, False)
        self.room = _room_of(self.grants)
        self.ends = WorkerEnds(grants, reports, segment_fd, stacks)
        self.in_flight: dict[int, Work] = {}
        self.outbox = bytearray()
        self.specs: dict[int, ReadSpec] = {}
        self.busy_since = 0
        self.states: set[int] = set()
        self.is_starved = self.is_blameless = self.is_silenced = self.is_abandoned = self.has_ended = False
        self.published = 0
        self.killed_at = 0.0
        self.kept: list[int] = []
        self.dumped: str | None = None

    @property
    def is_stealable(self) -> bool:
        """Whether unread grants may be taken back: not past a state that it has to load first, nor from the dying."""
        if len(self.in_flight) < 2 or self.states or self.is_starved:
            return False
        return self.take_back >= 0 and self.dumped is None

    def flush(self) -> None:
        """Write the grants that were collected."""
        if self.outbox:
            os.write(self.grants, self.outbox)
            self.outbox.clear()

    def close_worker_ends(self) -> None:
        """The worker has them now."""
        for fd in (self.ends.grants, self.ends.reports, self.ends.stacks):
            if fd >= 0:
                descriptors.close(fd)

    def has_died(self) -> bool:
        """Whether the process is there no more, whatever the launcher says."""
        if self.pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def close_grants(self) -> None:
        """No more grants: the worker ends when it has served what it has."""
        if self.grants >= 0:
            grants, self.grants = self.grants, -1
            descriptors.close(grants)

    def close(self) -> None:
        """Close all that is left."""
        self.close_grants()
        for fd in (self.take_back, self.reports, self.stacks, self.pidfd):
            if fd >= 0:
                descriptors.close(fd)
        self.take_back = self.reports = self.stacks = self.pidfd = -1


class Exit(NamedTuple):
    """A worker has ended: how, its largest resident size in bytes, and by whom; or why it could not be started."""

    link: Link
    exitcode: int | None
    peak_bytes: int
    error: BaseException | None
    oom_killed: bool = False


class Roster:
    """All workers of a pool.

    Args:
        segment_fd: Descriptor of the ring.
        config_of: What a worker is started with, by its number and the stream elements that it has to skip.
        with_stacks: Give each worker a pipe for its stacks.

    Attributes:
        launcher: Starts the workers; owned. None before `set_launcher`, and when it is gone.
        links: The workers that are dealt work, by number.
        by_reports: Those that are listened to, by descriptor.
        gone: Workers that `end_workers` has ended, to be buried or closed.
        dying: Workers that were killed, and of whose end nobody has told yet.
    """

    def __init__(self, segment_fd: int, config_of: Callable[[int, int], WorkerConfig], *, with_stacks: bool) -> None:
        self.launcher: Launcher | None = None
        self.launcher_fd = -1
        self.links: dict[int, Link] = {}
        self.by_reports: dict[int, Link] = {}
        self.epoll = select.epoll()
        descriptors.own_object(self.epoll)
        self._segment_fd, self._config_of, self._with_stacks = segment_fd, config_of, with_stacks
        self.gone: list[Link] = []
        self.dying: list[Link] = []
        self._by_key: dict[int, Link] = {}  # all that have not ended
        self._next_key = 0

    def set_launcher(self, launcher: Launcher) -> None:
        """Start workers with this one from now on; there is no other."""
        self.launcher, self.launcher_fd = launcher, launcher.fileno()
        self.epoll.register(self.launcher_fd, select.EPOLLIN)

    def drop_launcher(self) -> int | None:
        """End the launcher; no worker of it is left. Its exit status, if it is a process that had ended by itself."""
        launcher, self.launcher = self.launcher, None
        if launcher is None:
            return None
        self.epoll.unregister(self.launcher_fd)
        self.launcher_fd = -1
        return launcher.release(reusable=False)

    def start(self, worker: int, *, skip: int = 0) -> None:
        """Ask for a worker; that it runs, or why it does not, is told by `events`.

        Raises:
            LauncherGone: There is no launcher, or it has died.
            OSError: There are not enough descriptors or processes.
        """
        if self.launcher is None:
            raise LauncherGone
        with HeldBack():
            link = Link(worker, self._next_key, self._segment_fd, with_stacks=self._with_stacks)
            self._next_key += 1
            link.published = skip
            self.links[worker] = self._by_key[link.key] = self.by_reports[link.reports] = link
            try:
                self.epoll.register(link.reports, select.EPOLLIN)
                event = self.launcher.start_worker(link.key, self._config_of(worker, skip), link.ends)
                if event is not None:
                    link.pid, link.pidfd = event.pid, event.pidfd
            except BaseException:
                self._strike_off(link)
                link.close()
                raise
            finally:
                link.close_worker_ends()

    @property
    def all_run(self) -> bool:
        """Whether every worker that was asked for runs."""
        return all(link.pid for link in self.links.values())

    def begin_to_count(self) -> None:
        """The time that workers have taken to start is not that of a batch."""
        now = time.perf_counter_ns()
        for link in self.links.values():
            link.busy_since = now

    def events(self, timeout_s: float | None = 0) -> list[Exit]:
        """Take in what the launcher tells; the workers that have ended are struck off.

        Raises:
            LauncherGone: The nursery has died, and all workers with it.
        """
        if self.launcher is None:
            raise LauncherGone
        exits = []
        for event in self.launcher.events(timeout_s):
            link = self._by_key[event.key]
            if event.pid:
                link.pid, link.pidfd = event.pid, event.pidfd
            else:
                self._strike_off(link)
                exits.append(Exit(link, event.exitcode, event.peak_bytes, event.error))
        return exits

    def _strike_off(self, link: Link) -> None:
        del self._by_key[link.key]
        if link in self.dying:
            self.dying.remove(link)
        self._deafen(link)
        if self.links.get(link.worker) is link:
            del self.links[link.worker]

    def _deafen(self, link: Link) -> None:
        # Not merely modified to no events: the end of the pipe is told in any case, again and again.
        if self.by_reports.pop(link.reports, None) is not None:
            self.epoll.unregister(link.reports)

    def strike_off_all(self) -> list[Link]:
        """The launcher is gone, and all workers with it; or it will be."""
        links = list(self._by_key.values())
        for link in links:
            self._strike_off(link)
        return links

    def kill(self, link: Link, number: int = signal.SIGKILL) -> None:
        """Send a worker a signal; its exit is told by `events`."""
        if number == signal.SIGKILL and not link.killed_at:
            link.killed_at = time.monotonic()
            self.dying.append(link)
        if link.pidfd >= 0:
            send_signal(link.pidfd, number)
        elif self.launcher is not None:  # it is being started: only the launcher knows it
            with contextlib.suppress(LauncherGone):
                self.launcher.kill(link.key, number)

    def silence(self, link: Link) -> None:
        """Hear no more of a worker but its end, which is made sure of."""
        link.is_silenced = True
        self._deafen(link)
        self.kill(link)

    def abandon(self, link: Link) -> None:
        """Give a worker up that was killed and does not die; its exit is told by `events` all the same."""
        link.is_abandoned = link.is_silenced = True
        self.dying.remove(link)
        self._deafen(link)
        del self.links[link.worker]

    def end_workers(self, timeout_s: float | None, *, is_urgent: bool = False) -> None:
        """End all workers: one deadline for all. They are `gone` then.

        Raises:
            StopTimeout: Some were still there when the time was over, or `STUCK_S` after they were killed.
        """
        for link in self._by_key.values():
            link.close_grants()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        steps = ((0.0, signal.SIGKILL),) if is_urgent else ((_GRACE_S, signal.SIGTERM), (_TERM_S, signal.SIGKILL))
        for wait_s, number in steps:
            until = time.monotonic() + wait_s
            self._await_exits(until if deadline is None else min(until, deadline))
            for link in self._by_key.values():
                self.kill(link, number)
        # What is killed is gone in a moment, unless it is stuck in the kernel; then the nursery tells of it, or hangs.
        now = time.monotonic()
        until = now + STUCK_S if deadline is None else max(deadline, now + _TERM_S)
        self._await_exits(min(until, now + _TERM_S))
        if any(link.has_died() for link in self._by_key.values()):
            self._lose_launcher()
        self._await_exits(until)
        stragglers = tuple(f"worker {link.worker} (pid {link.pid})" for link in self._by_key.values())
        if stragglers:
            raise StopTimeout(stragglers, STUCK_S if timeout_s is None else timeout_s)

    def _await_exits(self, until: float) -> None:
        while self._by_key and (left := until - time.monotonic()) > 0:
            try:
                self.gone += [leaving.link for leaving in self.events(left)]
            except LauncherGone:
                self._lose_launcher()

    def _lose_launcher(self) -> None:
        """It is gone, or hangs: end it, and all that it has started."""
        links = self.strike_off_all()
        self.gone += links
        self.drop_launcher()
        end_orphans(links)

    def close(self, *, reusable: bool) -> None:
        """Let go of the launcher, and of the workers that are left."""
        links = self.strike_off_all()
        if self.launcher is not None:
            self.launcher.release(reusable=reusable)
        end_orphans(links)
        for link in (*self.gone, *links):
            link.close()
        descriptors.close_object(self.epoll)


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal to the process of a pidfd, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def end_orphans(links: list[Link]) -> list[Link]:
    """Kill workers whose nursery is gone and wait for them; returns those that are stuck in the kernel."""
    poll = select.poll()
    waiting: dict[int, Link] = {}
    for link in links:
        if link.pidfd >= 0:
            send_signal(link.pidfd, signal.SIGKILL)
        # One that the nursery had no time to tell of has run no user code yet: the end of its pipe is its own.
        fd = link.pidfd if link.pidfd >= 0 else link.reports
        waiting[fd] = link
        poll.register(fd, select.POLLIN if link.pidfd >= 0 else 0)
    until = time.monotonic() + STUCK_S
    while waiting and (left := until - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            if waiting.pop(fd).pidfd >= 0:
                with contextlib.suppress(ChildProcessError):  # as a rule init reaps them; as process 1 we are init
                    os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
    return list(waiting.values())


def _noted(opened: list[int]) -> tuple[int, int]:
    ends = descriptors.pipe()
    opened += ends
    return ends


def _room_of(grants: int) -> int:
    """Grants that the pipe takes for sure: in the worst case each write leaves half a page unused."""
    try:
        capacity = fcntl.fcntl(grants, fcntl.F_GETPIPE_SZ)
    except AttributeError:  # not Linux, where pipes have at least this much
        capacity = 1 << 14
    return max(1, (capacity - PAGE) // (2 * GRANT.size))


def _second_reader(read_end: int) -> int:
    """Another open file of the same pipe: not to block belongs to the open file, and the worker's is to block."""
    if sys.platform != "linux":
        return -1
    return descriptors.own(os.open(f"/proc/self/fd/{read_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
