"""A command on a pseudo-terminal, and the screen that its user sees."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import pyte

DEADLOCK_S = 60


class Terminal:
    """A process on a terminal of a given size, with its output drawn on a screen."""

    def __init__(self, process, fd, columns, rows):
        self.process, self._fd = process, fd
        self.written = b""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)

    def wait_for(self, condition):
        """Read output until the screen meets a condition; return its lines."""
        deadline = time.monotonic() + DEADLOCK_S
        while not condition(self.lines()):
            left = deadline - time.monotonic()
            assert left > 0, f"the screen never met the condition: {self.lines()}"
            if not select.select([self._fd], [], [], left)[0]:
                continue
            assert self._read(), f"the process exited: {self.lines()}"
        return self.lines()

    def _read(self):
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the other end is closed
            return False
        self.written += data
        self._stream.feed(data)
        return bool(data)

    def lines(self):
        return [line.rstrip() for line in self._screen.display if line.strip()]

    def press(self, keys):
        os.write(self._fd, keys)

    def end(self):
        """Read the remaining output; return the exit status."""
        while self._read():
            pass
        return self.process.wait(DEADLOCK_S)


@contextlib.contextmanager
def terminal(*arguments, run=("-m", "mpqueue"), columns=120, rows=30, **environment):
    """Run ``mpqueue``, or other arguments of Python, with these arguments on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    surroundings = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}

    def become_leader():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, *run, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=surroundings | {"TERM": "xterm-256color"} | environment,
        preexec_fn=become_leader,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours, columns, rows)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
