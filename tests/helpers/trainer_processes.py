"""A trainer seen from outside: a script in a separate process, and the resources that remain after its exit.

All its descendants, including orphans, are identified by a mark in their environment.

In tests with the fixture `forked_trainers`, trainers are forks of an interpreter with the imports of `PRELUDE`, which
saves half of their start time. A script gets a new interpreter if it has options, or variables that Python reads at its
start.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid

import psutil

from helpers import forked_programs
from helpers.waits import comes_true

DEADLOCK_S = 60.0
_MARK = "MPQUEUE_TEST_TRAINER"
_NO_MARK = "0" * 32  # in the interpreter that forks trainers; each fork replaces it
_NUDGE = signal.SIGWINCH  # ignored by default: before the script starts, and while the interpreter exits

PRELUDE = """
import faulthandler, logging, os, signal, sys, threading, time
import numpy as np
import mpqueue
from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer
ITSELF = os.getpid()
faulthandler.dump_traceback_later(50, exit=True)
# Interrupts system calls, see `hears`. A function of the script would keep the script's globals until exit.
signal.signal(signal.SIGWINCH, {}.get)
logging.getLogger("mpqueue").addHandler(logging.NullHandler())  # expected reports of worker crashes are not printed
class Numbers:
    def __init__(self, length=8):
        self.length = length
    def __len__(self):
        return self.length
    def __getitem__(self, index):
        return np.full(64, index)
def say(*words):
    import socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(" ".join(map(str, words)).encode(), OUT)
    if os.getpid() == ITSELF:  # a script that makes progress is not deadlocked, however slow the machine is
        faulthandler.dump_traceback_later(50, exit=True)
def hang():  # until this process is killed
    while True:
        signal.pause()
