"""Lock files that several processes use."""

import contextlib
import fcntl
import os

import pytest
from helpers.forked_calls import fork_of
from helpers.wrapped_functions import wrap

from mpqueue.files.indexing.index import locked
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.system.paths.lock_files import lock_now, unlock


@contextlib.contextmanager
def locked_now(path):
    fd = lock_now(path, "the lock ", "", PermissionError)
    assert fd is not None
    yield
    unlock(fd, path)


@pytest.mark.parametrize("hold", [locked, locked_now])
def test_child_that_was_forked_while_the_file_was_opened_keeps_no_lock(tmp_path, monkeypatch, hold):
    path = str(tmp_path / "lock")
    read_end, write_end = os.pipe()
    children = []

    def live_until_the_test_ends():
        os.close(write_end)
        os.read(read_end, 1)

    def fork_and_dup(dup, held):
        children.append(fork_of(live_until_the_test_ends))
        return dup(held)

    wrap(monkeypatch, HeldDescriptor, "dup", fork_and_dup)
    try:
        with hold(path):
            waiting = os.open(path, os.O_RDWR)  # as a process that waits for this lock
        fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(waiting)
    finally:
        os.close(write_end)
        os.close(read_end)
        for child in children:
            os.waitpid(child, 0)
    assert not os.path.exists(path)
