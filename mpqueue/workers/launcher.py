"""Launchers start worker processes: their protocol, and the trainer's end of a fork server.

A `Launcher` starts workers, is waited for with the pool's other descriptors, and reports which workers have ended and
how. The trainer never polls and never waits by the clock to learn of a death: a fork server reaps its workers and sends
a message, and its own death is the end of its socket. `mpqueue.workers.forker` has workers that the trainer forks.

A fork server that is not needed any more is *parked*: it stays for 5 s with all its imports, its own wait ends it, and
the next `take_fork_server` gets it back. `shutdown` ends them now. Every fork server has the same hash seed, so that
any of them will do; see `mpqueue.system.hash_seed`. A thread waits for the end of each parked fork server, and reaps
it: nobody else would look at it before the next `take_fork_server`, and it would be a zombie until then.
"""

import _thread
import atexit
import contextlib
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mpqueue.memory.glibc import with_large_copies_uncached
from mpqueue.system import descriptors, hash_seed, parent_death
from mpqueue.system.cpus import allowed_cpus
from mpqueue.system.inheritance import inherited
from mpqueue.system.interrupts import allow_signals, block_signals, defer_signals
from mpqueue.system.locks import RLock
from mpqueue.system.processes import Process
from mpqueue.transport.poller import READABLE, has_hung_up
from mpqueue.worker import failures
from mpqueue.worker.config import WorkerConfig, WorkerEnds
from mpqueue.workers import fork_server_messages as messages
from mpqueue.workers.entry_code import FORK_SERVER_CODE
from mpqueue.workers.kept_source import NOTHING, keep
from mpqueue.workers.source_send import Patch, SourceImage, make_patch

if TYPE_CHECKING:
    import subprocess

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_TOLD = frozenset({hash_seed.VARIABLE, *_ONE_THREAD})  # an interpreter is given values of ours


class LauncherGone(Exception):
    """The fork server has died, and all its workers with it; with its exit status, if that is known."""

    def __init__(self, exitcode: int | None = None) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode


class ProcessEvent(NamedTuple):
    """Event of one worker that a launcher reports.

    Attributes:
        key: The worker's key, as given to `Launcher.start_worker`.
        process: The worker's process, if it has just started; its sentinel is the receiver's to close.
        exitcode: How it ended (negative: by that signal), None if it has just started.
        peak_bytes: Its largest resident size, if it has ended.
        error: Why it could not be started, instead of all that.
        lost: The machine that it was on, if that is lost, and the worker with it.
        moves: It is to end after its work: its place is on another machine.
    """

    key: int
    process: Process | None = None
    exitcode: int | None = None
    peak_bytes: int = 0
    error: BaseException | None = None
    lost: str = ""
    moves: bool = False


class Launcher(Protocol):
    """Starts workers and reports on them; used under the pipeline's lock."""

    def watch(self, poller: Any) -> None:
        """Register with a poller what is readable when `events` has something to say, until `release`."""
        ...

    def set_image(self, image: SourceImage) -> Patch | None:
        """Have workers that are started from now on run this source; return what it changes, None: nothing."""
        ...

    def has_image(self, image: SourceImage) -> bool:
        """Return whether workers that are started now run this very source."""
        ...

    def start_worker(self, key: int, config: WorkerConfig, ends: WorkerEnds) -> ProcessEvent | None:
        """Start a worker; its `ProcessEvent` is returned, or follows. The ends stay the caller's.

        Raises:
            LauncherGone: The fork server has died.
            OSError: There are not enough processes or descriptors.
        """
        ...

    def kill(self, key: int, number: int) -> None:
        """Send a signal to a worker that no event has reported yet."""
        ...

    def events(self, timeout_s: float | None = 0) -> list[ProcessEvent]:
        """Return the events; wait at most so long (None: until there is one).

        Raises:
            LauncherGone: The fork server has died.
        """
        ...

    def give_up(self, key: int) -> bool:
        """A worker that was killed does not end: True if `events` will report its end all the same."""
        ...

    def release(self, *, reusable: bool) -> int | None:
        """No worker is left and none will be started: park it, or end it. Its exit status, if it had ended itself."""
        ...


