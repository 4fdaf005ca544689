"""Debuggers in a worker: they get the terminal, or an error that names the remedy."""

import bdb
import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios

import pyte
import pytest
from helpers.computed_source import Computed
from helpers.deadlock import DEADLOCK_S
from helpers.one_epoch import one_epoch
from helpers.trainer_processes import ran

import mpqueue
from mpqueue import Loader

FRESH = pytest.mark.parametrize("method", ["forkserver", "spawn"])
COLUMNS, ROWS = 120, 30
NO_INPUT = "no standard input.* pass workers=0 to a Loader, or num_workers=0 to a DataLoader"


class Terminal:
    """A process on a terminal, with its output drawn on a screen."""

    def __init__(self, process, fd):
        self.process, self._fd = process, fd
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)

    def wait_for(self, condition):
        """Read output until the screen meets a condition."""
        while not condition(self.lines()):
            assert select.select([self._fd], [], [], DEADLOCK_S)[0], f"no further output: {self.lines()}"
            assert self._read(), f"the process exited: {self.lines()}"

    def _read(self):
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the other end is closed
            return False
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
def terminal(script):
    """Run a script on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def become_leader():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    path = os.path.dirname(os.path.dirname(mpqueue.__file__))
    environment = os.environ | {"TERM": "xterm-256color", "PYTHONPATH": path}
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen([sys.executable, script], env=environment, preexec_fn=become_leader, **streams)
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def reading(read):
    """Return a source that calls a function for its sample 2."""
    return Computed(lambda index: read() if index == 2 else index, 4)


def stop_at_a_breakpoint():
    secret = 30
    breakpoint()  # noqa: T100
    return secret


def stop_at_an_error():
    import pdb  # noqa: T100

    try:
        raise ValueError
    except ValueError:
        pdb.post_mortem()


def interact():
    import code

    code.interact()


def read_all():
    import sys

    return sys.stdin.read()


@pytest.mark.parametrize("read", [stop_at_a_breakpoint, stop_at_an_error, interact, input, read_all])
@FRESH
def test_read_of_standard_input_raises_and_names_the_remedy(read, method, capfd):
    with Loader(reading(read), batch_size=2, workers=1, start_method=method) as loader:
        batches = iter(loader)
        assert next(batches).tolist() == [0, 1]
        with pytest.raises(RuntimeError, match=NO_INPUT):
            next(batches)
    assert loader.statistics().deaths == 0


def test_forked_worker_does_not_read_input_of_trainer_that_is_no_terminal():
    said, _ = ran("""
        class Reader(Numbers):
            def __getitem__(self, index):
                return input()
        with Loader(Reader(2), workers=1, start_method="fork") as loader:
            try:
                list(loader)
            except RuntimeError as error:
                say(error)
    """)
    assert "pass workers=0" in said[0]


def quit_by_descriptor():
    """Do the same as a debugger that reads the descriptor instead of `sys.stdin`."""
    assert os.read(0, 1) == b""
    raise bdb.BdbQuit


@FRESH
def test_other_debuggers_quit_with_a_note_that_names_the_remedy(method):
    with pytest.raises(bdb.BdbQuit) as raised:
        one_epoch(reading(quit_by_descriptor), batch_size=2, workers=1, start_method=method)
    assert any("pass workers=0" in note for note in raised.value.__notes__)


def call_hook():
    return breakpoint(7)  # noqa: T100


@FRESH
def test_breakpoint_calls_the_hook_of_the_environment(method, monkeypatch):
    monkeypatch.setenv("PYTHONBREAKPOINT", "operator.neg")
    assert one_epoch(reading(call_hook), workers=1, start_method=method) == [0, 1, -7, 3]


def test_sample_that_stops_at_a_breakpoint_is_skipped_with_the_remedy(caplog):
    batches = one_epoch(reading(stop_at_a_breakpoint), batch_size=2, workers=1, on_error="skip")
    assert [batch.tolist() for batch in batches] == [[0, 1], [3]]
    assert "pass workers=0" in caplog.text


OPEN_TERMINAL = "import sys; sys.stdin = open('/dev/tty')"


@pytest.mark.parametrize(
    ("options", "prepare"),
    [
        ("workers=0", "pass"),
        ("workers=1, backend='thread'", "pass"),
        ("workers=1, start_method='fork'", "pass"),
        ("workers=1, start_method='forkserver'", OPEN_TERMINAL),
        ("workers=1, start_method='spawn'", OPEN_TERMINAL),
    ],
    ids=["no workers", "thread", "fork", "forkserver", "spawn"],
)
def test_breakpoint_stops_at_the_terminal(options, prepare, tmp_path):
    (tmp_path / "train.py").write_text(f"""
import mpqueue
class Source:
    def __len__(self):
        return 4
    def __getitem__(self, index):
        secret = index * 1000
        if index == 2:
            {prepare}
            breakpoint()
        return secret
with mpqueue.Loader(Source(), {options}) as loader:
    print("batches", list(loader))
""")
    with terminal(tmp_path / "train.py") as screen:
        screen.wait_for(lambda lines: lines[-1:] == ["(Pdb)"])
        screen.press(b"p secret\n")
        screen.wait_for(lambda lines: "2000" in lines and lines[-1] == "(Pdb)")
        screen.press(b"c\n")
        screen.wait_for(lambda lines: any("batches [0, 1000, 2000, 3000]" in line for line in lines))
        assert screen.end() == 0
