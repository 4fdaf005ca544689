"""Launchers start worker processes: their protocol, and the trainer's end of a fork server.

A `Launcher` starts workers and reports exits with their exit codes. The pool polls it with its other descriptors. No
timeout is needed to detect a crash: a fork server reaps its workers and sends a message, and the socket closes when
the fork server itself crashes. `mpqueue.backends.start.forker` has the workers that the trainer forks.

An unused fork server is *parked*: it keeps its imports for 5 s, then exits by itself, unless `take_fork_server` reuses
it. `shutdown` ends parked ones at once. All fork servers have the same hash seed and are interchangeable; see
`mpqueue.system.processes.hash_seed`. A thread per parked fork server reaps it after its exit. Otherwise it would be a
zombie until the next `take_fork_server`.
"""

import _thread
import atexit
import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mpqueue.backends.start import fork_server_messages as messages
from mpqueue.backends.start.entry_code import FORK_SERVER_CODE
from mpqueue.memory.glibc import with_large_copies_uncached
from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes import hash_seed, parent_death
from mpqueue.system.processes.child_process import Parent, describe_parent
from mpqueue.system.processes.cpus import allowed_cpus
from mpqueue.system.processes.inheritance import inherited
from mpqueue.system.processes.processes import Process
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.signals import group_signals
from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.signals.deferred import allow_signals, defer_signals
from mpqueue.system.signals.locks import RLock
from mpqueue.system.signals.masks import block_signals
from mpqueue.transport.poller import READABLE, has_hung_up

if TYPE_CHECKING:
    import subprocess

    # The fork server starts before these are imported, and NumPy with them.
    from mpqueue.backends.sending.kept_source import KeptSource
    from mpqueue.backends.sending.source_send import Patch, SourceImage
    from mpqueue.worker.config import WorkerConfig, WorkerEnds

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_OVERRIDDEN = frozenset({hash_seed.VARIABLE})  # a fork server gets our value for this


class LauncherGone(Exception):
    """The fork server has exited, and all its workers with it; with its exit status, if known."""

    def __init__(self, exitcode: int | None = None) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode


class ProcessEvent(NamedTuple):
    """An event of one worker, reported by a launcher.

    Attributes:
        key: The worker's key, the argument of `Launcher.start_worker`.
        process: The worker's process, if it has just started. The receiver must close its sentinel.
        exitcode: Exit code (negative: number of a signal); None if it has just started.
        peak_bytes: Maximum resident size, if it has exited.
        error: Reason why it could not be started. The other fields have no meaning then.
        lost: Name of its machine, if that is lost together with the worker.
        moves: It must exit after its work, because its replacement starts on another machine.
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
        """Register a descriptor with a poller, until `release`. It is readable when `events` has events."""

    def set_image(self, image: "SourceImage") -> "Patch | None":
        """Set the source of all workers started later; return the changes, or None if it is unchanged."""

    def has_image(self, image: "SourceImage") -> bool:
        """Return whether workers that start now run this version of the source."""

    def start_worker(self, key: int, config: "WorkerConfig", ends: "WorkerEnds") -> ProcessEvent | None:
        """Start a worker; its `ProcessEvent` is returned, or follows. The caller still owns the ends.

        Raises:
            LauncherGone: The fork server has exited.
            OSError: Processes or descriptors are exhausted.
        """

    def kill(self, key: int, number: int) -> None:
        """Send a signal to a worker that no event has reported yet."""

    def events(self, timeout_s: float | None = 0) -> list[ProcessEvent]:
        """Return the events; wait at most for the given time (None: until the first one).

        Raises:
            LauncherGone: The fork server has exited.
        """

    def give_up(self, key: int) -> bool:
        """Stop waiting for a killed worker that does not exit; return True if `events` will report its exit anyway."""

    def release(self, *, reusable: bool) -> int | None:
        """Park or end the launcher, after its last worker; return its exit status, if it had exited by itself."""


def wait_for(poll: select.poll, timeout_s: float | None) -> list[tuple[int, int]]:
    """Return the events of a poll; signal handlers run while it waits."""
    if not timeout_s and timeout_s is not None:
        return poll.poll(0)  # signals remain blocked: the caller may hold events that an exception would lose
    return allow_signals(poll.poll, None if timeout_s is None else max(0.0, timeout_s * 1000))


class _LauncherKind(NamedTuple):
    """The properties that a parked fork server must share with a new request.

    Attributes:
        spawn: Each worker is a fresh interpreter.
        hash_seed: Its hash seed.
        inherited: Properties that it inherited from the trainer at its start.
    """

    spawn: bool
    hash_seed: str
    inherited: tuple[object, ...]


def _kind_of(*, spawn: bool) -> _LauncherKind:
    return _LauncherKind(spawn, hash_seed.chosen_hash_seed(os.environ), inherited(os.environ, _OVERRIDDEN))


def _interpreter_flags() -> list[str]:
    import subprocess

    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    # -P: with -c, an empty path entry would allow a file of the working directory to shadow a module.
    return [*flags, "-P"]


def _fork_server_environ(salt: str) -> dict[str, str]:
    return hash_seed.with_hash_seed(with_large_copies_uncached(_worker_environ()), salt)


def _worker_environ() -> dict[str, str]:
    """Return the trainer's environment, with one thread per worker for libraries without a number set by the user."""
    return {**_ONE_THREAD, **os.environ}


