"""How the trainer gets worker processes: from a nursery, or by forking itself.

A `Launcher` starts workers, is waited on through one descriptor, and tells which of them have ended and how. The
trainer never polls and never waits by the clock to learn of a death: a nursery reaps its workers and sends a message,
and its own death is the end of its socket; workers forked by the trainer are watched by pidfds in an epoll.

A nursery that is not needed any more is *parked*: it stays for 5 s with all its imports, its own wait ends it, and
the next `take_nursery` gets it back. `shutdown` ends them now.
"""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from mpqueue.memory.glibc import with_large_copies_uncached
from mpqueue.system import descriptors, interrupts, parent_death
from mpqueue.system.interrupts import HeldBack, let_through
from mpqueue.workers import failures, wire
from mpqueue.workers.nursery import NURSERY_CODE, Settings
from mpqueue.workers.source_send import SourceImage, make_patch
from mpqueue.workers.worker_main import Payload, WorkerConfig, WorkerEnds, prepare_process, run_and_exit

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_REAP_S = 1.0  # what was killed is gone sooner


class LauncherGone(Exception):
    """The nursery has died, and all its workers with it; with its exit status, if that is known."""

    def __init__(self, exitcode: int | None = None) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode


class Event(NamedTuple):
    """What a launcher tells of one worker.

    Attributes:
        key: The worker's key, as given to `Launcher.start_worker`.
        pid: Its process id, if it has just started.
        pidfd: And a descriptor of it, which is the receiver's to close.
        exitcode: How it ended (negative: by that signal), None if it has just started.
        peak_bytes: Its largest resident size, if it has ended.
        error: Why it could not be started, instead of all that.
    """

    key: int
    pid: int = 0
    pidfd: int = -1
    exitcode: int | None = None
    peak_bytes: int = 0
    error: BaseException | None = None


class Launcher(Protocol):
    """Starts workers and reports on them; used under the pipeline's lock."""

    def fileno(self) -> int:
        """Readable when `events` has something to say."""
        ...

    def set_image(self, image: SourceImage) -> None:
        """Workers started from now on run this source."""
        ...

    def start_worker(self, key: int, config: WorkerConfig, ends: WorkerEnds) -> Event | None:
        """Start a worker; its `Event`, with its pid or an error, is returned or follows. The ends stay the caller's.

        Raises:
            LauncherGone: The nursery has died.
            OSError: There are not enough processes or descriptors.
        """
        ...

    def kill(self, key: int, number: int) -> None:
        """Send a signal to a worker of which no event has told yet."""
        ...

    def events(self, timeout_s: float | None = 0) -> list[Event]:
        """What has happened; waits at most so long (None: until something happens).

        Raises:
            LauncherGone: The nursery has died.
        """
        ...

    def release(self, *, reusable: bool) -> int | None:
        """No worker is left and none will be started: park it, or end it. Its exit status, if it had ended itself."""
        ...


