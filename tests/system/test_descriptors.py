"""Descriptors of this package are closed with their owners, even if an interrupt occurs at the same time."""

import contextlib
import errno
import os
import warnings
import weakref
from functools import partial

import pytest
from helpers import injected_exceptions
from helpers.finalizers import calls_of_python_in
from helpers.footprint import owned_descriptors
from helpers.injected_exceptions import Strike, Struck, each_strike
from helpers.table_files import answer_of_child

from mpqueue.system.descriptors import descriptors
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.system.signals.collected import WhenCollected


class Owner:
    """The owner of a socket."""


def test_socket_is_closed_with_owner_despite_interrupts():
    """An exception before its first line leaves it to the next object that is watched."""
    for _, strike in each_strike(least=0, make=partial(Strike, finalizers=True)):
        owner, (ours, theirs) = Owner(), descriptors.socketpair()
        fd = ours.fileno()
        descriptors.close_with(owner, ours)
        del ours
        with theirs:
            with contextlib.suppress(Struck), strike:
                del owner
            WhenCollected(Owner(), list)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


def test_socket_closed_with_owner_is_unregistered():
    owner, (ours, theirs) = Owner(), descriptors.socketpair()
    with theirs:
        descriptors.close_with(owner, ours)
        gone = weakref.ref(ours)
        del ours
        assert gone() is not None
        del owner
        assert gone() is None


def test_socket_can_be_closed_before_owner():
    owner, (ours, theirs) = Owner(), descriptors.socketpair()
    with theirs:
        close = descriptors.close_with(owner, ours)
        close()
        assert ours.fileno() == -1
        stranger = os.dup(theirs.fileno())
        del owner
        os.close(stranger)
        gone = weakref.ref(ours)
        del ours, close
        assert gone() is None


def test_interrupt_does_not_leak_reserved_standard_streams(monkeypatch):
    """Neither in the package nor in `contextlib`, for example before the block is entered."""
    injected_exceptions.strike_in_contextlib_too(monkeypatch)
    before = os.listdir("/proc/self/fd")
    for _, strike in each_strike(least=10):
        with contextlib.suppress(Struck), strike, descriptors.apart_from_standard():
            pass
        assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("num_moved", [0, 1])
def test_pipe_that_cannot_leave_the_standard_streams_is_closed(num_moved, monkeypatch):
    """Its numbers belong to closed standard streams, and C code prints to these numbers."""
    calls = []

    def above_standard(fd):
        calls.append(fd)
        if len(calls) <= num_moved:
            return fd
        os.close(fd)
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(descriptors, "above_standard", above_standard)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="too many open files"):
        descriptors.pipe()
    assert os.listdir("/proc/self/fd") == before
    assert not owned_descriptors().intersection(calls)


@pytest.mark.parametrize("after", range(1, 12))
def test_interrupted_close_can_be_repeated(after):
    ours, theirs = descriptors.socketpair()
    with theirs:
        with contextlib.suppress(Struck), Strike(after):
            descriptors.close_object(ours)
        descriptors.close_object(ours)
        assert ours.fileno() == -1
        gone = weakref.ref(ours)
        del ours
        assert gone() is None


def num_open():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    return str(tmp_path / "a")


def test_last_reference_closes_the_descriptor_without_python_code_or_warning(path):
    held = [HeldDescriptor(os.open, path, os.O_RDONLY)]
    fd = held[0].fd
    assert os.pread(fd, 7, 0) == b"content"
    with warnings.catch_warnings(action="error"):
        assert calls_of_python_in(held.clear) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_descriptor_closed_early_is_not_closed_again(path):
    held = HeldDescriptor(os.open, path, os.O_RDONLY)
    held.close()
    held.close()
    other = os.open(path, os.O_RDONLY)
    assert other == held.fd
    del held
    os.fstat(other)
    os.close(other)


def test_error_of_the_function_is_raised(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        HeldDescriptor(os.open, str(tmp_path / "absent"), os.O_RDONLY)


def test_interrupt_while_a_descriptor_is_opened_does_not_leak_it(path):
    before = num_open()
    for _, strike in each_strike(least=5):
        with contextlib.suppress(Struck), strike:
            HeldDescriptor(os.open, path, os.O_RDONLY)
        assert num_open() == before


def test_child_keeps_a_number_that_it_has_reused(path):
    held = [HeldDescriptor(os.open, path, os.O_RDONLY)]

    def reuse():
        fd = held[0].fd
        os.dup2(2, fd)
        held.clear()
        return os.fstat(fd).st_ino == os.fstat(2).st_ino

    assert answer_of_child(reuse) == "True"
    assert os.pread(held[0].fd, 7, 0) == b"content"