def _start_interpreter(fds: list[int], salt: str) -> "subprocess.Popen[bytes]":
    """Start a fork server, which has these descriptors under the same numbers."""
    import subprocess

    command = [sys.executable, *_interpreter_flags(), "-c", FORK_SERVER_CODE, *sys.path, *map(str, fds)]
    with group_signals.blocked():  # inherited, until the fork server ignores them
        # `Popen` closes all other descriptors, so a fork server keeps no file or socket of the trainer open.
        return subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=_fork_server_environ(salt))


def command_line() -> list[str]:
    """Return `sys.argv` for workers; an empty list if an embedding program has not set it."""
    return list(map(str, getattr(sys, "argv", ())))


def working_folder() -> str:
    """Return the working directory; the root if it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


class ForkServer:
    """The trainer's end of a fork server process; see `mpqueue.backends.start.fork_server`.

    Args:
        spawn: Each worker is a fresh interpreter.
    """

    def __init__(self, *, spawn: bool) -> None:
        self.kind = _kind_of(spawn=spawn)
        self._pid = os.getpid()
        # Otherwise a process or a descriptor could be leaked that is not recorded yet.
        with defer_signals(), contextlib.ExitStack() as undo:
            self._socket, theirs = descriptors.socketpair()
            undo.callback(descriptors.close_object, self._socket)
            undo.enter_context(theirs)
            lifeline_read, self._lifeline = descriptors.pipe()
            undo.callback(descriptors.close, lifeline_read)
            undo.callback(descriptors.close, self._lifeline)
            self._process = _start_interpreter([theirs.fileno(), lifeline_read], self.kind.hash_seed)
            undo.pop_all()
            # Otherwise the socket would not end with the fork server.
            theirs.close()
            # Armed from here, too: a fork server that is stopped before its first line would outlive this process.
            parent_death.arm(lifeline_read, self._process.pid)
            descriptors.close(lifeline_read)
        self._poller: Any = None
        self._parent: Parent | None = None  # as the fork server knows it
        self._kept: KeptSource | None = None
        self._is_whole = True
        self._notes: list[str] = []  # warnings of the fork server that are still to be issued
        self.is_watched = False  # by `_reap_parked`

    def settle(self) -> None:
        """Send the present working directory, command line, path, environment and CPUs of the trainer."""
        environ = _worker_environ()
        self._parent = parent = describe_parent()
        settings = messages.Settings(
            working_folder(), command_line(), list(sys.path), environ, allowed_cpus(), self.kind.spawn, parent
        )
        tracker = [] if parent.tracker is None else [parent.tracker]
        self._send(messages.ToForkServer.SETTINGS, settings, tracker)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `events` has events."""
        return self._socket.fileno()

    def watch(self, poller: Any) -> None:
        """Register the socket."""
        poller.register(self._socket, READABLE)
        self._poller = poller

    def set_image(self, image: "SourceImage") -> "Patch | None":
        """Send the parts of the source that the fork server lacks."""
        if allow_signals(self.has_image, image):
            return None
        patch = image.patch({} if self._kept is None else allow_signals(self._kept.find, image))
        if self.knows_other_parent():  # the source may contain new shared memory
            self.settle()
        self.send_patch(patch)
        return patch

    def knows_other_parent(self) -> bool:
        """Return whether the state of `multiprocessing` in this process has changed since the workers got it."""
        return self._parent != describe_parent()

    def has_image(self, image: "SourceImage") -> bool:
        """Return whether it has this version of the source."""
        return self._kept is not None and self._kept.is_same(image)

    def send_patch(self, patch: "Patch") -> None:
        """Send a patch of the source that it has.

        Raises:
            OSError: Shared memory or descriptors are exhausted.
        """
        from mpqueue.backends.sending.kept_source import NOTHING, keep

        known = self._kept or NOTHING
        kept = allow_signals(keep, patch, known)
        new = {key: snapshot for key, snapshot in kept.snapshots.items() if key not in known.snapshots}
        self._kept = None  # its state is unknown until the patch is sent
        body = patch.data, list(new), kept.spans
        allow_signals(self._send, messages.ToForkServer.SOURCE, body, [snapshot.fileno() for snapshot in new.values()])
        self._kept = kept

    def start_worker(self, key: int, config: "WorkerConfig", ends: "WorkerEnds") -> None:
        """Request a worker."""
        self._send(messages.ToForkServer.FORK, (key, config), list(ends))

    def kill(self, key: int, number: int) -> None:
        """Have the fork server send a signal."""
        self._send(messages.ToForkServer.KILL, (key, number))

    def events(self, timeout_s: float | None = 0) -> list[ProcessEvent]:
        """Return the messages of the fork server as events."""
        self._require_whole()
        self._warn()
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        events: list[ProcessEvent] = []
        while wait_for(poll, 0 if events else timeout_s):
            self._is_whole = False
            # False within the message: an exception here would leave the rest of it in the socket.
            message = messages.receive(self._socket, messages.FROM_FORK_SERVER)
            self._is_whole = True
            if message is None:
                if events:
                    # A crash of the fork server must not hide the exits that it has reported before.
                    return events  # the next call finds the end of the socket again
                raise LauncherGone
            if message.kind == messages.FromForkServer.FORKED:
                key, pid = message.body
                sentinel = descriptors.own(message.fds[0]) if message.fds else -1
                events.append(ProcessEvent(key, Process(pid, sentinel)))
            elif message.kind == messages.FromForkServer.EXITED:
                key, code, peak = message.body
                events.append(ProcessEvent(key, exitcode=code, peak_bytes=peak))
            elif message.kind == messages.FromForkServer.FAILED:
                from mpqueue.worker import failures

                events.append(ProcessEvent(message.body[0], error=failures.unpack(message.body[1])))
            elif message.kind == messages.FromForkServer.NOTE:
                self._notes.append(message.body)
                # With warnings as errors, the events that precede it would be lost. The start or failure of a worker
                # always follows, and with it another call.
                if events:
                    break
                self._warn()
        return events

    def _warn(self) -> None:
        while self._notes:
            warn_caller(f"mpqueue: {self._notes.pop()}", RuntimeWarning)

    def give_up(self, key: int) -> bool:  # it reports the exits of all its workers, or of none
        """Return False."""
        return False

    def release(self, *, reusable: bool) -> int | None:
        """Park it, or end it."""
        if os.getpid() != self._pid:  # a forked child: the parent owns the fork server
            return None
        poller, self._poller = self._poller, None
        if poller is not None:
            # The poller belongs to this pool, and a parked fork server outlives the pool.
            poller.unregister(self._socket)
        if reusable:
            try:
                self._send(messages.ToForkServer.PARK, None)
            except LauncherGone:
                reusable = False
        if not reusable:
            return self.end()
        with _parked_lock:
            _parked.append(self)
            if not self.is_watched:
                # Not `threading.Thread`: programs count those, and this thread is internal. If no thread can start, the
                # next `take_fork_server` reaps the fork server.
                with contextlib.suppress(RuntimeError):
                    _thread.start_new_thread(_reap_parked, (self, self.fileno()))
                    self.is_watched = True
        return None

    def end(self) -> int | None:
        """Kill the process and wait for it; return its exit status, if it had exited by itself."""
        # Before the kill: afterwards every fork server has exited, with a status caused by us.
        by_itself = self.has_ended()
        descriptors.close(self._lifeline)  # kills its workers, whatever state the fork server is in
        # It needs no clean exit. If the trainer has changed its user since, it may not kill the fork server. The kernel
        # sends the lifeline's signal with the rights of the process that requested it.
        with contextlib.suppress(PermissionError):
            self._process.kill()
        # A killed child that is not reaped remains a zombie, and counts against the limit of processes.
        self._process.wait()
        descriptors.close_object(self._socket)
        self._kept = None
        return self._process.returncode if by_itself else None

    def has_ended(self) -> bool:
        """Return True if it has closed its socket, which is its last action before the exit (unless user code does)."""
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
        """Raise `LauncherGone` if an interrupt broke off a message: the start of the next message is unknown then."""
        if not self._is_whole:
            raise LauncherGone


