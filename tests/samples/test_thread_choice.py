"""Samples computed by helper threads or by the worker's own thread: the batches are the same."""

import threading

import pytest
from helpers.computed import Computed
from helpers.finalizers import calls_of_python_in
from helpers.footprint import DEADLOCK_S
from samples.test_on_error import Broken
from samples.test_threads import Draws, Meeting, Shared, by, indices, plain

from mpqueue import Loader
from mpqueue.worker.helper_threads import THREAD_NAME, Helpers, InOrder
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


def taken(source, epochs=2, **options):
    with Loader(source, **{"batch_size": 5, "shuffle": True, "seed": 5, "workers": 2} | options) as loader:
        return [plain(loader) for _ in range(epochs)]


def test_worker_that_is_alone_computes_in_its_own_thread():
    in_main_thread = Computed(lambda _: threading.current_thread() is threading.main_thread(), 22)
    (batches,) = taken(in_main_thread, 1, threads=3, worker_init=be_alone())
    assert {one for batch in batches for one in batch} == {True}


@pytest.mark.parametrize("collate", [None, list], ids=["joined", "listed"])
def test_order_numbers_and_memory_of_samples_are_the_same_as_with_threads(collate):
    one, alone, by_threads = (
        taken(Draws(22), collate=collate, **options)
        for options in ({}, {"threads": 3, "worker_init": be_alone()}, {"threads": 3})
    )
    assert one == alone == by_threads


def test_error_has_its_position_and_note():
    with Loader(Broken(), batch_size=4, workers=1, threads=3, worker_init=be_alone()) as loader:
        batches = iter(loader)
        for broken in (1, 5):
            with pytest.raises(ValueError, match=f"sample {broken} is broken") as caught:
                next(batches)
            assert f"the sample of index {broken}, at place {broken} of the epoch" in caught.value.__notes__


def test_shared_generators_are_seeded_for_each_batch():
    one, other = (taken(Shared(22), threads=3, worker_init=be_alone()) for _ in range(2))
    assert one == other


def test_samples_that_wait_for_each_other_do_not_hang():
    with Loader(Meeting(), batch_size=8, workers=2, threads=4, worker_init=be_alone(0.001)) as loader:
        assert [indices(loader) for _ in range(2)] == [by(8)] * 2


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


def test_end_of_dropped_threads_runs_no_python_code():
    before = threading.active_count()
    helpers = [Helpers(2)]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]
    assert calls_of_python_in(helpers.clear) == []
    for thread in threads:
        thread.join(DEADLOCK_S)
    assert threading.active_count() == before