class Nursery:
    """The trainer's end of a nursery process; see `mpqueue.workers.nursery`.

    Args:
        spawn: Each worker is to be a fresh interpreter.
    """

    def __init__(self, *, spawn: bool) -> None:
        import subprocess

        self.spawn = spawn
        self._pid = os.getpid()
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
        with HeldBack(), contextlib.ExitStack() as undo:
            self._socket, theirs = descriptors.socketpair()
            undo.callback(descriptors.close_object, self._socket)
            undo.enter_context(theirs)
            lifeline_read, self._lifeline = descriptors.pipe()
            undo.callback(descriptors.close, lifeline_read)
            undo.callback(descriptors.close, self._lifeline)
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited until it knows to ignore it
            try:
                # -P: with -c, an empty path entry would let a file of the working directory stand in for a module.
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        *flags,
                        "-P",
                        "-c",
                        NURSERY_CODE,
                        *sys.path,
                        str(theirs.fileno()),
                        str(lifeline_read),
                    ],
                    pass_fds=[theirs.fileno(), lifeline_read],
                    stdin=subprocess.DEVNULL,
                    env=with_large_copies_uncached({**os.environ, **_ONE_THREAD}),
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            undo.pop_all()
            theirs.close()
            parent_death.arm(lifeline_read, self._process.pid)
            descriptors.close(lifeline_read)
        self._digests: list[bytes] = []
        self._fingerprint: tuple[bytes, ...] | None = None
        self._is_whole = True

    def settle(self) -> None:
        """Hand over the trainer's working directory, path and environment, as they are now."""
        try:
            cwd = os.getcwd()
        except FileNotFoundError:
            cwd = "/"
        self._send(wire.To.SETTINGS, Settings(cwd, list(sys.path), {**os.environ, **_ONE_THREAD}, self.spawn))

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def set_image(self, image: SourceImage) -> None:
        """Send what the nursery does not have of the source."""
        fingerprint = image.fingerprint
        if fingerprint == self._fingerprint:
            return
        patch = make_patch(image, self._digests)
        body = (patch.data, list(patch.new), patch.old)
        self._fingerprint, self._digests = None, []  # what it has is not known until it is sent
        let_through(self._send, wire.To.SOURCE, body, list(patch.new.values()))
        self._fingerprint, self._digests = fingerprint, image.digests

    def start_worker(self, key: int, config: WorkerConfig, ends: WorkerEnds) -> None:
        """Ask for a worker."""
        self._send(wire.To.FORK, (key, config), fds=ends.sent)

    def kill(self, key: int, number: int) -> None:
        """Have the nursery send a signal."""
        self._send(wire.To.KILL, (key, number))

    def events(self, timeout_s: float | None = 0) -> list[Event]:
        """Messages of the nursery."""
        self._require_whole()
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        found: list[Event] = []
        while _wait_for(poll, 0 if found else timeout_s):
            self._is_whole = False
            message = wire.receive(self._socket)
            self._is_whole = True
            if message is None:
                if found:
                    return found  # the end is still there at the next call
                raise LauncherGone
            if message.kind == wire.From.FORKED:
                key, pid = message.body
                found.append(Event(key, pid=pid, pidfd=descriptors.own(message.fds[0]) if message.fds else -1))
            elif message.kind == wire.From.EXITED:
                key, code, peak = message.body
                found.append(Event(key, exitcode=code, peak_bytes=peak))
            elif message.kind == wire.From.FAILED:
                found.append(Event(message.body[0], error=failures.unpack(message.body[1])))
            elif message.kind == wire.From.NOTE:
                warnings.warn(f"mpqueue: {message.body}", RuntimeWarning, stacklevel=2)
        return found

    def release(self, *, reusable: bool) -> int | None:
        """Park it, or end it."""
        if os.getpid() != self._pid:
            return None
        if reusable:
            try:
                self._send(wire.To.PARK, None)
            except LauncherGone:
                reusable = False
        if not reusable:
            return self.end()
        with _parked_lock:
            _parked.append(self)
        return None

    def end(self) -> int | None:
        """End the process and wait for it; its exit status, if it had ended by itself."""
        by_itself = self._has_ended()
        descriptors.close(self._lifeline)  # which kills its workers, whatever it is doing
        self._process.kill()  # it holds nothing that needs a clean end
        self._process.wait()
        descriptors.close_object(self._socket)
        return self._process.returncode if by_itself else None

    def _has_ended(self) -> bool:
        """Whether it has closed its side, which it does as its last act (or user code in its place)."""
        poll = select.poll()
        poll.register(self._socket, 0)
        return bool(poll.poll(0))

    def _send(self, kind: int, body: Any, buffers: Any = (), fds: Any = ()) -> None:
        self._require_whole()
        self._is_whole = False
        try:
            wire.send(self._socket, kind, body, buffers, fds)
        except ConnectionError as error:
            raise LauncherGone from error
        self._is_whole = True

    def _require_whole(self) -> None:
        """After an interrupt in the middle of a message nobody knows where the next one begins."""
        if not self._is_whole:
            raise LauncherGone


_parked: list[Nursery] = []
_parked_lock = threading.RLock()  # a garbage collection in here may end an enqueuer that nobody holds, and park its own
_before_shutdown: list[Callable[[], None]] = []


def take_nursery(*, spawn: bool) -> Nursery:
    """A parked nursery, or a new one, with the trainer's settings as they are now."""
    while True:
        with _parked_lock:
            fitting = [nursery for nursery in _parked if nursery.spawn == spawn]
            nursery = fitting[-1] if fitting else None
            if nursery is not None:
                _parked.remove(nursery)
        if nursery is None:
            nursery = Nursery(spawn=spawn)
            nursery.settle()
            return nursery
        with contextlib.suppress(LauncherGone):
            nursery.settle()
            if not nursery.events():
                return nursery
        nursery.end()  # its time was over


def before_shutdown(end_idle: Callable[[], None]) -> None:
    """Call this at every `shutdown`: it stops pools that live on although nobody asks them for a batch."""
    _before_shutdown.append(end_idle)