_parked: list[ForkServer] = []
# re-entrant: a garbage collection under the lock may end an abandoned enqueuer, and park its fork server
_parked_lock = RLock()
_before_shutdown: list[Callable[[], None]] = []
_LOOK_MS = 6000  # longer than the parking time: a thread exits soon after its fork server was reused


def _reap_parked(fork_server: ForkServer, fd: int) -> None:
    """Reap a parked fork server with this descriptor after its exit; leave it alone if it is reused."""
    block_signals()
    poll = select.poll()
    poll.register(fd, 0)  # no events: only the end of the socket is reported, not its messages
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
    """Return a parked fork server, or a new one, with the trainer's present settings."""
    kind = _kind_of(spawn=spawn)
    while True:
        with defer_signals(), _parked_lock:
            # The one that was parked last has the most time left.
            parked = next((fork_server for fork_server in reversed(_parked) if fork_server.kind == kind), None)
            if parked is not None:
                _parked.remove(parked)
            for other in [fork_server for fork_server in _parked if fork_server.kind.inherited != kind.inherited]:
                _parked.remove(other)  # this process has changed since, and rarely changes back
                other.end()
        fork_server = parked or ForkServer(spawn=spawn)
        try:
            fork_server.settle()
            # A parked one has no workers, so it sends no reports. A message is the rest of an earlier use.
            if parked is None or not fork_server.events():
                return fork_server
            fork_server.end()
        except BaseException as error:  # also an interrupt: no other reference to it is left
            fork_server.end()
            # The parking time may be over, but a new one that exits at once is an error.
            if parked is None or not isinstance(error, LauncherGone):
                raise


