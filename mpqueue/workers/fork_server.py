"""The fork server: a clean process with one thread, from which all workers are forked.

It is a fresh interpreter, not a fork of the trainer: forking a process full of TensorFlow, CUDA or OpenMP threads is
the classic deadlock. It loads the source once, so that a big dataset is sent once and shared copy-on-write, and a
replacement for a dead worker is there in about a millisecond.

It owns the worker processes: it alone forks, watches and reaps them, and tells the trainer over one socket what
became of each. It waits for the socket and the workers' pidfds in one `poll`; nothing here is done by the clock,
except that a parked fork server ends after `PARK_S` seconds. It is tied to the trainer, and its workers to it and to
the trainer, by `mpqueue.system.parent_death`: whoever is killed takes along all that would be orphaned.

If loading the source left threads running (pyarrow does), this process may not fork any more. Then, and with
``start_method="spawn"``, each worker is a fresh interpreter that gets the source over a socket.
"""

import contextlib
import gc
import os
import select
import socket
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

from mpqueue.plan.batching import Form
from mpqueue.system import descriptors, hash_seed, open_files, parent_death
from mpqueue.system.leaving import leave_as_child
from mpqueue.system.own_process import make_mark
from mpqueue.system.process_name import set_process_name, worker_name
from mpqueue.system.processes import Birth, reap
from mpqueue.system.safe_threads import counted, unsafe_threads
from mpqueue.worker import failures
from mpqueue.worker.config import Payload, WorkerConfig, WorkerEnds
from mpqueue.worker.main import answer_for_stacks, prepare_process, run_and_exit
from mpqueue.worker.source_receive import load
from mpqueue.workers import fork_server_messages as messages
from mpqueue.workers.entry_code import NUM_SPAWN_FDS, SPAWN_CODE
from mpqueue.workers.kept_source import BufferPlace, mapped
from mpqueue.workers.open_handles import opened_for_writing

PARK_S = 5.0


class _Child(NamedTuple):
    key: int
    pid: int