def shutdown() -> None:
    """End parked pools now, instead of 5 s after their last enqueuer was stopped; running ones are left alone."""
    for end_idle in _before_shutdown:
        end_idle()
    with _parked_lock:
        ending, _parked[:] = _parked[:], []
    for nursery in ending:
        nursery.end()


def _forget_parked() -> None:
    _parked.clear()


os.register_at_fork(after_in_child=_forget_parked)
atexit.register(shutdown)


class Forker:
    """Forks workers from the trainer itself, for sources that cannot be pickled."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._lifeline_read, self._lifeline = descriptors.pipe()
        try:
            self._epoll = select.epoll()
        except OSError:
            descriptors.close(self._lifeline_read)
            descriptors.close(self._lifeline)
            raise
        descriptors.own_object(self._epoll)
        self._children: dict[int, tuple[int, int]] = {}  # by pidfd: key, pid

    def fileno(self) -> int:
        """Of the epoll of all pidfds."""
        return self._epoll.fileno()

    def set_image(self, image: SourceImage) -> None:
        """Nothing to do: workers are forked with the source as it is."""

    def start_worker(self, key: int, config: WorkerConfig, ends: WorkerEnds) -> Event:
        """Fork; see `mpqueue.workers.worker_main` for what the child does."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()  # or the child would print again what is still in the buffer
        with HeldBack():
            read_end = descriptors.own(parent_death.reopen(self._lifeline_read))
            noted = descriptors.adopt((*ends.sent, read_end))
            try:
                pid = _fork_quietly()
                if pid == 0:
                    self._live(config, ends, read_end)
                parent_death.arm(read_end, pid)
            finally:
                for fd in noted:
                    descriptors.own(fd)
                descriptors.close(read_end)
            return self._note(key, pid)

    def _note(self, key: int, pid: int) -> Event:
        try:
            pidfd = descriptors.own(os.pidfd_open(pid))
        except OSError:  # nobody would learn of its end, so it ends now
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._children[pidfd] = (key, pid)
        self._epoll.register(pidfd, select.EPOLLIN)
        return Event(key, pid=pid, pidfd=descriptors.own(os.dup(pidfd)))

    def _live(self, config: WorkerConfig, ends: WorkerEnds, read_end: int) -> None:
        try:
            parent_death.arm(read_end)
            interrupts.restore()
            prepare_process()
            run_and_exit(config, self._payload, [], ends)
        finally:
            os._exit(1)

    def kill(self, key: int, number: int) -> None:
        """Not needed: `start_worker` has told of every worker."""

    def events(self, timeout_s: float | None = 0) -> list[Event]:
        """Exits, by pidfd."""
        found = []
        for pidfd, _ in _wait_for(self._epoll, timeout_s):
            key, pid = self._children.pop(pidfd)
            self._epoll.unregister(pidfd)
            descriptors.close(pidfd)
            try:
                _pid, status, usage = os.wait4(pid, 0)
                found.append(Event(key, exitcode=os.waitstatus_to_exitcode(status), peak_bytes=usage.ru_maxrss * 1024))
            except ChildProcessError:  # a SIGCHLD handler of the user was faster: how it ended is lost
                found.append(Event(key, exitcode=-signal.SIGKILL))
        return found

    def release(self, *, reusable: bool) -> None:  # noqa: ARG002 - a fork of the trainer's past is of no use later
        """Close the lifeline, which kills what is left; what is stuck in the kernel stays behind."""
        descriptors.close(self._lifeline)
        until = time.monotonic() + _REAP_S
        while self._children and (left := until - time.monotonic()) > 0:
            self.events(left)
        for pidfd in self._children:
            descriptors.close(pidfd)
        descriptors.close(self._lifeline_read)
        descriptors.close_object(self._epoll)


def _fork_quietly() -> int:
    with warnings.catch_warnings():
        # 3.12 and JAX warn of every fork beside threads; ours was announced once, with the threads' names.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        return os.fork()


def _wait_for(selector: Any, timeout_s: float | None) -> Any:
    """The events of a poll or an epoll; in the latter's unit of time."""
    if timeout_s is not None and not isinstance(selector, select.epoll):
        timeout_s = max(0.0, timeout_s * 1000)
    if not timeout_s and timeout_s is not None:
        return selector.poll(0)  # and the caller may have events in hand already
    return let_through(selector.poll, timeout_s)
