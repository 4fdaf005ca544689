"""One coordinator for threads, enqueuers, loaders and their workers."""

import os
import threading
from multiprocessing.connection import Client, Listener

import numpy as np
import pytest
from golden.outcomes import DEADLOCK_S, Background
from helpers.forked_calls import status_of_fork

from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


class Numbers:
    """Batches of one number, or of a function's result at this number."""

    def __init__(self, function=int):
        self.function = function

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return np.array([self.function(index)])


def held_at(address):
    """Return a function that waits at a gate. The gate is an address, because items may be in a worker process."""

    def wait(index):
        with Client(address, "AF_UNIX") as gate:
            gate.send(index)
            with pytest.raises(EOFError):
                gate.recv()
        return -1

    return wait


@pytest.mark.parametrize("use_multiprocessing", [False, True])
def test_stop_ends_blocked_get(coord, use_multiprocessing):
    with Listener(f"\0gate-{os.getpid()}", "AF_UNIX") as listener:
        enqueuer = OrderedEnqueuer(Numbers(held_at(listener.address)), use_multiprocessing)
        enqueuer.start(workers=1)
        coord.register_thread(enqueuer)
        consumer = Background(list, enqueuer.get())
        with listener.accept() as gate:
            assert gate.recv() == 0
            coord.request_stop()
            consumer.finish()
        coord.join([consumer.thread])
    assert not enqueuer.is_running()
    assert not enqueuer.is_alive()


def test_stop_ends_loop_over_loader(coord):
    loader = Loader(Numbers(), workers=1)
    coord.register_thread(loader)
    taken = 0
    while not coord.should_stop():
        for _ in loader:
            taken += 1
            if taken == 20:
                coord.request_stop()
    coord.join()
    assert not loader.is_alive()
    assert taken >= 20


def test_join_waits_until_enqueuer_is_stopped(coord):
    enqueuer = GeneratorEnqueuer(iter(range(3)))
    enqueuer.start()
    coord.register_thread(enqueuer)
    joining = Background(coord.join)
    assert list(enqueuer.get()) == [0, 1, 2]
    assert joining.thread.is_alive()
    enqueuer.stop()
    joining.finish()


def test_members_that_were_never_started_count_as_finished(coord):
    for member in (OrderedEnqueuer(Numbers()), Loader(Numbers()), threading.Thread(target=print)):
        coord.register_thread(member)
    coord.join()
    assert coord.joined


def test_enqueuer_can_be_restarted_after_a_stop(coord):
    with OrderedEnqueuer(Numbers()) as enqueuer:
        enqueuer.start()
        assert enqueuer.is_alive()
        coord.register_thread(enqueuer)
        coord.request_stop()
        coord.join()
        enqueuer.start()
        assert enqueuer.is_alive()
        assert next(enqueuer.get()) == 0


@pytest.mark.sample(1)
@pytest.mark.parametrize("start_method", ["forkserver", "fork"])
def test_source_carries_coordinator_to_worker_processes(coord, start_method):
    def report(index):
        with coord.stop_on_exception():
            if index == 3:
                raise KeyError("label 17")
        return coord.should_stop()

    with Loader(Numbers(report), workers=1, start_method=start_method) as loader:
        flags = [bool(batch[0]) for batch in loader]
    assert flags == [False] * 3 + [True] * 5
    with pytest.raises(KeyError, match="label 17") as caught:
        coord.join()
    assert "report" in str(caught.value.__cause__)


def test_files_opened_after_a_forked_pool_remain_open_in_children():
    """They have the numbers of the pool's descriptors, which are closed in children that users fork."""
    with Loader(Numbers(), workers=1, start_method="fork") as loader:
        assert len(list(loader)) == 8
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(30)]

    def use_all():
        for fd in opened:
            os.fstat(fd)

    status = status_of_fork(use_all)
    for fd in opened:
        os.close(fd)
    assert status == 0


def test_running_workers_see_the_stop(coord):
    def wait_except_first(index):
        return coord.wait_for_stop(DEADLOCK_S) if index else coord.should_stop()

    with Loader(Numbers(wait_except_first), workers=2) as loader:
        batches = iter(loader)
        assert not next(batches)[0]
        coord.request_stop()
        assert all(batch[0] for batch in batches)