class _ForkServer:
    def __init__(self, sock: socket.socket, trainer_lifeline: int) -> None:
        self._sock, self._trainer_lifeline = sock, trainer_lifeline
        self._lifeline, self._lifeline_write = os.pipe()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._children: dict[int, _Child] = {}  # by sentinel
        self._timeout_ms: float | None = None
        self._settings: messages.Settings | None = None
        self._data: bytes = b""
        self._places: list[BufferPlace] = []
        self._snapshots: dict[int, int] = {}  # descriptors, by number
        self._buffers: list[Any] = []
        self._payload: Payload | None = None
        self._broken: bytes | None = None
        self._writable_files: frozenset[open_files.OpenFile] = frozenset()  # that the source has opened
        self._has_warned_of_threads = False
        self._hash_seed = os.environ[hash_seed.VARIABLE]  # this process's, whatever the trainer's environment says

    def serve(self) -> None:
        """Answer messages and report exits until the trainer is gone or the parking time is over."""
        while True:
            events = self._poll.poll(self._timeout_ms)
            if not events:
                return
            for fd, _ in events:
                if fd in self._children:
                    self._reap(fd)
                elif fd == self._sock.fileno() and not self._answer():
                    return

    def _answer(self) -> bool:
        message = messages.receive(self._sock, messages.TO_FORK_SERVER)
        if message is None:
            return False
        self._timeout_ms = None
        if message.kind == messages.ToForkServer.SETTINGS:
            self._settings = message.body
            self._settings.apply()
        elif message.kind == messages.ToForkServer.SOURCE:
            self._take_source(message)
        elif message.kind == messages.ToForkServer.FORK:
            self._start_worker(message)
        elif message.kind == messages.ToForkServer.KILL:
            key, number = message.body
            for child in self._children.values():
                if child.key == key:
                    os.kill(child.pid, number)  # it is not reaped yet, so the pid is its own
        elif message.kind == messages.ToForkServer.RETURN:
            messages.send(
                self._sock, messages.FromForkServer.KEPT, list(self._snapshots), list(self._snapshots.values())
            )
        elif message.kind == messages.ToForkServer.PARK:
            self._timeout_ms = PARK_S * 1000
        return True

    def _take_source(self, message: messages.Message) -> None:
        self._data, numbers, self._places = message.body
        self._snapshots |= zip(numbers, message.fds, strict=False)  # fewer, where there are too many open already
        for number in self._snapshots.keys() - {place.snapshot for place in self._places}:
            os.close(self._snapshots.pop(number))
        # Mapped anew, also what is known: the old source may have written into its arrays when it was unpickled.
        self._payload, self._broken, self._buffers, self._writable_files = None, None, [], frozenset()
        if self._settings is not None and self._settings.spawn:
            return  # each worker loads it for itself
        own = make_mark()
        try:
            self._buffers = mapped(self._places, self._snapshots)
            self._payload = load(self._data, self._buffers)
            # Looked for here, once: a walk through a large source takes longer than a fork.
            self._writable_files = opened_for_writing(self._payload.source, self._snapshots.values())
        except BaseException as error:
            if not own[0]:
                leave_as_child(error)
            self._broken = failures.pack(error, "raised while the source was unpickled in the fork server")
        if not own[0]:  # forked by code of the user's that unpickled the source
            leave_as_child()
        gc.freeze()  # a collection in a worker would write to every object's header, and copy the shared pages

    def _start_worker(self, message: messages.Message) -> None:
        key, config = message.body
        try:
            ends = WorkerEnds.received(message.fds)
            if self._broken is not None:
                messages.send(self._sock, messages.FromForkServer.FAILED, (key, self._broken))
                return
            with Birth() as birth:
                start = self._spawn if self._must_spawn() else self._fork
                pid = start(config, ends, birth)
                sentinel = birth.sentinel_of(pid)
        except OSError as error:
            messages.send(
                self._sock,
                messages.FromForkServer.FAILED,
                (key, failures.pack(error, "raised when a worker was started")),
            )
            return
        finally:
            # The worker has its own. As long as these are open, its pipes would not end when it does.
            for fd in message.fds:
                os.close(fd)
        self._children[sentinel] = _Child(key, pid)
        self._poll.register(sentinel, select.POLLIN)
        messages.send(self._sock, messages.FromForkServer.FORKED, (key, pid), [sentinel])

    def _must_spawn(self) -> bool:
        assert self._settings is not None
        if self._settings.spawn:
            return True
        threads = unsafe_threads()
        if not threads:
            return False
        if not self._has_warned_of_threads:
            self._has_warned_of_threads = True
            text = (
                f"loading the source started threads ({counted(threads)}), "
                "so workers are started as fresh interpreters, which is slower"
            )
            messages.send(self._sock, messages.FromForkServer.NOTE, text)
        return True

    def _fork(self, config: WorkerConfig, ends: WorkerEnds, birth: Birth) -> int:
        # A source may open files while it is unpickled: here, once for all workers.
        shared = open_files.shared_files(self._writable_files)
        with self._lifelines() as lifelines:
            pid = os.fork()
            if pid == 0:
                birth.be_born()
                open_files.reopen(shared)
                self._live(config, ends, lifelines)
            # From here, too: it may be stopped before it runs a line of its own, and outlive this process.
            for read_end in lifelines:
                parent_death.arm(read_end, pid)
            return pid

    @contextlib.contextmanager
    def _lifelines(self) -> Iterator[list[int]]:
        """The read ends that a child inherits: ours and the trainer's, as open files that are this child's alone."""
        opened: list[int] = []
        try:
            opened.append(descriptors.reopen(self._lifeline))
            opened.append(descriptors.reopen(self._trainer_lifeline))
            yield opened
        finally:
            for read_end in opened:
                os.close(read_end)

    def _live(self, config: WorkerConfig, ends: WorkerEnds, lifelines: list[int]) -> None:
        """In the child; never returns."""
        try:
            # The lifeline ends with its last write end: a worker that kept one would keep all of them alive.
            os.close(self._lifeline_write)
            for read_end in lifelines:
                parent_death.arm(read_end)
            self._sock.close()
            for fd in (*self._children, *self._snapshots.values()):
                os.close(fd)
            prepare_process()
            set_process_name(worker_name(config.info.id))
            assert self._payload is not None
            payload, self._payload = self._payload, None
            run_and_exit(config, payload, self._buffers, ends)
        finally:
            os._exit(1)

    def _spawn(self, config: WorkerConfig, ends: WorkerEnds, birth: Birth) -> int:
        import subprocess  # 8 ms that a fork server which forks does not need

        ours, theirs = socket.socketpair()
        with ours, theirs, self._lifelines() as lifelines:
            fds = [theirs.fileno(), *lifelines, *birth.inherited]
            numbers = [str(fd) for fd in (*fds, -1)[:NUM_SPAWN_FDS]]
            flags = sys.orig_argv[1 : sys.orig_argv.index("-c")]
            process = subprocess.Popen(
                [sys.executable, *flags, "-c", SPAWN_CODE, *sys.path, *numbers],
                pass_fds=fds,
                env=hash_seed.with_hash_seed(os.environ, self._hash_seed),
            )
            for read_end in lifelines:
                parent_death.arm(read_end, process.pid)
            process.returncode = 0  # reaped here, by `_reap`: Popen is not to do it, nor to warn
            theirs.close()
            source = self._data, list(self._snapshots), self._places
            body = config, source, os.environ.get(hash_seed.VARIABLE)
            with contextlib.suppress(ConnectionError):  # it was killed while it started: its exit is reported as any
                messages.send(ours, messages.ToForkServer.FORK, body, [*self._snapshots.values(), *ends.sent])
        return process.pid

    def _reap(self, sentinel: int) -> None:
        child = self._children.pop(sentinel)
        self._poll.unregister(sentinel)
        os.close(sentinel)
        messages.send(self._sock, messages.FromForkServer.EXITED, (child.key, *reap(child.pid)))


