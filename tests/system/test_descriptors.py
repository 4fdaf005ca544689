"""Descriptors of this package: closed with their owners, wherever an interrupt strikes."""

import contextlib
import os
import weakref

import pytest
from helpers.strikes import Strike, Struck

from mpqueue.system import descriptors


class Owner:
    """Whose end is the end of a socket."""


def test_a_socket_is_closed_with_its_owner_wherever_an_interrupt_strikes():
    """What is raised in a finalizer is lost, whatever the finalizer has done by then."""
    strike, after = None, 0
    while strike is None or strike.left <= 0:
        after += 1
        owner, (ours, theirs) = Owner(), descriptors.socketpair()
        fd = ours.fileno()
        descriptors.close_with(owner, ours)
        del ours
        with theirs, Strike(after, finalizers=True) as strike:
            del owner
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


def test_a_socket_that_is_closed_with_its_owner_is_noted_no_more():
    owner, (ours, theirs) = Owner(), descriptors.socketpair()
    with theirs:
        descriptors.close_with(owner, ours)
        assert ours in descriptors._objects.values()
        gone = weakref.ref(ours)
        del owner
        assert ours not in descriptors._objects.values()
        del ours
        assert gone() is None


def test_a_socket_may_be_closed_before_its_owner():
    owner, (ours, theirs) = Owner(), descriptors.socketpair()
    with theirs:
        close = descriptors.close_with(owner, ours)
        close()
        assert ours.fileno() == -1
        stranger = os.dup(theirs.fileno())
        del owner
        os.close(stranger)
        assert ours not in descriptors._objects.values()


@pytest.mark.parametrize("after", range(1, 12))
def test_an_object_whose_close_was_interrupted_is_closed_by_the_next(after):
    ours, theirs = descriptors.socketpair()
    with theirs:
        with contextlib.suppress(Struck), Strike(after):
            descriptors.close_object(ours)
        descriptors.close_object(ours)
        assert ours.fileno() == -1
        assert ours not in descriptors._objects.values()
