"""Worker threads: which thread a work item wakes; and threads that loading a source leaves in the fork server."""

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
from helpers.faults import Numbers
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


class WithThread(Numbers):
    """Unpickling it leaves a thread with this kernel name."""

    def __init__(self, name):
        super().__init__(4)
        self.name = name

    def __setstate__(self, state):
        self.__dict__.update(state)
        ready = threading.Event()
        threading.Thread(target=self._stay, args=(ready,), daemon=True).start()
        ready.wait()

    def _stay(self, ready):
        with open("/proc/thread-self/comm", "w") as file:
            file.write(self.name)
        ready.set()
        threading.Event().wait()

    def __getitem__(self, index):
        with open("/proc/self/cmdline", "rb") as file:
            return np.array([b"spawned()" in file.read()])


def are_interpreters_of_their_own(source):
    return {bool(batch[0]) for batch in one_epoch(source, workers=2)}


def test_workers_are_forked_with_a_thread_that_is_known_to_be_safe():
    assert are_interpreters_of_their_own(WithThread("jemalloc_bg_thd")) == {False}


def test_workers_are_not_forked_with_other_threads_and_a_warning_names_them():
    with pytest.warns(RuntimeWarning, match=r"started threads \(a-stranger\), so workers are started as fresh"):
        assert are_interpreters_of_their_own(WithThread("a-stranger")) == {True}


class WithPool(WithThread):
    """Unpickling it leaves unnamed threads of a library, and two threads with a name."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        with open("/proc/self/comm") as file:
            own = file.read().rstrip("\n")
        for name in (own, own, own, "pool", "pool"):
            super().__setstate__({"name": name})


@pytest.mark.slow
def test_threads_of_one_name_are_counted_without_the_fork_servers_own_name():
    with pytest.warns(RuntimeWarning, match=r"started threads \(pool \(2\), 3 without a name\), so workers"):
        assert are_interpreters_of_their_own(WithPool("")) == {True}


class Bound:
    """Refuses to work in another process than the one that made it, as asynchronous file systems of fsspec do."""

    def __init__(self):
        self._pid = os.getpid()

    def __reduce__(self):
        return Bound, ()

    def check(self):
        if self._pid != os.getpid():
            raise RuntimeError("this object belongs to another process")


class Wrapper:
    """One of many layers around an object, as in arrays of xarray."""

    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner

    def check(self):
        self.inner.check()


class Checking(WithThread):
    def __init__(self, held):
        super().__init__("")
        self.held = held

    def __setstate__(self, state):
        self.__dict__.update(state)

    def __getitem__(self, index):
        self.held.check()
        return super().__getitem__(index)


@pytest.mark.slow
def test_workers_are_not_forked_with_an_object_that_remembers_its_process_and_are_forked_again_without():
    held = Bound()
    for _ in range(8):
        held = Wrapper(held)
    with pytest.warns(RuntimeWarning, match=r"that a fork would break \(Bound\), so workers are started as fresh"):
        assert are_interpreters_of_their_own(Checking(held)) == {True}
    assert are_interpreters_of_their_own(WithThread("jemalloc_bg_thd")) == {False}


def test_file_system_that_a_fork_would_break_is_named_before_a_fork_of_the_trainer():
    asyn = pytest.importorskip("fsspec.asyn")
    source = WithThread("")
    source.files = asyn.AsyncFileSystem(asynchronous=True)
    with pytest.warns(RuntimeWarning, match=r"source\.files is a fsspec.asyn.AsyncFileSystem that was opened before"):
        assert len(one_epoch(source, workers=1, start_method="fork")) == 4


def test_users_threads_are_named_and_counted_before_a_fork_of_the_trainer():
    """Threads of this package are recreated after the fork."""
    release, source = threading.Event(), Numbers(4)
    source.lock = threading.Lock()  # so that it is not pickled
    names = ["reader", "reader", "writer", "mpqueue-event-loop"]
    threads = [threading.Thread(target=release.wait, name=name) for name in names]
    try:
        for thread in threads:
            thread.start()
        with pytest.warns(RuntimeWarning, match=r"do not exist in the workers: .*reader \(2\), writer$"):
            one_epoch(source, workers=2)
    finally:
        release.set()
        for thread in threads:
            thread.join()