def main() -> None:
    """Entry of the fork server's interpreter."""
    _collect_from_now_on()
    fd, trainer_lifeline = int(sys.argv[-2]), int(sys.argv[-1])
    parent_death.arm(descriptors.reopen(trainer_lifeline))
    _open_standard_streams()
    prepare_process()
    set_process_name("mpqueue-forksrv")
    sys.argv[:] = [""]
    status = 1
    try:
        _ForkServer(socket.socket(fileno=fd), trainer_lifeline).serve()
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the trainer is gone: the workers go with us
    except BaseException:
        traceback.print_exc()  # a defect, or no memory for the source: the trainer learns of the exit only
    finally:
        os._exit(status)


def _collect_from_now_on() -> None:
    """Have garbage collected, but not what was imported: the first collection would take 5 ms, and find nothing."""
    gc.freeze()
    gc.enable()


def _open_standard_streams() -> None:
    """Open the standard streams that the trainer has closed: else other descriptors would get their numbers."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)  # a worker that is spawned is to have them, too
        fd = os.dup(fd)
    os.close(fd)


def spawned() -> None:
    """Entry of a worker that is an interpreter of its own."""
    _collect_from_now_on()
    fd, *lifelines, life = (int(arg) for arg in sys.argv[-NUM_SPAWN_FDS:])
    if life >= 0:
        descriptors.own(life)  # or a child that user code forks would hide our end
    for read_end in lifelines:
        parent_death.arm(read_end)
    sys.argv[:] = [""]
    prepare_process()
    with socket.socket(fileno=fd) as sock:
        message = messages.receive(sock, messages.TO_FORK_SERVER)
    if message is None:
        os._exit(1)
    config, (data, numbers, places), shown = message.body
    hash_seed.show(shown)
    set_process_name(worker_name(config.info.id))
    snapshots = dict(zip(numbers, message.fds, strict=False))
    ends = WorkerEnds.received(message.fds[len(numbers) :])
    answer_for_stacks(ends)  # to load the source may take long, too
    buffers: list[Any] = []
    own = make_mark()
    try:
        buffers += mapped(places, snapshots)
        payload = load(data, buffers)
    except BaseException as error:
        if not own[0]:
            leave_as_child(error)
        form = Form.FUNCTION if config.is_stream else Form.ITEMS
        payload = Payload(_Unloadable(error), None, form=form)
    if not own[0]:
        leave_as_child()
    for fd in snapshots.values():
        os.close(fd)
    run_and_exit(config, payload, buffers, ends)


class _Unloadable:
    """Stands for a source that could not be unpickled: every batch raises what the unpickling raised."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getitem__(self, index: int) -> Any:
        raise self._error

    def __call__(self) -> Any:
        raise self._error
