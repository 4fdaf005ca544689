"""A closed wakeup never writes into a pipe that reuses its descriptor's number."""

import os
import select
import threading

import pytest

from mpqueue.system.processes.wakeup import Wakeup


def is_readable(fd):
    return bool(select.select([fd], [], [], 0)[0])


@pytest.fixture
def strangers():
    """Open pipes until the test ends; return their read ends."""
    opened = []

    def open_some():
        opened.extend(os.pipe() for _ in range(4))
        return [read_end for read_end, _ in opened]

    yield open_some
    for pair in opened:
        for fd in pair:
            os.close(fd)


@pytest.mark.parametrize("in_another_thread", [True, False], ids=["in another thread", "in a signal handler"])
def test_wake_during_close_writes_to_no_other_pipe(monkeypatch, strangers, in_another_thread):
    before = len(os.listdir("/proc/self/fd"))
    wakeup = Wakeup()
    write, found = os.write, []

    def write_late(fd, data):
        if in_another_thread:
            closing = threading.Thread(target=wakeup.close)
            closing.start()
            closing.join()
        else:
            wakeup.close()
        found.extend(strangers())
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_late)
        wakeup.wake()
    assert len(found) == 4
    assert not any(is_readable(read_end) for read_end in found)
    assert len(os.listdir("/proc/self/fd")) == before + 2 * len(found), "the last wake did not close its pipe"


def test_wake_after_close_writes_to_no_other_pipe(strangers):
    wakeup = Wakeup()
    items = wakeup.prepare()
    assert next(items) == 1
    wakeup.close()
    found = strangers()
    wakeup.wake()
    with pytest.raises(OSError, match="Bad file descriptor"):
        next(items)
    assert not any(is_readable(read_end) for read_end in found)
    wakeup.close()  # again: the other pipes have these numbers now
    for read_end in found:
        os.fstat(read_end)
