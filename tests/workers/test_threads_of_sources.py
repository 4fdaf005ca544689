"""Threads that loading the source leaves in the nursery: most forbid to fork workers, some are known to be safe."""

import os
import threading

import numpy as np
import pytest

from mpqueue import Loader
from mpqueue.system import safe_threads


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


def test_beside_a_thread_that_is_known_to_be_safe_workers_are_forked():
    assert are_interpreters_of_their_own(WithThread("jemalloc_bg_thd")) == {False}


def test_beside_any_other_thread_they_are_not_and_a_warning_names_it():
    with pytest.warns(RuntimeWarning, match=r"started threads \(a-stranger\), so workers are started as fresh"):
        assert are_interpreters_of_their_own(WithThread("a-stranger")) == {True}


def test_the_main_thread_is_no_other_thread_whatever_its_name():
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/comm", "w") as file:
            file.write("a-stranger")
        WithThread("").__setstate__({"name": "jemalloc_bg_thd"})
        os.write(write_end, repr((threading.active_count(), safe_threads.unsafe_threads())).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read_end, 100) == b"(2, [])"
    os.close(read_end)
    os.close(write_end)
