"""Threads that loading the source leaves in the fork server: most prevent forking, some are known to be safe."""

import os
import threading

import numpy as np
import pytest
from helpers.faults import Numbers
from helpers.one_epoch import one_epoch


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
