"""Starts and stops of many enqueuers, repeatedly, and in several threads."""

import os
import threading

import numpy as np
import pytest
from helpers.concurrent_calls import in_threads
from helpers.engine_parts import lock_of, session_of
from helpers.faults import Numbers, numbers
from helpers.started_enqueuer import started

import mpqueue.loader.launch
from mpqueue import Loader, OrderedEnqueuer
from mpqueue.engine.epochs import Epochs


def test_ten_enqueuers_at_once():
    pools = [OrderedEnqueuer(Numbers(), processes) for processes in (True, False) for _ in range(5)]
    try:
        for pool in pools:
            pool.start(2, 4)
        streams = [pool.get() for pool in pools]
        for index in [*range(8), *range(8)]:
            assert [numbers(stream, 1) for stream in streams] == [[index]] * 10
    finally:
        for pool in pools:
            pool.stop()


@pytest.mark.parametrize("processes", [True, False])
def test_start_and_stop_in_a_loop(processes):
    enqueuer = OrderedEnqueuer(Numbers(), processes)
    descriptors = None
    for _ in range(12 if processes else 40):
        enqueuer.start(2, 4)
        assert numbers(enqueuer.get(), 1) == [0]
        enqueuer.stop()
        held = len(os.listdir("/proc/self/fd"))
        descriptors = descriptors or held
        assert held <= descriptors + 1


@pytest.mark.slow
def test_start_and_stop_in_several_threads():
    def run():
        for _ in range(4):
            with started(Numbers(), 2, 4) as enqueuer:
                assert numbers(enqueuer.get(), 9) == [0, 1, 2, 3, 4, 5, 6, 7, 0]

    in_threads(*[run] * 4)


def test_enqueuer_can_be_stopped_by_several_threads():
    for _ in range(5):
        enqueuer = OrderedEnqueuer(Numbers(), True)
        enqueuer.start(2, 4)
        in_threads(*[enqueuer.stop] * 4)
        assert not enqueuer.is_running()


def test_workers_outlive_thread_that_started_them():
    enqueuer = OrderedEnqueuer(Numbers(), True)
    thread = threading.Thread(target=enqueuer.start, args=(2,))
    thread.start()
    thread.join()
    assert numbers(enqueuer.get(), 16) == 2 * list(range(8))
    enqueuer.stop()


class Announcing:
    """A lock that sets an event when a thread requests it."""

    def __init__(self, lock, event):
        self.lock, self.event = lock, event

    def __enter__(self):
        self.event.set()
        return self.lock.__enter__()

    def __exit__(self, *exc_info):
        return self.lock.__exit__(*exc_info)


def test_stop_during_start_stops_new_workers(monkeypatch):
    """The workers are still being created: the stop finds no pipeline yet."""
    make_backend, arrived = mpqueue.loader.launch.make_backend, threading.Event()
    loader = Loader(Numbers(), workers=1, backend="thread")

    def stop():
        loader.stop()
        arrived.set()  # in case it did not wait for the start

    stopper = threading.Thread(target=stop)

    def make_and_stop(*args):
        session = session_of(loader)
        monkeypatch.setattr(session, "_lock", Announcing(lock_of(session), arrived))
        stopper.start()
        assert arrived.wait(60)
        return make_backend(*args)

    monkeypatch.setattr(mpqueue.loader.launch, "make_backend", make_and_stop)
    batches = iter(loader)
    stopper.join()
    assert list(batches) == []
    assert not loader.is_alive()


BACKENDS = pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 1, "backend": "thread"}, {"workers": 0}])


@BACKENDS
@pytest.mark.parametrize("place", ["restart_at", "hand_out"])
def test_stop_during_start_of_loop_ends_loop_only(options, place, monkeypatch):
    """The stop follows the test whether the workers run."""
    with Loader(Numbers(3), **options) as loader:
        batches = iter(loader)
        assert next(batches)[0] == 0
        method = getattr(Epochs, place)

        def stopped_before(epochs, *args, **keywords):
            monkeypatch.setattr(Epochs, place, method)
            epochs.guard.stop()
            return method(epochs, *args, **keywords)

        monkeypatch.setattr(Epochs, place, stopped_before)
        assert [int(batch[0]) for batch in loader] == []
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]


@BACKENDS
def test_unread_loop_over_generator_is_restarted(options):
    def numbers():
        yield from (np.full(2, number) for number in range(3))

    with Loader(numbers, **options) as loader:
        iter(loader)
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]
        assert [int(batch[0]) for batch in loader] == [0, 1, 2]
