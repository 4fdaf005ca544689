"""Worker threads: which thread a work item wakes."""

import contextlib
import gc
import importlib
import itertools
import os
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import strikes
from helpers.inside import pipeline_of

import mpqueue
from mpqueue import Loader
from mpqueue.plan.cursors import Place

LENGTH = 300


def test_too_few_threads_are_an_error_at_start_with_a_remedy(monkeypatch):
    begin = threading.Thread.start

    def start(thread):
        if thread.name == "mpqueue-worker-1":
            raise RuntimeError("can't start new thread")
        begin(thread)

    with Loader(range(3), workers=2, backend="thread") as loader:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(OSError, match="can't start new thread; check `ulimit -u`"):
                next(iter(loader))
        assert list(loader) == [0, 1, 2]


def test_all_threads_compute_slow_batches():
    all_here = threading.Barrier(4, timeout=60)

    class Slow:
        def __len__(self):
            return 8

        def __getitem__(self, index):
            all_here.wait()
            return index

    with Loader(Slow(), workers=4, backend="thread") as loader:
        assert list(loader) == list(range(8))


@pytest.mark.parametrize("workers", [1, 2])
def test_queue_is_filled_without_requests(workers):
    computed = threading.Semaphore(0)

    class Counting:
        def __len__(self):
            return 100

        def __getitem__(self, index):
            computed.release()
            return index

    with Loader(Counting(), workers=workers, backend="thread", max_queue_size=8) as loader:
        batches = iter(loader)
        for _ in range(8):
            assert computed.acquire(timeout=60)
        assert list(batches) == list(range(100))


class AtWork:
    """A source with one item that runs until it may end."""

    def __init__(self, at: int) -> None:
        self.at, self.has_begun, self.may_end = at, threading.Event(), threading.Event()

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        if index == self.at:
            self.has_begun.set()
            assert self.may_end.wait(60)
        return index


def test_pause_sleeps_during_a_batch_though_others_are_ready(monkeypatch):
    """Polling would take the interpreter's lock from the running thread."""
    source, looks, sleeps = AtWork(1), [], []
    with Loader(source, workers=1, backend="thread", max_queue_size=3) as loader, monkeypatch.context() as patch:
        batches = iter(loader)
        assert source.has_begun.wait(60)
        pipeline = pipeline_of(loader)
        backend = pipeline.backend
        assert list(pipeline.ledger.ready) == [0]
        take_in, wait = backend.take_in, backend.wait

        def look(head):
            looks.append(head)
            if len(looks) == 100:
                source.may_end.set()
            return take_in(head)

        def sleep(head, timeout_s):
            sleeps.append(head)
            source.may_end.set()
            wait(head, timeout_s)

        patch.setattr(backend, "take_in", look)
        patch.setattr(backend, "wait", sleep)
        pipeline.pause()
        assert (len(looks) < 100, sleeps[:1]) == (True, [1])
        patch.undo()
        pipeline.resume()
        assert list(batches) == list(range(LENGTH))


def test_broken_loop_leaves_no_ready_batch():
    """It would never be requested: it would be kept forever, and counted as ready."""
    with Loader(AtWork(-1), workers=1, backend="thread", max_queue_size=4) as loader:
        assert next(iter(loader)) == 0
        pipeline = pipeline_of(loader)
        ledger = pipeline.ledger
        pipeline.pause()
        before = set(ledger.ready)
        assert before
        pipeline.restart_at(Place(0))
        with pipeline.lock:
            assert not before & ledger.ready.keys()
            assert ledger.ready.keys() <= ledger.work_items.keys()


class DrawsFrom:
    """Items that draw by one function, given by its name."""

    def __init__(self, function):
        self.function = function

    def __len__(self):
        return 4

    def __getitem__(self, index):
        module, _, name = self.function.rpartition(".")
        return float(getattr(importlib.import_module(module), name)()) if self.function else index


@pytest.mark.parametrize(
    ("function", "told"), [("random.random", "Python's random"), ("numpy.random.random", "numpy.random"), ("", "")]
)
@pytest.mark.parametrize("seed", [3, None])
def test_one_warning_reports_draws_from_a_shared_generator(caplog, function, told, seed):
    with Loader(DrawsFrom(function), workers=2, backend="thread", seed=seed) as loader:
        list(loader)
        list(loader)
    texts = [record.getMessage() for record in caplog.records if "share them" in record.getMessage()]
    assert [text.split(" drew ")[0] for text in texts] == ([told] if told and seed else [])


class Struck(Exception):
    """The error of a signal handler."""


def test_error_that_strikes_a_waiting_thread_is_freed_without_a_collection():
    """The frames of its traceback have the loader, and with it the source."""

    def strike(*_):
        raise Struck

    class Striking:
        """Sends a signal when the consumer waits."""

        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index:
                assert is_asked.wait(60)
                while 1 not in pipeline_of(loader).backend._consumers.values():  # as long as no consumer waits
                    time.sleep(0)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
                has_struck.wait(60)
            return index

    is_asked, has_struck = threading.Event(), threading.Event()
    before = signal.signal(signal.SIGUSR1, strike)
    gc.disable()
    try:
        with Loader(Striking(), workers=1, backend="thread") as loader:
            batches = iter(loader)
            assert next(batches) == 0
            is_asked.set()
            try:
                next(batches)
            except Struck as error:
                left = weakref.ref(error)
                has_struck.set()
            assert left() is None
    finally:
        gc.enable()
        signal.signal(signal.SIGUSR1, before)


def take(lock):
    """Return whether this thread can acquire the lock."""
    if is_free := lock.acquire(timeout=60):
        lock.release()
    return is_free


def test_interrupt_in_the_standard_library_releases_the_lock(monkeypatch):
    """A context manager of `contextlib` would keep it as long as the exception, and workers would wait."""
    monkeypatch.setattr(strikes, "is_ours", lambda frame: frame.f_code.co_filename.startswith((package, standard)))
    package, standard = os.path.dirname(mpqueue.__file__), contextlib.__file__
    kept = []
    with Loader(range(3), workers=1, backend="thread") as loader:
        next(iter(loader))
        pipeline = pipeline_of(loader)
        for after in itertools.count(1):
            with strikes.Strike(after) as strike:
                try:
                    pipeline.timeout_s()
                except strikes.Struck as error:
                    kept.append(error)
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(take, pipeline.lock).result(), after
            if strike.left > 0:
                break
    assert len(kept) > 3