OUT = os.environ["MPQUEUE_TEST_OUT"]
"""


_MODULES = [
    f"mpqueue.{name}"
    for name in ("loader.loader", "backends.processes.process", "backends.start.forker", "worker.main")
]
forking = None  # the interpreter that trainers are forks of; None: they are new interpreters


def interpreter():
    """Return an interpreter for `forking`."""
    modules = "faulthandler", "numpy.random", "mpqueue.frameworks.enqueuers", *_MODULES, "helpers.trainer_processes"
    return forked_programs.Interpreter(*modules, environ={**os.environ, _MARK: _NO_MARK})


def mark_this_process():
    """Replace the mark in the environment that the kernel shows: the environment of the interpreter before the fork."""
    with open("/proc/self/stat") as file:
        start, end = map(int, file.read().rpartition(")")[2].split()[47:49])
    at = ctypes.string_at(start, end - start).index(f"{_MARK}={_NO_MARK}".encode()) + len(_MARK) + 1
    ctypes.memmove(start + at, os.environ[_MARK].encode(), len(_NO_MARK))


class _Program(forked_programs.Child):
    """A forked trainer, with the interface of `subprocess.Popen`."""

    def __init__(self, text, env, stdin):
        read_end, write_end = os.pipe()
        theirs, ours = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), None)
        self.stdout, self.stdin = open(read_end, "rb"), ours and open(ours, "wb")
        text = f"import helpers.trainer_processes\nhelpers.trainer_processes.mark_this_process()\n{text}"
        descriptors = {0: theirs, 1: write_end, 2: write_end}
        super().__init__(forking.start(text, ["-c"], descriptors, environ=env, new_session=True).pid)
        os.close(theirs)
        os.close(write_end)

    def communicate(self, timeout=None):
        """Return the output, after the end of the process and of all others that have its output."""
        if self.stdin:
            self.stdin.close()
        output, until = [b""], None if timeout is None else time.monotonic() + timeout
        while not output[1:] or output[-1]:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self.stdout], [], [], left_s)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            output.append(os.read(self.stdout.fileno(), 1 << 16))
        self.wait()
        return b"".join(output), None


class Trainer:
    """A script that runs in a separate process, with `PRELUDE` before it.

    Args:
        script: Source code. Each call of `say`, in any of its processes, sends a line that `heard` returns.
        args: Options of the interpreter.
        command: Command that runs the interpreter, such as `unshare`.
        env: Additional variables of its environment.
        stdin: `subprocess.PIPE`, or None for an empty input.
    """

    def __init__(self, script, *args, command=(), env=None, stdin=None):
        self._mark = uuid.uuid4().hex
        self._segments = _segments()
        self._folder = tempfile.TemporaryDirectory(prefix="trainer", dir="/tmp")  # short enough for a socket
        self._words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._words.bind(f"{self._folder.name}/out")
        env = env or {}
        is_new = args or command or forking is None or any(name.startswith("PYTHON") for name in env)
        env = {**os.environ, **env, _MARK: self._mark, "MPQUEUE_TEST_OUT": self._words.getsockname()}
        text = PRELUDE + textwrap.dedent(script)
        if is_new:
            command = [*command, sys.executable, *args, "-c", text]
            options = {"stdin": stdin or subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(command, env=env, start_new_session=True, bufsize=0, **options)
        else:
            self.process = _Program(text, env, stdin)
        self.pid = self.process.pid
        self._sentinel = os.pidfd_open(self.pid)

    def heard(self):
        """Return the next line from `say`, or None if the script exited."""
        ready, _, _ = select.select([self._words, self._sentinel], [], [], DEADLOCK_S)
        assert ready, f"the script sends no line: {self.output()}"
        try:
            return self._words.recv(1 << 16, socket.MSG_DONTWAIT).decode()
        except BlockingIOError:
            return None

    def hears(self, signal_number, *, all_of_it=False):
        """Send a signal to the script, or to all its processes like a terminal, and wait for its next line or its exit.

        The signal is sent once, because on a loaded machine a second one would arrive while the first is being handled.
        If it arrives just before CPython blocks in a system call, it is handled only after the call. So no-op signals
        interrupt such calls.
        """
        for process in self.processes() if all_of_it else [self.process]:
            with contextlib.suppress(psutil.NoSuchProcess):  # the process has just ended
                process.send_signal(signal_number)
        while not select.select([self._words, self._sentinel], [], [], 0.2)[0]:
            self.process.send_signal(_NUDGE)

    def processes(self):
        """Return all processes of the trainer, including the script itself."""
        mark = f"{_MARK}={self._mark}".encode()
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):  # `psutil.process_iter` is slow
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if mark in file.read().split(b"\0"):
                        found.append(psutil.Process(int(pid)))
            except (OSError, psutil.Error):
                continue
        return found

    def fork_server(self):
        """Return the process that forks the workers."""
        (found,) = [p for p in self.processes() if "fork_server" in " ".join(p.cmdline()) and p.ppid() == self.pid]
        return found

    def workers(self):
        """Return the worker processes."""
        return self.fork_server().children()

    def ended(self):
        """Wait for the script to end; return its exit status and its output."""
        try:
            output, _ = self.process.communicate(timeout=DEADLOCK_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # makes faulthandler print the stacks
            output, _ = self.process.communicate()
            raise AssertionError(f"the script does not end: {output}") from None
        return self.process.returncode, (output or b"").decode()

    def output(self):
        """Kill the script; return its output."""
        for process in self.processes():
            process.kill()
        return (self.process.communicate()[0] or b"").decode()

    def left_nothing(self, within_s=DEADLOCK_S, *, but=()):
        """Return whether all processes and segments disappear in time, except the processes in ``but``."""
        segments = None

        def is_gone():
            nonlocal segments
            seen = _segments() - self._segments
            segments = seen if segments is None else segments & seen  # other programs create and remove segments, too
            left = [process for process in self.processes() if process.pid not in but]
            if but:
                left = [process for process in left if "resource_tracker" not in _text_of(process)]
            return not left and not segments

        return comes_true(is_gone, within_s)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes():
            process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self._sentinel)
        self._words.close()
        self._folder.cleanup()


def ran(script, *args, **options):
    """Run a script that must end with status 0; return its lines from `say`, and its output."""
    with Trainer(script, *args, **options) as trainer:
        lines = []
        while (line := trainer.heard()) is not None:
            lines.append(line)
        code, output = trainer.ended()
        assert code == 0, output
        assert trainer.left_nothing()
    return lines, output


def _text_of(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _segments():
    return {name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "mpqueue"))}
