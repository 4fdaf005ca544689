"""The fork server: a clean process with one thread that forks all workers.

It is a fresh interpreter, not a fork of the trainer, because forking a process with threads of TensorFlow, CUDA or
OpenMP can deadlock. It loads the source once, so that a large dataset is sent once and shared copy-on-write. A
replacement of a crashed worker is ready in about a millisecond.

The fork server owns the worker processes: it alone forks, watches and reaps them, and reports their exits to the
trainer over one socket. It waits for that socket and the workers' pidfds in one `poll`. The only timeout ends a parked
fork server after `PARK_S` seconds. `mpqueue.system.processes.parent_death` ties it to the trainer, and the workers to
both, so that no process remains orphaned after a crash.

If loading the source left threads running (pyarrow does), or made objects that remember their process (asynchronous
file systems of fsspec do), the fork server must not fork. Then, and with ``start_method="spawn"``, each worker is a
fresh interpreter that receives the source over a socket.
"""

import contextlib
import gc
import os
import pickle
import select
import socket
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from mpqueue.backends.sending.kept_source import BufferSpan, mapped
from mpqueue.backends.sending.open_handles import opened_for_writing
from mpqueue.backends.start import fork_server_messages as messages
from mpqueue.backends.start.entry_code import NUM_SPAWN_FDS, SPAWN_CODE
from mpqueue.memory.main_module import enter_worker, forget_names
from mpqueue.plan.options.batching import RunnerKind
from mpqueue.system.descriptors import descriptors, open_files
from mpqueue.system.processes import child_process, hash_seed, parent_death
from mpqueue.system.processes.exit import leave_as_child
from mpqueue.system.processes.own_process import make_mark
from mpqueue.system.processes.process_name import set_process_name, worker_name
from mpqueue.system.processes.processes import Birth, reap
from mpqueue.system.program_streams import call_unless_lost
from mpqueue.system.signals import group_signals
from mpqueue.system.signals.safe_threads import counted, remaining_threads
from mpqueue.transport.framing import send_with_descriptors
from mpqueue.worker import failures
from mpqueue.worker.config import Payload, WorkerConfig, WorkerEnds
from mpqueue.worker.main import run_and_exit
from mpqueue.worker.process_settings import answer_for_stacks, prepare_process
from mpqueue.worker.runners.runners import runner_of

PARK_S = 5.0


