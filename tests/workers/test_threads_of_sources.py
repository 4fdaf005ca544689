"""Threads that loading the source leaves in the fork server: most prevent forking, some are known to be safe."""

import threading

import numpy as np
import pytest

from mpqueue import Loader


class WithThread:
    """Unpickling it leaves a thread with this kernel name."""

    def __init__(self, name):
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

    def __len__(self):
        return 4

    def __getitem__(self, index):
        with open("/proc/self/cmdline", "rb") as file:
            return np.array([b"spawned()" in file.read()])


def are_interpreters_of_their_own(source):
    with Loader(source, workers=2) as loader:
        return {bool(batch[0]) for batch in loader}


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


def test_threads_of_one_name_are_counted_without_the_fork_servers_own_name():
    with pytest.warns(RuntimeWarning, match=r"started threads \(pool \(2\), 3 without a name\), so workers"):
        assert are_interpreters_of_their_own(WithPool("")) == {True}


class Unpicklable(WithThread):
    def __init__(self):
        self.lock = threading.Lock()

    def __getitem__(self, index):
        return np.array([False])


def test_users_threads_are_named_and_counted_before_a_fork_of_the_trainer():
    """Threads of this package are recreated after the fork."""
    release = threading.Event()
    names = ["reader", "reader", "writer", "mpqueue-monitor"]
    threads = [threading.Thread(target=release.wait, name=name) for name in names]
    try:
        for thread in threads:
            thread.start()
        with pytest.warns(RuntimeWarning, match=r"do not exist in the workers: .*reader \(2\), writer$"):
            are_interpreters_of_their_own(Unpicklable())
    finally:
        release.set()
        for thread in threads:
            thread.join()
