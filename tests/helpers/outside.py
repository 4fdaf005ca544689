"""A trainer seen from outside: a script in a process of its own, and what is left of it when it is gone.

All processes that stem from it, orphans too, are known by a mark in their environment.
"""

import contextlib
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

DEADLOCK_S = 60.0
_MARK = "MPQUEUE_TEST_TRAINER"
_NUDGE = signal.SIGWINCH  # ignored where nobody handles it: before the script begins, and when the interpreter ends

PRELUDE = """
import faulthandler, logging, os, signal, sys, threading, time
import numpy as np
import mpqueue
from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer

ITSELF = os.getpid()
faulthandler.dump_traceback_later(50, exit=True)
# Ends waits, see `hears`, and does nothing. A function of the script would keep all that it names to the very end.
signal.signal(signal.SIGWINCH, {}.get)
logging.getLogger("mpqueue").addHandler(logging.NullHandler())  # deaths that are told of are no noise

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
    if os.getpid() == ITSELF:  # one that goes on is no deadlock, however long all of it takes on a loaded machine
        faulthandler.dump_traceback_later(50, exit=True)

OUT = os.environ["MPQUEUE_TEST_OUT"]
"""


class Trainer:
    """A script that runs beside the test, with `PRELUDE` before it.

    Args:
        script: Its text; `say` there, in any of its processes, sends a line that `heard` here returns.
        args: Options of the interpreter.
        command: What goes before the interpreter, such as `unshare`.
        options: Of `subprocess.Popen`.
    """

    def __init__(self, script, *args, command=(), **options):
        self._mark = uuid.uuid4().hex
        self._segments = _segments()
        self._folder = tempfile.TemporaryDirectory(prefix="trainer")
        self._words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._words.bind(f"{self._folder.name}/out")
        env = {**os.environ, **options.pop("env", {}), _MARK: self._mark, "MPQUEUE_TEST_OUT": self._words.getsockname()}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        text = PRELUDE + textwrap.dedent(script)
        command = [*command, sys.executable, *args, "-c", text]
        self.process = subprocess.Popen(command, env=env, start_new_session=True, **options)
        self.pid = self.process.pid
        self._sentinel = os.pidfd_open(self.pid)

    def heard(self):
        """The next line that it says, None if it has ended."""
        ready, _, _ = select.select([self._words, self._sentinel], [], [], DEADLOCK_S)
        assert ready, f"it says nothing: {self.output()}"
        try:
            return self._words.recv(1 << 16, socket.MSG_DONTWAIT).decode()
        except BlockingIOError:
            return None

    def hears(self, signal_number, *, all_of_it=False):
        """Send it a signal (or all its processes, as a terminal does), and wait until it says something or ends.

        Once: on a loaded machine another one would come while it is busy with the first. One that comes in the instant
        before CPython blocks in a system call is handled after it; so others, that do nothing, end such calls.
        """
        for process in self.processes() if all_of_it else [self.process]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                process.send_signal(signal_number)
        while not select.select([self._words, self._sentinel], [], [], 0.2)[0]:
            self.process.send_signal(_NUDGE)

    def processes(self):
        """All that live of it, itself included."""
        mark = f"{_MARK}={self._mark}".encode()
        found = []
        for process in psutil.process_iter():
            try:
                with open(f"/proc/{process.pid}/environ", "rb") as file:
                    if mark in file.read().split(b"\0") and process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def fork_server(self):
        """The process from which its workers are forked."""
        (found,) = [p for p in self.processes() if "fork_server" in " ".join(p.cmdline()) and p.ppid() == self.pid]
        return found

    def workers(self):
        """Its worker processes."""
        return self.fork_server().children()

    def ended(self):
        """Wait until it has ended; its exit status and what it printed."""
        try:
            output, _ = self.process.communicate(timeout=DEADLOCK_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler prints its stacks
            output, _ = self.process.communicate()
            raise AssertionError(f"it does not end: {output}") from None
        return self.process.returncode, (output or b"").decode()

    def output(self):
        """Kill it; what it printed."""
        for process in self.processes():
            process.kill()
        return (self.process.communicate()[0] or b"").decode()

    def left_nothing(self, within_s=DEADLOCK_S, *, but=()):
        """Whether all its processes and segments are gone, soon; those of ``but`` stay, and Python's tracker for them."""
        deadline = time.monotonic() + within_s
        segments = None
        while True:
            seen = _segments() - self._segments
            segments = seen if segments is None else segments & seen  # those of other programs come and go
            left = [process for process in self.processes() if process.pid not in but]
            if but:
                left = [process for process in left if "resource_tracker" not in _text_of(process)]
            if not left and not segments:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)  # nobody tells us of the death of strangers

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
    """Run a script to its end, which must be a clean one; what it said, and what it printed."""
    with Trainer(script, *args, **options) as trainer:
        said = []
        while (line := trainer.heard()) is not None:
            said.append(line)
        code, output = trainer.ended()
        assert code == 0, output
        assert trainer.left_nothing()
    return said, output


def _text_of(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _segments():
    return {name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "mpqueue"))}