class _ForkServer:
    def __init__(self, sock: socket.socket, trainer_lifeline: int) -> None:
        self._sock, self._trainer_lifeline = sock, trainer_lifeline
        self._lifeline, self._lifeline_write = os.pipe()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._children: dict[int, tuple[int, int]] = {}  # (key, pid), by sentinel
        self._outbox: deque[tuple[bytes, Sequence[int]]] = deque()  # messages that the socket has not accepted yet
        self._timeout_ms: float | None = None
        self._settings: messages.Settings | None = None
        self._data: bytes = b""
        self._spans: list[BufferSpan] = []
        self._snapshots: dict[int, int] = {}  # descriptors, by id
        self._buffers: list[Any] = []
        self._payload: Payload | None = None
        self._broken: bytes | None = None
        self._writable_files: frozenset[open_files.OpenFile] = frozenset()  # files that the source has opened
        self._handlers: dict[int, group_signals.Handler] = {}  # handlers for workers, by signal
        self._has_warned = False
        # This process's seed, whatever the trainer's environment contains.
        self._hash_seed = os.environ[hash_seed.VARIABLE]

    def serve(self) -> None:
        """Answer messages and report exits until the trainer exits or the parking time is over."""
        while True:
            events = self._poll.poll(self._timeout_ms)
            if not events:
                return
            for fd, event in events:
                if fd in self._children:
                    self._reap(fd)
                elif event & ~select.POLLOUT and not self._answer():
                    return
            self._flush()

    def _tell(self, kind: int, body: Any, fds: Sequence[int] = ()) -> None:
        self._outbox.append((messages.pack(kind, body, fds), fds))

    def _flush(self) -> None:
        """Send the messages that the socket accepts.

        This process must never block in a send. The trainer requests all its workers before it reads an answer, and
        sends a large source in one piece. If both sides waited for the other one to read, neither would continue:
        a start of 400 workers did so, as a Unix socket buffers about 140 answers.
        """
        while self._outbox:
            data, fds = self._outbox[0]
            try:
                sent = send_with_descriptors(self._sock, data, fds, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            # Only now: an exit is reported after the start, and closes the sentinel that the start must send.
            for sentinel in fds:
                self._poll.register(sentinel, select.POLLIN)
            if sent < len(data):
                self._outbox[0] = data[sent:], ()
            else:
                self._outbox.popleft()
        # Writability only while messages wait: a socket with room is always ready, and this loop would spin.
        self._poll.modify(self._sock, select.POLLIN | (select.POLLOUT if self._outbox else 0))

    def _answer(self) -> bool:
        message = messages.receive(self._sock, messages.TO_FORK_SERVER)
        if message is None:
            return False
        # Any message means that a trainer uses it again.
        self._timeout_ms = None
        if message.kind == messages.ToForkServer.SETTINGS:
            self._settings = message.body
            self._settings.apply()
            child_process.enter(self._settings.parent, "mpqueue-forksrv", 0, self._trainer_lifeline)
            for tracker in message.fds:
                child_process.share_tracker(tracker)
        elif message.kind == messages.ToForkServer.SOURCE:
            self._take_source(message)
        elif message.kind == messages.ToForkServer.FORK:
            self._start_worker(message)
        elif message.kind == messages.ToForkServer.KILL:
            key, number = message.body
            for child, pid in self._children.values():
                if child == key:
                    os.kill(pid, number)  # not reaped yet, so the pid still belongs to it
        elif message.kind == messages.ToForkServer.PARK:
            self._timeout_ms = PARK_S * 1000
        return True

    def _take_source(self, message: messages.Message) -> None:
        self._data, snapshot_ids, self._spans = message.body
        # As many descriptors as ids: `receive` rejects a message that has lost some of them.
        self._snapshots |= zip(snapshot_ids, message.fds, strict=False)
        for snapshot_id in self._snapshots.keys() - {span.snapshot for span in self._spans}:
            os.close(self._snapshots.pop(snapshot_id))
        # Map known buffers again, too: the old source may have written to its arrays while it was unpickled.
        self._payload, self._broken, self._buffers, self._writable_files = None, None, [], frozenset()
        if self._settings is not None and self._settings.spawn:
            return  # each worker loads it itself
        own = make_mark()
        forget_names()
        group_signals.ignore()  # the handlers of the source before
        try:
            self._buffers = mapped(self._spans, self._snapshots)
            with child_process.unpickling():
                self._payload = pickle.loads(self._data, buffers=self._buffers)
            runner_of(self._payload.form)  # imports its modules once for all workers
            # Once, here: a walk through a large source takes longer than a fork.
            self._writable_files = opened_for_writing(self._payload.source, self._snapshots.values())
        except BaseException as error:
            if not own[0]:
                leave_as_child(error)
            self._broken = failures.pack(error, "raised while the source was unpickled in the fork server")
        if not own[0]:  # code of the user forked this process while the source was unpickled
            leave_as_child()
        # They are for workers: here, a handler that raises would end this process.
        self._handlers = group_signals.take()
        # A garbage collection in a worker would write to the header of every object, and so copy the shared pages.
        gc.freeze()

    def _start_worker(self, message: messages.Message) -> None:
        key, config = message.body
        try:
            ends = WorkerEnds.received(message.fds)
            if self._broken is not None:
                self._tell(messages.FromForkServer.FAILED, (key, self._broken))
                return
            with Birth() as birth:
                start = self._spawn if self._must_spawn() else self._fork
                pid = start(config, ends, birth)
                sentinel = birth.sentinel_of(pid)
        except OSError as error:
            self._tell(messages.FromForkServer.FAILED, (key, failures.pack(error, "raised when a worker was started")))
            return
        finally:
            # The worker has its own copies. As long as these are open, its pipes would not end with it.
            for fd in message.fds:
                os.close(fd)
        self._children[sentinel] = key, pid
        self._tell(messages.FromForkServer.FORKED, (key, pid), [sentinel])

    def _must_spawn(self) -> bool:
        assert self._settings is not None
        if self._settings.spawn:
            return True
        threads, bound = remaining_threads(), child_process.bound_classes()
        if not (threads or bound):
            return False
        if not self._has_warned:
            self._has_warned = True
            reason = (
                f"loading the source started threads ({counted(threads)})"
                if threads
                else f"the source has objects that a fork would break ({', '.join(bound)})"
            )
            warning = f"{reason}, so workers are started as fresh interpreters, which is slower"
            self._tell(messages.FromForkServer.NOTE, warning)
        return True

    def _fork(self, config: WorkerConfig, ends: WorkerEnds, birth: Birth) -> int:
        # The source may have opened files while it was unpickled, once for all workers.
        shared = open_files.shared_files(self._writable_files)
        with self._lifelines() as lifelines:
            pid = os.fork()
            if pid == 0:
                birth.be_born()
                open_files.reopen(shared)
                self._live(config, ends, lifelines)
            # Armed from here, too: a child that is stopped before its first line would outlive this process.
            for read_end in lifelines:
                parent_death.arm(read_end, pid)
            return pid

    @contextlib.contextmanager
    def _lifelines(self) -> Iterator[list[int]]:
        """Open the read ends that a child inherits, ours and the trainer's, as separate open files of this child."""
        opened: list[int] = []
        try:
            opened.append(descriptors.reopen(self._lifeline))
            opened.append(descriptors.reopen(self._trainer_lifeline))
            yield opened
        finally:
            for read_end in opened:
                os.close(read_end)

    def _live(self, config: WorkerConfig, ends: WorkerEnds, lifelines: list[int]) -> None:
        """Run a worker in the child; never returns."""
        try:
            # A lifeline ends with its last write end: a worker that kept one would prevent all workers from exiting.
            os.close(self._lifeline_write)
            for read_end in lifelines:
                parent_death.arm(read_end)
            self._sock.close()
            for fd in (*self._children, *self._snapshots.values()):
                os.close(fd)
            prepare_process(self._handlers)
            assert self._settings is not None
            name = worker_name(config.info.id)
            set_process_name(name)
            child_process.enter(self._settings.parent, name, config.info.id + 1, lifelines[1])
            child_process.run_after_fork_hooks()
            assert self._payload is not None
            # The runner may replace the source later. A second reference here would keep the first one in memory.
            payload, self._payload = self._payload, None
            run_and_exit(config, payload, self._buffers, ends)
        finally:
            os._exit(1)

    def _spawn(self, config: WorkerConfig, ends: WorkerEnds, birth: Birth) -> int:
        import subprocess  # takes 8 ms, which a fork server that forks can save

        assert self._settings is not None
        ours, theirs = socket.socketpair()
        # A socket instead of an argument: the source may exceed the limit of a command line, and descriptors need a
        # socket.
        with ours, theirs, self._lifelines() as lifelines:
            fds = [theirs.fileno(), *lifelines, *birth.inherited]
            numbers = [str(fd) for fd in (*fds, -1)[:NUM_SPAWN_FDS]]
            # With the flags of the interpreter (-X, -W, -I): a spawned worker must behave like a forked one.
            flags = sys.orig_argv[1 : sys.orig_argv.index("-c")]
            with group_signals.blocked():
                process = subprocess.Popen(
                    [sys.executable, *flags, "-c", SPAWN_CODE, *sys.path, *numbers],
                    pass_fds=fds,
                    env=hash_seed.with_hash_seed(os.environ, self._hash_seed),
                )
            theirs.close()
            source = self._data, list(self._snapshots), self._spans
            tracker = child_process.shared_tracker()
            shown = os.environ.get(hash_seed.VARIABLE)
            body = config, source, shown, self._settings.argv, self._settings.parent, len(tracker)
            try:
                for read_end in lifelines:
                    parent_death.arm(read_end, process.pid)
                messages.send(ours, messages.ToForkServer.FORK, body, [*tracker, *self._snapshots.values(), *ends])
            except ConnectionError:
                pass  # killed while it started: its exit is reported like any other
            except OSError:  # such as too many descriptors in flight: no pid is reported, so `_reap` never sees it
                process.kill()
                process.wait()
                raise
            process.returncode = 0  # `_reap` reaps it; prevents `Popen` from doing so, and from warning
        return process.pid

    def _reap(self, sentinel: int) -> None:
        key, pid = self._children.pop(sentinel)
        self._poll.unregister(sentinel)
        os.close(sentinel)
        self._tell(messages.FromForkServer.EXITED, (key, *reap(pid)))


def main() -> None:
    """Run the fork server; the entry point of its interpreter."""
    _collect_from_now_on()
    enter_worker()
    fd, trainer_lifeline = int(sys.argv[-2]), int(sys.argv[-1])
    # A separate open file: the signal and its owner belong to the open file, which the fork shares.
    parent_death.arm(descriptors.reopen(trainer_lifeline))
    import_at_once()
    prepare_process()
    set_process_name("mpqueue-forksrv")
    sys.argv[:] = [""]
    status = 1
    try:
        _ForkServer(socket.socket(fileno=fd), trainer_lifeline).serve()
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0  # the trainer has exited; the workers exit with this process
    except BaseException:
        call_unless_lost(traceback.print_exc)  # a bug, or no memory for the source: the trainer only sees the exit
    finally:
        os._exit(status)


def import_at_once() -> None:
    """Import modules when a source names them, also by the ``lazy import`` of Python 3.15.

    Otherwise each worker would import them after the fork, which takes that time in each, and shares no memory.
    """
    set_filter = getattr(sys, "set_lazy_imports_filter", None)
    if set_filter is not None:
        set_filter(_is_lazy)


def _is_lazy(importer: str, name: str, names: tuple[str, ...] | None) -> bool:  # noqa: ARG001 - see import_at_once
    return False


def _collect_from_now_on() -> None:
    """Enable garbage collection, except of imported modules: the first collection would take 5 ms in vain."""
    gc.freeze()
    gc.enable()


def spawned() -> None:
    """Run a worker that is a separate interpreter; its entry point."""
    _collect_from_now_on()
    enter_worker()
    fd, *lifelines, life = (int(arg) for arg in sys.argv[-NUM_SPAWN_FDS:])
    if life >= 0:
        descriptors.own(life)  # otherwise a child that user code forks would keep our end open
    for read_end in lifelines:
        parent_death.arm(read_end)
    prepare_process()
    with socket.socket(fileno=fd) as sock:
        message = messages.receive(sock, messages.TO_FORK_SERVER)
    if message is None:
        os._exit(1)
    config, (data, snapshot_ids, spans), shown, sys.argv, parent, num_trackers = message.body
    hash_seed.show(shown)
    name = worker_name(config.info.id)
    set_process_name(name)
    child_process.enter(parent, name, config.info.id + 1, lifelines[1])
    fds = message.fds[num_trackers:]
    for tracker in message.fds[:num_trackers]:
        child_process.share_tracker(tracker)
    snapshots = dict(zip(snapshot_ids, fds, strict=False))
    ends = WorkerEnds.received(fds[len(snapshot_ids) :])
    answer_for_stacks(ends)  # loading the source may take long, too
    buffers: list[Any] = []
    own = make_mark()
    # User code may fork while the source is unpickled. Such a child must not continue as a worker.
    try:
        buffers += mapped(spans, snapshots)
        with child_process.unpickling():
            payload = pickle.loads(data, buffers=buffers)
    except BaseException as error:
        if not own[0]:
            leave_as_child(error)
        form = RunnerKind.FUNCTION if config.is_stream else RunnerKind.ITEMS
        broken = _Unloadable(error)
        payload = Payload(broken, broken, form=form)
    if not own[0]:
        leave_as_child()
    for fd in snapshots.values():
        os.close(fd)
    run_and_exit(config, payload, buffers, ends, child_process.finalize_interpreter)


class _Unloadable:
    """Replacement for a source that could not be unpickled: as `worker_init`, it makes every batch raise the error.

    Args:
        error: The error of the unpickling.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self) -> None:
        raise self._error

    def begin_ahead(self, batch_ahead: Any) -> None:
        """Return at once: no sample is computed."""
