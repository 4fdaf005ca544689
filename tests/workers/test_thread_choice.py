"""Samples computed by helper threads or by the worker's own thread: the batches are the same."""

import random
import threading

import numpy as np
import pytest
from helpers.footprint import DEADLOCK_S

import mpqueue
from mpqueue import Loader
from mpqueue.worker.helper_threads import Helpers, InOrder
from mpqueue.worker.thread_choice import ThreadChoice


def be_alone(patience_s=DEADLOCK_S):
    """Return a worker_init that makes the worker compute its batches alone, for the given time."""

    def begin(choice, count, is_begun):
        assert not is_begun
        return patience_s

    def patch():
        ThreadChoice.begin, ThreadChoice.end = begin, lambda choice, count, was_alone: None
        ThreadChoice.is_settled = False

    return patch


class Samples:
    """Samples that record their thread, and draw numbers."""

    broken = ()

    def __init__(self, length=22):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.broken:
            raise ValueError(f"broken {index}")
        info = mpqueue.worker_info()
        own = mpqueue.empty(1024)
        own.fill(index)
        return index, mpqueue.rng().random(3), info.num_workers, info.seed, own


class Whose(Samples):
    def __getitem__(self, index):
        return threading.current_thread() is threading.main_thread()


class Broken(Samples):
    broken = (3, 5)


class Meeting(Samples):
    """Samples that finish when four are being computed at once."""

    def __init__(self):
        super().__init__(16)
        self.barriers = {}

    def __getitem__(self, index):
        self.barriers.setdefault(index // 4, threading.Barrier(4)).wait(DEADLOCK_S)
        return index


def plain(value):
    if isinstance(value, Loader | list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def taken(source, epochs=2, **options):
    with Loader(source, **{"batch_size": 5, "shuffle": True, "seed": 5, "workers": 2} | options) as loader:
        return [plain(loader) for _ in range(epochs)], loader.statistics()


def test_worker_that_is_alone_computes_in_its_own_thread():
    ((batches,), _) = taken(Whose(), 1, threads=3, worker_init=be_alone())
    assert {one for batch in batches for one in batch} == {True}


@pytest.mark.parametrize("collate", [None, list], ids=["joined", "listed"])
def test_order_numbers_and_memory_of_samples_are_the_same_as_with_threads(collate):
    one, alone, by_threads = (
        taken(Samples(), collate=collate, **options)[0]
        for options in ({}, {"threads": 3, "worker_init": be_alone()}, {"threads": 3})
    )
    assert one == alone == by_threads


def test_error_has_its_position_and_note():
    with Loader(Broken(), batch_size=5, workers=1, threads=3, worker_init=be_alone()) as loader:
        batches = iter(loader)
        with pytest.raises(ValueError, match="broken 3") as caught:
            next(batches)
        assert "the sample of index 3, at place 3 of the epoch" in caught.value.__notes__
        with pytest.raises(ValueError, match="broken 5"):
            next(batches)
        assert next(batches)[0].tolist() == [10, 11, 12, 13, 14]


class Draws(Samples):
    def __getitem__(self, index):
        return float(np.random.random()), random.random()


def test_shared_generators_are_seeded_for_each_batch():
    one, other = (taken(Draws(), threads=3, worker_init=be_alone())[0] for _ in range(2))
    assert one == other


def test_samples_that_wait_for_each_other_do_not_hang():
    ((batches, again), _) = taken(Meeting(), batch_size=8, threads=4, shuffle=False, worker_init=be_alone(0.001))
    assert batches == again == [list(range(8)), list(range(8, 16))]


def test_no_call_is_taken_while_threads_join_in():
    """The worker's thread waits for the thread that passes calls to the helpers, so results remain in order."""
    has_come_in, may_go_on, has_asked = threading.Event(), threading.Event(), threading.Event()

    def arguments():
        yield (0,)
        has_come_in.set()
        assert may_go_on.wait(DEADLOCK_S)
        yield from ((number,) for number in range(1, 6))

    def call(number):
        if number == 0:
            assert has_come_in.wait(DEADLOCK_S)
        return number

    class Asked:
        """A lock that reports when the worker's thread waits for it."""

        def __init__(self, lock):
            self.lock, self.of = lock, threading.current_thread()

        def __enter__(self):
            if has_come_in.is_set() and threading.current_thread() is not self.of:
                has_asked.set()
            return self.lock.__enter__()

        def __exit__(self, *args):
            return self.lock.__exit__(*args)

    found = []

    def run():
        try:
            found.extend(calls.next() for _ in range(6))
        finally:
            has_asked.set()  # also if it ignored the lock, and failed

    helpers = Helpers(2)
    with InOrder(helpers, call, arguments(), patience_s=0.001) as calls:
        calls._lock = Asked(calls._lock)
        worker = threading.Thread(target=run)
        worker.start()
        assert has_asked.wait(DEADLOCK_S)
        may_go_on.set()
        worker.join(DEADLOCK_S)
    helpers.dismiss()
    assert found == list(range(6))