@context_manager
def started_ahead(*, spawn: bool) -> Iterator[None]:
    """Start a fork server for the first `take_fork_server` of the block, unless there is a parked one."""
    ahead: list[ForkServer] = []
    try:
        with defer_signals(), _parked_lock:
            if not _parked:
                ahead.append(ForkServer(spawn=spawn))
                _parked.extend(ahead)
        yield
    finally:
        with defer_signals(), _parked_lock:
            for fork_server in set(ahead).intersection(_parked):
                _parked.remove(fork_server)
                fork_server.end()


def before_shutdown(end_idle: Callable[[], None]) -> None:
    """Register a function for `shutdown`, which stops pools that remain although no consumer uses them."""
    _before_shutdown.append(end_idle)


def shutdown() -> None:
    """End parked pools now, instead of 5 s after their last enqueuer stopped. Running pools are not affected."""
    for end_idle in _before_shutdown:
        end_idle()
    with _parked_lock:
        # Taken out under the lock, and ended without it: `end` waits, and the threads of parked fork servers need the
        # lock.
        ending, _parked[:] = _parked[:], []
    for fork_server in ending:
        fork_server.end()


def _forget_parked() -> None:
    global _parked_lock
    _parked.clear()
    _parked_lock = RLock()  # another thread may have held it at the fork


os.register_at_fork(after_in_child=_forget_parked)
atexit.register(shutdown)
