"""Workers forked from the trainer itself, for sources that cannot be pickled.

They inherit the source, the trainer's memory and its hash seed. The trainer is their parent: it polls their sentinels
together with the other descriptors of the pool, and reaps them.
"""

import contextlib
import os
import select
import signal
import time
import warnings
from typing import Any

from mpqueue.backends.sending.open_handles import opened_for_writing
from mpqueue.backends.sending.source_send import SourceImage
from mpqueue.backends.start.launcher import ProcessEvent, wait_for
from mpqueue.memory import forked_views
from mpqueue.memory.serialize import identify_main, part_from_main, share_main
from mpqueue.system.descriptors import descriptors, open_files
from mpqueue.system.processes import child_process, parent_death
from mpqueue.system.processes.process_name import set_process_name, worker_name
from mpqueue.system.processes.processes import Birth, Process, reap
from mpqueue.system.program_streams import flush_streams
from mpqueue.system.signals.deferred import begin_worker, defer_signals
from mpqueue.system.signals.masks import OF_PROCESS, set_signal_mask
from mpqueue.transport.poller import READABLE
from mpqueue.worker.config import Payload, WorkerConfig, WorkerEnds
from mpqueue.worker.main import run_and_exit
from mpqueue.worker.process_settings import prepare_process
from mpqueue.worker.runners.runners import runner_of

_REAP_S = 1.0  # a killed process exits sooner


class Forker:
    """A `Launcher` that forks this process.

    Args:
        payload: The source and settings that the workers run.
        has_other_programs: See `mpqueue.backends.job.RingPlan`.
    """

    def __init__(self, payload: Payload, *, has_other_programs: bool = False) -> None:
        self._payload, self._has_other_programs = payload, has_other_programs
        self._lifeline_read, self._lifeline = descriptors.pipe()
        self._poller: Any = None
        self._children: dict[int, tuple[int, int]] = {}  # (key, pid), by sentinel
        # The source's files, collected before the first fork.
        self._writable_files: frozenset[open_files.OpenFile] | None = None

    def watch(self, poller: Any) -> None:
        """Register the poller for the sentinels of future workers."""
        self._poller = poller

    def set_image(self, image: SourceImage) -> None:
        """Ignore the image: workers inherit the present source."""

    def has_image(self, image: SourceImage) -> bool:  # workers inherit the source itself
        """Return True."""
        return True

    def start_worker(self, key: int, config: WorkerConfig, ends: WorkerEnds) -> ProcessEvent:
        """Fork a worker; see `mpqueue.worker.main` for the child's part."""
        flush_streams()  # otherwise the child would print the buffered output again
        if self._writable_files is None:
            # Before signals are deferred, because the search takes long.
            self._writable_files = opened_for_writing(self._payload.source, ends)
            runner_of(self._payload.form)  # imports its modules once for all workers
        parent = child_process.describe_parent()
        if self._has_other_programs:
            identify_main()
        with defer_signals(), Birth() as birth:
            # The file positions of this moment: the trainer may read on before the child runs.
            shared = open_files.shared_files(self._writable_files)
            # A separate open file for each worker: the signal and its owner are properties of the open file.
            read_end = descriptors.own(descriptors.reopen(self._lifeline_read))
            # Otherwise the hook of this package, which runs in every forked child, would close them in the worker.
            noted = descriptors.adopt((*ends, read_end))
            try:
                pid = _fork_quietly()
                if pid == 0:
                    birth.be_born()
                    open_files.reopen(shared)
                    self._live(parent, config, ends, read_end)
                # From here, too: a child that is stopped before its first line would outlive this process.
                parent_death.arm(read_end, pid)
            finally:
                for fd in noted:
                    descriptors.own(fd)
                descriptors.close(read_end)
            with contextlib.ExitStack() as undo:
                sentinel = descriptors.own(birth.sentinel_of(pid))
                undo.callback(descriptors.close, sentinel)
                # The caller forgets a worker after its start has raised, so it could not be notified of an exit later.
                undo.callback(_kill_and_reap, pid)
                copy = descriptors.own(os.dup(sentinel))
                undo.callback(descriptors.close, copy)
                # The pool's poll then reports the exit like a message of a fork server.
                self._poller.register(sentinel, READABLE)
                undo.pop_all()
            self._children[sentinel] = (key, pid)
            return ProcessEvent(key, Process(pid, copy))

    def _live(self, parent: child_process.Parent, config: WorkerConfig, ends: WorkerEnds, read_end: int) -> None:
        """Run a worker in the child; never returns."""
        try:
            parent_death.arm(read_end)
            begin_worker()
            prepare_process()
            if self._has_other_programs:
                part_from_main()
            else:
                share_main()
            name = worker_name(config.info.id)
            set_process_name(name)
            child_process.enter(parent, name, config.info.id + 1, read_end)
            child_process.run_after_fork_hooks()
            run_and_exit(config, self._payload, [], ends)
        finally:
            os._exit(1)

    def kill(self, key: int, number: int) -> None:
        """Ignore the request: `start_worker` has reported every worker with its process."""

    def events(self, timeout_s: float | None = 0) -> list[ProcessEvent]:
        """Return the exits of children with readable sentinels."""
        return [self._reap(sentinel) for sentinel, _ in wait_for(self._poll(), timeout_s)]

    def _poll(self) -> select.poll:
        poll = select.poll()
        for sentinel in self._children:
            poll.register(sentinel, select.POLLIN)
        return poll

    def _reap(self, sentinel: int) -> ProcessEvent:
        key, pid = self._forget(sentinel)
        try:
            exitcode, peak_bytes = reap(pid)
        # The user's SIGCHLD handler has reaped the child, so the exit code is unknown.
        except (ChildProcessError, ProcessLookupError):
            return ProcessEvent(key, exitcode=-signal.SIGKILL)
        return ProcessEvent(key, exitcode=exitcode, peak_bytes=peak_bytes)

    def _forget(self, sentinel: int) -> tuple[int, int]:
        self._poller.unregister(sentinel)
        descriptors.close(sentinel)
        return self._children.pop(sentinel)

    def give_up(self, key: int) -> bool:  # each worker has a sentinel
        """Return False."""
        return False

    def release(self, *, reusable: bool) -> None:  # a fork of an old state is useless later
        """Close the lifeline, which kills the remaining workers. Workers that are stuck in the kernel remain."""
        descriptors.close(self._lifeline)
        until = time.monotonic() + _REAP_S
        while self._children and (left := until - time.monotonic()) > 0:
            # Signals remain blocked: after an exception, the caller would skip the releases that follow.
            for sentinel, _ in self._poll().poll(left * 1000):
                self._reap(sentinel)
        # Stuck in the kernel. They were killed, so they exit later, and remain zombies until this process ends.
        for sentinel in list(self._children):
            self._forget(sentinel)
        descriptors.close(self._lifeline_read)


def _kill_and_reap(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):  # the user's SIGCHLD handler has reaped it
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _fork_quietly() -> int:
    with warnings.catch_warnings():
        # Python 3.12 and JAX warn of every fork in a process with threads. The package has warned once, and
        # has named the threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        # On a busy machine the child may wait for seconds before its first step. A request for its stacks would end it
        # then, the default action of the signal, and another signal would run a handler of the trainer.
        # `prepare_process` unblocks the signals when the child has its own handlers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_PROCESS)
        pid = -1
        try:
            pid = forked_views.fork_worker()
            return pid
        finally:
            if pid != 0:
                set_signal_mask(before)