def wait_for(poll: select.poll, timeout_s: float | None) -> list[tuple[int, int]]:
    """Return the events of a poll; signal handlers run while it waits."""
    if not timeout_s and timeout_s is not None:
        return poll.poll(0)  # and the caller may have events in hand already
    return allow_signals(poll.poll, None if timeout_s is None else max(0.0, timeout_s * 1000))


class _LauncherKind(NamedTuple):
    """A fork server serves streams of its own kind only.

    Attributes:
        spawn: Each worker is a fresh interpreter.
        hash_seed: Its hash seed.
        inherited: What it has from the trainer of its start.
    """

    spawn: bool
    hash_seed: str
    inherited: tuple[object, ...]


def _kind_of(*, spawn: bool) -> _LauncherKind:
    return _LauncherKind(spawn, hash_seed.chosen_hash_seed(os.environ), inherited(os.environ, _TOLD))


def _interpreter_flags() -> list[str]:
    import subprocess

    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    # -P: with -c, an empty path entry would let a file of the working directory stand in for a module.
    return [*flags, "-P"]


def _fork_server_environ(salt: str) -> dict[str, str]:
    return hash_seed.with_hash_seed(with_large_copies_uncached({**os.environ, **_ONE_THREAD}), salt)


def _start_interpreter(fds: list[int], salt: str) -> "subprocess.Popen[bytes]":
    """Start a fork server, which finds these descriptors under the same numbers."""
    import subprocess

    command = [sys.executable, *_interpreter_flags(), "-c", FORK_SERVER_CODE, *sys.path, *map(str, fds)]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited until it knows to ignore it
    try:
        return subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=_fork_server_environ(salt))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class ForkServer:
    """The trainer's end of a fork server process; see `mpqueue.workers.fork_server`.

    Args:
        spawn: Each worker is to be a fresh interpreter.
    """

    def __init__(self, *, spawn: bool) -> None:
        self.kind = _kind_of(spawn=spawn)
        self._pid = os.getpid()
        with defer_signals(), contextlib.ExitStack() as undo:
            self._socket, theirs = descriptors.socketpair()
            undo.callback(descriptors.close_object, self._socket)
            undo.enter_context(theirs)
            lifeline_read, self._lifeline = descriptors.pipe()
            undo.callback(descriptors.close, lifeline_read)
            undo.callback(descriptors.close, self._lifeline)
            self._process = _start_interpreter([theirs.fileno(), lifeline_read], self.kind.hash_seed)
            undo.pop_all()
            theirs.close()
            # From here, too: it may be stopped before it runs a line of its own, and outlive this process.
            parent_death.arm(lifeline_read, self._process.pid)
            descriptors.close(lifeline_read)
        self._poller: Any = None
        self._kept = NOTHING
        self._is_whole = True
        self.is_watched = False  # by `_reap_parked`

    def settle(self) -> None:
        """Hand over the trainer's working directory, path, environment and CPUs, as they are now."""
        try:
            cwd = os.getcwd()
        except FileNotFoundError:
            cwd = "/"
        environ = {**os.environ, **_ONE_THREAD}
        settings = messages.Settings(cwd, list(sys.path), environ, allowed_cpus(), self.kind.spawn)
        self._send(messages.ToForkServer.SETTINGS, settings)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `events` has something to say."""
        return self._socket.fileno()

    def watch(self, poller: Any) -> None:
        """Register the socket."""
        poller.register(self._socket, READABLE)
        self._poller = poller

    def set_image(self, image: SourceImage) -> Patch | None:
        """Send what the fork server does not have of the source."""
        if allow_signals(self.has_image, image):
            return None
        patch = make_patch(image, allow_signals(self._kept.find, image))
        self.send_patch(patch)
        return patch

    def has_image(self, image: SourceImage) -> bool:
        """Return whether it has this very source."""
        return self._kept.is_same(image)

    def send_patch(self, patch: Patch) -> None:
        """Send a patch of the source that it has.

        Raises:
            OSError: There is no shared memory for it, or there are no descriptors.
        """
        known, kept = self._kept, allow_signals(keep, patch, self._kept)
        new = {number: snapshot for number, snapshot in kept.snapshots.items() if number not in known.snapshots}
        self._kept = NOTHING  # what it has is not known until it is sent
        body = patch.data, list(new), kept.places
        allow_signals(self._send, messages.ToForkServer.SOURCE, body, [snapshot.fileno() for snapshot in new.values()])
        self._kept = kept

    def start_worker(self, key: int, config: WorkerConfig, ends: WorkerEnds) -> None:
        """Ask for a worker."""
        self._send(messages.ToForkServer.FORK, (key, config), ends.sent)

    def kill(self, key: int, number: int) -> None:
        """Have the fork server send a signal."""
        self._send(messages.ToForkServer.KILL, (key, number))

    def events(self, timeout_s: float | None = 0) -> list[ProcessEvent]:
        """Messages of the fork server."""
        self._require_whole()
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        found: list[ProcessEvent] = []
        while wait_for(poll, 0 if found else timeout_s):
            self._is_whole = False
            message = messages.receive(self._socket, messages.FROM_FORK_SERVER)
            self._is_whole = True
            if message is None:
                if found:
                    return found  # the end is still there at the next call
                raise LauncherGone
            if message.kind == messages.FromForkServer.FORKED:
                key, pid = message.body
                sentinel = descriptors.own(message.fds[0]) if message.fds else -1
                found.append(ProcessEvent(key, Process(pid, sentinel)))
            elif message.kind == messages.FromForkServer.EXITED:
                key, code, peak = message.body
                found.append(ProcessEvent(key, exitcode=code, peak_bytes=peak))
            elif message.kind == messages.FromForkServer.FAILED:
                found.append(ProcessEvent(message.body[0], error=failures.unpack(message.body[1])))
            elif message.kind == messages.FromForkServer.NOTE:
                warnings.warn(f"mpqueue: {message.body}", RuntimeWarning, stacklevel=2)
        return found

    def give_up(self, key: int) -> bool:  # noqa: ARG002 - it reports the end of each of its workers, or none any more
        """Return False."""
        return False

    def release(self, *, reusable: bool) -> int | None:
        """Park it, or end it."""
        if os.getpid() != self._pid:  # a forked child: it is the parent's
            return None
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.unregister(self._socket)
        if reusable:
            try:
                self._send(messages.ToForkServer.PARK, None)
            except LauncherGone:
                reusable = False
        if not reusable:
            return self.end()
        for snapshot in self._kept.snapshots.values():
            snapshot.let_go()  # or the memory would outlast the fork server, whose end nobody here waits for
        with _parked_lock:
            _parked.append(self)
            if not self.is_watched:
                # Without `threading.Thread`, which programs count: this thread is no work of theirs. Where there is no
                # room for a thread, the fork server is reaped by the next `take_fork_server`.
                with contextlib.suppress(RuntimeError):
                    _thread.start_new_thread(_reap_parked, (self, self.fileno()))
                    self.is_watched = True
        return None

    def resume(self) -> None:
        """Take back what a parked fork server has kept, to compare sources with it.

        Raises:
            LauncherGone: Its time was over.
        """
        if not self._kept.snapshots:
            return
        kept, self._kept = self._kept, NOTHING
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        with defer_signals():  # from here on: descriptors that have come, and that nobody has noted, would be lost
            self._send(messages.ToForkServer.RETURN, None)
            self._is_whole = False
            wait_for(poll, None)  # it may be busy; its answer comes in one piece
            message = messages.receive(self._socket, messages.FROM_FORK_SERVER)
            is_kept = message is not None and message.kind == messages.FromForkServer.KEPT
            if message is None or not is_kept or len(message.fds) != len(kept.snapshots):
                for fd in message.fds if message else ():
                    os.close(fd)
                raise LauncherGone
            self._is_whole = True
            for number, fd in zip(message.body, message.fds, strict=True):
                kept.snapshots[number].take_back(fd)
            self._kept = kept

    def end(self) -> int | None:
        """End the process and wait for it; its exit status, if it had ended by itself."""
        by_itself = self.has_ended()
        descriptors.close(self._lifeline)  # which kills its workers, whatever it is doing
        # It holds nothing that needs a clean end. Where the trainer has become another user meanwhile, it may not kill
        # the fork server; the kernel sends the lifeline's signal by the rights of who has asked for it.
        with contextlib.suppress(PermissionError):
            self._process.kill()
        self._process.wait()
        descriptors.close_object(self._socket)
        self._kept = NOTHING
        return self._process.returncode if by_itself else None

    def has_ended(self) -> bool:
        """Return True if it has closed its side, which it does as its last act (or user code in its place)."""
        return has_hung_up(self._socket.fileno())

    def _send(self, kind: int, body: Any, fds: Sequence[int] = ()) -> None:
        self._require_whole()
        self._is_whole = False
        try:
            messages.send(self._socket, kind, body, fds)
        except ConnectionError as error:
            raise LauncherGone from error
        self._is_whole = True

    def _require_whole(self) -> None:
        """After an interrupt in the middle of a message nobody knows where the next one begins."""
        if not self._is_whole:
            raise LauncherGone


_parked: list[ForkServer] = []
_parked_lock = RLock()  # a garbage collection in here may end an enqueuer that nobody holds, and park its own
_before_shutdown: list[Callable[[], None]] = []
_LOOK_MS = 6000  # more than a fork server is parked: a thread is gone soon after its fork server was taken back


def _reap_parked(fork_server: ForkServer, fd: int) -> None:
    """Reap a parked fork server with this descriptor when it has ended. One that is taken back is left alone."""
    block_signals()
    poll = select.poll()
    poll.register(fd, 0)  # the end of the socket is always reported, and its messages never
    while True:
        poll.poll(_LOOK_MS)
        with _parked_lock:
            if fork_server in _parked and not fork_server.has_ended():
                continue
            fork_server.is_watched = False
            if fork_server not in _parked:
                return
            _parked.remove(fork_server)
        fork_server.end()
        return


def take_fork_server(*, spawn: bool) -> ForkServer:
    """A parked fork server, or a new one, with the trainer's settings as they are now."""
    kind = _kind_of(spawn=spawn)
    while True:
        with defer_signals(), _parked_lock:
            # The one that was parked last: its time is over last.
            fork_server = next((fork_server for fork_server in reversed(_parked) if fork_server.kind == kind), None)
            if fork_server is not None:
                _parked.remove(fork_server)
            for other in [fork_server for fork_server in _parked if fork_server.kind.inherited != kind.inherited]:
                _parked.remove(other)  # this process is not what it was, and rarely becomes it again
                other.end()
        if fork_server is None:
            fork_server = ForkServer(spawn=spawn)
            fork_server.settle()
            return fork_server
        try:
            fork_server.settle()
            if not fork_server.events():
                fork_server.resume()
                return fork_server
        except LauncherGone:
            pass
        except BaseException:  # an interrupt: nobody else knows of it any more
            fork_server.end()
            raise
        fork_server.end()  # its time was over


def before_shutdown(end_idle: Callable[[], None]) -> None:
    """Call this at every `shutdown`: it stops pools that live on although nobody asks them for a batch."""
    _before_shutdown.append(end_idle)


def shutdown() -> None:
    """End parked pools now, instead of 5 s after their last enqueuer was stopped; running ones are left alone."""
    for end_idle in _before_shutdown:
        end_idle()
    with _parked_lock:
        ending, _parked[:] = _parked[:], []
    for fork_server in ending:
        fork_server.end()


def _forget_parked() -> None:
    global _parked_lock
    _parked.clear()
    _parked_lock = RLock()  # another thread may have held it at the fork


os.register_at_fork(after_in_child=_forget_parked)
atexit.register(shutdown)
