"""Worker threads: which thread a work item wakes."""

import os
import random
import select
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
from helpers import injected_exceptions
from helpers.computed_source import Computed
from helpers.deadlock import DEADLOCK_S
from helpers.engine_parts import pipeline_of
from helpers.one_epoch import one_epoch
from helpers.sweeps import part_of
from helpers.waits import until
from helpers.wrapped_functions import wrap

from mpqueue import Loader, OrderedEnqueuer


def test_too_few_threads_are_an_error_at_start_with_a_remedy(monkeypatch):
    def start(begin, thread):
        if thread.name == "mpqueue-worker-1":
            raise RuntimeError("can't start new thread")
        begin(thread)

    with Loader(range(3), workers=2, backend="thread") as loader:
        with monkeypatch.context() as patch:
            wrap(patch, threading.Thread, "start", start)
            with pytest.raises(OSError, match="can't start new thread; check `ulimit -u`"):
                next(iter(loader))
        assert list(loader) == [0, 1, 2]


def test_all_threads_compute_slow_batches():
    all_here = threading.Barrier(4, timeout=60)
    found = one_epoch(Computed(lambda _: all_here.wait()), workers=4, backend="thread")
    assert sorted(found) == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_queue_is_filled_without_requests(workers):
    computed = threading.Semaphore(0)
    source = Computed(lambda index: computed.release() or index, 100)
    with Loader(source, workers=workers, backend="thread", max_queue_size=8) as loader:
        batches = iter(loader)
        for _ in range(8):
            assert computed.acquire(timeout=60)
        assert list(batches) == list(range(100))


def test_batches_that_are_ready_before_the_first_poll_make_it_return():
    with Loader(range(100), workers=1, backend="thread", max_queue_size=8) as loader:
        iter(loader)
        pipeline = pipeline_of(loader)
        until(lambda: pipeline.num_ready == 8, "the queue was not filled")
        assert select.select([pipeline.fileno()], [], [], 0)[0], "no later batch would end this wait"


@pytest.mark.parametrize(
    ("function", "told"),
    [(random.random, "Python's random"), (lambda: float(np.random.random()), "numpy.random"), (int, "")],
)
@pytest.mark.parametrize("seed", [3, None])
def test_one_warning_reports_draws_from_a_shared_generator(caplog, function, told, seed):
    with Loader(Computed(lambda _: function(), 4), workers=2, backend="thread", seed=seed) as loader:
        list(loader)
        list(loader)
    texts = [record.getMessage() for record in caplog.records if "share them" in record.getMessage()]
    assert [text.split(" drew ")[0] for text in texts] == ([told] if told and seed else [])


def take(lock):
    """Return whether this thread can acquire the lock."""
    if is_free := lock.acquire(timeout=60):
        lock.release()
    return is_free


def test_interrupt_in_the_standard_library_releases_the_lock(monkeypatch):
    """A context manager of `contextlib` would keep it as long as the exception, and workers would wait."""
    injected_exceptions.strike_in_contextlib_too(monkeypatch)
    kept = []
    with Loader(range(3), workers=1, backend="thread") as loader:
        next(iter(loader))
        pipeline = pipeline_of(loader)
        for after, strike in injected_exceptions.each_strike(least=3):
            with strike:
                try:
                    pipeline.timeout_s()
                except injected_exceptions.Struck as error:
                    kept.append(error)
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(take, pipeline.guard.lock).result(), after
    assert len(kept) >= part_of(4)


def test_interrupted_stop_closes_the_pipe_of_the_waiting_caller(monkeypatch):
    loader = Loader(range(3), workers=1, backend="thread")
    next(iter(loader))
    pipeline = pipeline_of(loader)
    fd = pipeline.fileno()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            loader.stop(timeout=DEADLOCK_S)  # waits for a busy thread, too
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_hook_that_stops_its_own_loader_does_not_wait_for_threads():
    source = Computed(int, 2)
    source.on_epoch_end = lambda: loader.stop()
    loader, found = Loader(source, workers=2, backend="thread"), []
    reading = threading.Thread(target=lambda: found.extend(loader), daemon=True)
    reading.start()
    reading.join(DEADLOCK_S)
    assert not reading.is_alive(), "the threads need the lock that the hook holds"
    assert found == [0, 1]


def test_interrupted_start_raises_the_interrupt_though_a_thread_is_busy(monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def wait(index):
        begun.set()
        go_on.wait()
        return index

    def interrupted(_text):
        begun.wait()
        raise KeyboardInterrupt

    enqueuer = OrderedEnqueuer(Computed(wait, 2))
    with monkeypatch.context() as patch:
        patch.setattr("mpqueue.loader.session.debug", interrupted)
        try:
            with pytest.raises(KeyboardInterrupt):
                enqueuer.start()
        finally:
            go_on.set()
    assert not enqueuer.is_alive()
