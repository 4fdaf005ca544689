"""The workers of one pool: started, replaced and ended here, and only here.

Each worker is a `Link` on the trainer's side: its pipes, what it was granted, the specs that it has sent. The trainer
keeps the read end of the grant pipes too: so that a write to a dead worker is never a SIGPIPE, whatever handler the
user has set, and to take back grants that were not read. Ends that belong to the worker are closed as soon as it
runs, so that its reports end when it does.

Who ended is told by the launcher. A link is buried (its reports read to the end) by whoever gets the `Exit`.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from mpqueue.control import descriptors
from mpqueue.errors import StopTimeout
from mpqueue.memory.layout import ReadSpec
from mpqueue.workers.launcher import Event, Launcher, LauncherGone
from mpqueue.workers.loop import WorkerConfig, WorkerEnds
from mpqueue.workers.work import Work

_GRACE_S = 0.2  # for workers to leave by themselves, before SIGTERM
_TERM_S = 1.0  # and after it, before SIGKILL


class Link:
    """The trainer's side of one worker process.

    Attributes:
        worker: Number of the worker; a replacement has the same.
        key: Number of this process among all that the pool ever started.
        in_flight: What it was granted and has not reported, by turn, in the order of its grants.
        outbox: Grants that are to be written.
        specs: Those that it has sent, by number.
        busy_since: When it took up its present grant, as far as the trainer knows.
        states: Turns of the states of the source that it has not loaded yet.
        is_starved: It holds a batch that it found no memory for.
        is_blameless: Its death will be our doing, not its ticket's.
        published: Elements of a stream that it has reported in this epoch.
        dumped: Its stacks, if it was found hanging and is being killed for it.
    """

    def __init__(self, worker: int, key: int, segment_fd: int, *, with_stacks: bool) -> None:
        self.worker, self.key, self.pid = worker, key, 0
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
        self.ends = WorkerEnds(grants, reports, segment_fd, stacks)
        self.in_flight: dict[int, Work] = {}
        self.outbox = bytearray()
        self.specs: dict[int, ReadSpec] = {}
        self.busy_since = 0
        self.states: set[int] = set()
        self.is_starved = self.is_blameless = False
        self.published = 0
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

    def close_grants(self) -> None:
        """No more grants: the worker ends when it has served what it has."""
        if self.grants >= 0:
            grants, self.grants = self.grants, -1
            descriptors.close(grants)

    def close(self) -> None:
        """Close all that is left."""
        self.close_grants()
        for fd in (self.take_back, self.reports, self.stacks):
            if fd >= 0:
                descriptors.close(fd)


class Exit(NamedTuple):
    """A worker has ended: how, and its largest resident size in bytes."""

    link: Link
    exitcode: int
    peak_bytes: int


class Roster:
    """All workers of a pool.

    Args:
        launcher: Starts them; the roster owns it.
        segment_fd: Descriptor of the ring.
        config_of: What a worker is started with, by its number and the stream elements that it has to skip.
        with_stacks: Give each worker a pipe for its stacks.
    """

    def __init__(
        self,
        launcher: Launcher,
        segment_fd: int,
        config_of: Callable[[int, int], WorkerConfig],
        *,
        with_stacks: bool,
    ) -> None:
        self.launcher = launcher
        self.links: dict[int, Link] = {}  # living workers by number
        self.by_reports: dict[int, Link] = {}
        self.epoll = select.epoll()
        descriptors.own_object(self.epoll)
        self.epoll.register(launcher.fileno(), select.EPOLLIN)
        self._segment_fd, self._config_of, self._with_stacks = segment_fd, config_of, with_stacks
        self._by_key: dict[int, Link] = {}
        self._next_key = 0

    def start(self, worker: int, *, skip: int = 0) -> Link:
        """Start a worker; that it runs, or why it does not, is told by `events`."""
        link = Link(worker, self._next_key, self._segment_fd, with_stacks=self._with_stacks)
        self._next_key += 1
        link.published = skip
        self.links[worker] = self._by_key[link.key] = self.by_reports[link.reports] = link
        self.epoll.register(link.reports, select.EPOLLIN)
        try:
            self.launcher.start_worker(link.key, self._config_of(worker, skip), link.ends)
        except BaseException:
            self._strike_off(link)
            link.close()
            raise
        finally:
            link.close_worker_ends()
        return link

    def await_starts(self) -> list[Exit]:
        """Wait until all workers run, or have ended already.

        Raises:
            LauncherGone: The nursery died meanwhile.
            Exception: Why a worker could not be started.
        """
        exits: list[Exit] = []
        while any(not link.pid for link in self.links.values()):
            exits += self.events(None)
            if exits:
                break
        return exits

    def events(self, timeout_s: float | None = 0) -> list[Exit]:
        """Take in what the launcher tells; the workers that have ended are struck off.

        Raises:
            LauncherGone: The nursery has died, and all workers with it.
            Exception: Why a worker could not be started.
        """
        exits = []
        error: BaseException | None = None
        for event in self.launcher.events(timeout_s):
            link = self._by_key[event.key]
            if event.error is not None:
                self._strike_off(link)
                link.close()
                error = error or event.error
            elif event.exitcode is None:
                link.pid = event.pid
            else:
                exits.append(self._exit(link, event))
        if error is not None:
            raise error
        return exits

    def _exit(self, link: Link, event: Event) -> Exit:
        self._strike_off(link)
        assert event.exitcode is not None
        return Exit(link, event.exitcode, event.peak_bytes)

    def _strike_off(self, link: Link) -> None:
        del self._by_key[link.key], self.by_reports[link.reports]
        self.epoll.unregister(link.reports)
        if self.links.get(link.worker) is link:
            del self.links[link.worker]

    def strike_off_all(self) -> list[Link]:
        """The launcher is gone, and all workers with it."""
        links = list(self._by_key.values())
        for link in links:
            self._strike_off(link)
        return links

    def change_launcher(self, launcher: Launcher) -> None:
        """Start workers with this one from now on; no worker of the old one is left."""
        self.epoll.unregister(self.launcher.fileno())
        self.launcher.release(reusable=False)
        self.launcher = launcher
        self.epoll.register(launcher.fileno(), select.EPOLLIN)

    def kill(self, link: Link, number: int = signal.SIGKILL) -> None:
        """Send a worker a signal; its exit is told by `events`."""
        try:
            self.launcher.kill(link.key, number)
        except LauncherGone:
            return  # and the worker with it

    def silence(self, link: Link) -> None:
        """Hear no more of a worker but its end, which is made sure of."""
        if link.reports in self.by_reports:
            self.epoll.modify(link.reports, 0)
            self.kill(link)

    def end_workers(self, timeout_s: float | None) -> None:
        """End all workers: one deadline for all.

        Raises:
            StopTimeout: Some were still there when the time was over.
        """
        for link in self._by_key.values():
            link.close_grants()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for wait_s, number in ((_GRACE_S, signal.SIGTERM), (_TERM_S, signal.SIGKILL)):
            until = time.monotonic() + wait_s
            self._await_exits(until if deadline is None else min(until, deadline))
            for link in list(self._by_key.values()):
                self.kill(link, number)
        # What is killed is gone in a moment, unless it is stuck in the kernel.
        self._await_exits(None if deadline is None else max(deadline, time.monotonic() + _TERM_S))
        if not self._by_key:
            return
        stragglers = tuple(f"worker {link.worker} (pid {link.pid})" for link in self._by_key.values())
        raise StopTimeout(stragglers, timeout_s or 0.0)

    def _await_exits(self, until: float | None) -> None:
        while self._by_key:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            try:
                for event in self.launcher.events(left):
                    link = self._by_key[event.key]
                    if event.error is not None or event.exitcode is not None:
                        self._strike_off(link)
                        link.close()
            except LauncherGone:
                for link in self.strike_off_all():
                    link.close()

    def close(self, *, reusable: bool) -> None:
        """Let go of the launcher; no worker is left."""
        for link in self.strike_off_all():
            link.close()
        self.launcher.release(reusable=reusable)
        descriptors.close_object(self.epoll)


def _noted(opened: list[int]) -> tuple[int, int]:
    ends = descriptors.pipe()
    opened += ends
    return ends


def _second_reader(read_end: int) -> int:
    """Another open file of the same pipe: not to block belongs to the open file, and the worker's is to block."""
    if sys.platform != "linux":
        return -1
    return descriptors.own(os.open(f"/proc/self/fd/{read_end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
