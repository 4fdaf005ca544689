"""Memory with views at a fork is not reused until the child exits."""

import collections
import contextlib
import os
import select
import subprocess
import sys

import numpy as np
import pytest
from helpers.faults import Numbers
from helpers.forked_calls import fork_of, status_of_fork
from helpers.plain_memory import PlainMemory
from helpers.reading_children import fork_reading  # noqa: F401

import mpqueue
from mpqueue.memory import forked_views
from mpqueue.memory.ring import Leases
from mpqueue.memory.slots import Slot


@pytest.fixture
def leases():
    leases = Leases(PlainMemory(1000))
    yield leases
    forked_views.release(leases)


def free(leases):
    """Return the numbers of the slots that may be reused."""
    forked_views.collect()
    return sorted(slot.index for slot in leases.take_ended())


def test_slot_is_reused_after_all_children_have_exited(leases, fork_reading):  # noqa: F811
    bases = [leases.lease(Slot(number, 0), 4, None) for number in range(3)]
    del bases[0]
    first = fork_reading()
    del bases[0]
    second = fork_reading()
    bases.clear()
    assert free(leases) == [0]
    assert first.end()
    assert free(leases) == [1]  # the other one has views in both children
    assert second.end()
    assert free(leases) == [2]


def children():
    """Return the children that may have views."""
    return forked_views._children


def test_slot_is_kept_for_a_grandchild(leases):
    wait, go = os.pipe()
    base = leases.lease(Slot(0, 0), 4, None)

    def fork():
        os.close(go)
        fork_of(lambda: os.read(wait, 1) and None)

    assert status_of_fork(fork) == 0
    del base
    assert free(leases) == []
    (child,) = children()
    os.write(go, b"x")
    select.select([child.read_end], [], [], 60)
    assert free(leases) == [0]
    for fd in (wait, go):
        os.close(fd)


def test_executed_program_keeps_nothing(leases):
    base = leases.lease(Slot(0, 0), 4, None)
    # With `preexec_fn`, Python runs the fork hooks.
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, preexec_fn=int) as process:
        del base
        assert free(leases) == [0]
        process.communicate(b"\n")


def test_worker_keeps_nothing(leases, fork_reading):  # noqa: F811
    base = leases.lease(Slot(0, 0), 4, None)
    child = fork_reading(fork=forked_views.fork_worker)
    del base
    assert free(leases) == [0]
    assert child.end()


def opened():
    """Return the targets of this process's descriptors, and the count of each."""
    found = collections.Counter()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listed folder
            found[os.readlink(f"/proc/self/fd/{fd}")] += 1
    return found


@pytest.mark.parametrize("has_ended", [False, True])
def test_fork_without_views_leaves_no_descriptor(leases, has_ended, fork_reading):  # noqa: F811
    if has_ended:
        leases.lease(Slot(0, 0), 4, None)
    before = opened()
    # The child has its pipe, and has closed what other modules own.
    child = fork_reading(lambda: (opened() - before).total() == 1)
    assert not children()
    assert child.end()
    assert opened() == before


def test_slot_is_kept_until_release_if_no_descriptor_is_left(leases, monkeypatch, fork_reading):  # noqa: F811
    def fail():
        raise OSError

    base = leases.lease(Slot(0, 0), 4, None)

    def fork():
        monkeypatch.setattr(os, "pipe", fail)
        pid = os.fork()
        monkeypatch.undo()
        return pid

    child = fork_reading(fork=fork)
    del base
    assert child.end()
    assert free(leases) == []
    forked_views.release(leases)
    assert [slot.index for slot in leases.take_ended()] == [0]


def test_child_may_fork_and_load_itself(fork_reading):  # noqa: F811
    """The child has no leases of its parent, and keeps its own batches for its own children."""

    def loads():
        """Return whether the child's loop fails."""
        with mpqueue.Loader(SOURCE, workers=1, max_queue_size=1, start_method="fork") as loader:
            batches = iter(loader)
            child = forked_with(next(batches), fork_reading)
            return len(list(batches)) != LENGTH - 1 or not child.end()

    with mpqueue.Loader(SOURCE, workers=1, max_queue_size=1) as loader:
        batches = iter(loader)
        child = forked_with(next(batches), fork_reading, loads)
        assert len(list(batches)) == LENGTH - 1
    assert child.end()


LENGTH = 40
SOURCE = Numbers(LENGTH)


def forked_with(batch, fork_reading, loads=bool):  # noqa: F811
    number = int(batch[0])
    return fork_reading(lambda: not loads() and bool((batch == number).all()))


def test_many_children_have_their_batches_and_loop_gets_copies(fork_reading):  # noqa: F811
    with mpqueue.Loader(SOURCE, workers=2, max_queue_size=2) as loader:
        children = []
        for batch in loader:
            if len(children) < 12:
                children.append(forked_with(batch, fork_reading))
        num_copies = loader.statistics().copies_held
        assert num_copies > LENGTH - 12
        assert [child.end() for child in children] == [True] * 12
        # Their slots are used again.
        assert len(list(map(int, map(np.max, loader)))) == LENGTH
        assert loader.statistics().copies_held <= num_copies + 1


def test_children_that_exit_leave_the_loop_its_views(fork_reading):  # noqa: F811
    with mpqueue.Loader(SOURCE, workers=2, max_queue_size=2) as loader:
        for batch in loader:
            assert forked_with(batch, fork_reading).end()
        assert loader.statistics().copies_held == 0


def test_batch_outlives_its_loader(fork_reading):  # noqa: F811
    with mpqueue.Loader(SOURCE, workers=1) as loader:
        child = forked_with(next(iter(loader)), fork_reading)
    assert not children(), "a closed ring is not reused, so its memory is released"
    assert child.end()


def test_view_of_a_closed_ring_does_not_end_the_protection_of_others(fork_reading):  # noqa: F811
    with mpqueue.Loader(SOURCE, workers=1, start_method="fork") as first:
        closed = next(iter(first))
    with mpqueue.Loader(SOURCE, workers=1, max_queue_size=1, start_method="fork") as loader:
        batches = iter(loader)
        child = forked_with(next(batches), fork_reading)
        assert [int(batch[0]) for batch in batches] == list(range(1, LENGTH))
        assert child.end()
    assert not closed.any()
