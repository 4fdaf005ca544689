"""Descriptors of this package are closed with their owners, even if an interrupt occurs at the same time."""

import contextlib
import errno
import os
import weakref
from functools import partial

import pytest
from helpers import strikes
from helpers.finalizers import calls_of_python_in
from helpers.strikes import Strike, Struck, each_strike

from mpqueue.memory.snapshot import Snapshot
from mpqueue.system import descriptors


class Owner:
    """The owner of a socket."""


def test_socket_is_closed_with_owner_despite_interrupts():
    """An exception in a finalizer is lost, wherever it is raised."""
    for _, strike in each_strike(least=0, make=partial(Strike, finalizers=True)):
        owner, (ours, theirs) = Owner(), descriptors.socketpair()
        fd = ours.fileno()
        descriptors.close_with(owner, ours)
        del ours
        with theirs, strike:
            del owner
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


@pytest.mark.parametrize("kind", ["socket", "snapshot"])
def test_collected_owner_closes_descriptor_without_python_code(kind):
    """No signal handler can interrupt it."""
    before = len(os.listdir("/proc/self/fd"))
    if kind == "snapshot":
        owners = [Snapshot([memoryview(bytes(5000))])]
    else:
        owners, (ours, theirs) = [Owner()], descriptors.socketpair()
        descriptors.close_with(owners[0], ours)
        del ours
        theirs.close()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert calls_of_python_in(owners.clear) == []
    assert len(os.listdir("/proc/self/fd")) == before


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
    strikes.strike_in_contextlib_too(monkeypatch)
    before = os.listdir("/proc/self/fd")
    for _, strike in each_strike(least=10):
        try:
            with strike, descriptors.apart_from_standard():
                pass
        except Struck:
            pass
        assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("num_moved", [0, 1])
def test_pipe_that_cannot_leave_the_standard_streams_is_closed(num_moved, monkeypatch):
    """Its numbers are those of closed standard streams, and C code prints to these numbers."""
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
    assert not descriptors._owned.intersection(calls)


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
