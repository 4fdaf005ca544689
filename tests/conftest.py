"""Options of the whole suite, and the proof that each test leaves nothing behind."""

import gc
import os
import threading
import time

import psutil
import pytest

DEADLOCK_S = 60.0  # passing it means that something hangs; nothing is measured by it


def pytest_addoption(parser):
    parser.addoption("--golden", default=None, metavar="DIR", help="folder of case files (default: tests/golden)")


def _processes():
    """Living children, of any depth, but for Python's own resource tracker."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in command:
                found[process.pid] = command[:200]
        except psutil.Error:
            continue
    return found


def _zombies():
    return {p.pid for p in psutil.Process().children() if p.is_running() and p.status() == psutil.STATUS_ZOMBIE}


def _descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    # The resource tracker's pipe is Python's own, opened with the first shared memory and kept.
    from multiprocessing import resource_tracker

    found.pop(resource_tracker._resource_tracker._fd, None)
    return found


def _segments():
    return (
        {name for name in os.listdir("/dev/shm") if not name.startswith("sem.")} if os.path.isdir("/dev/shm") else set()
    )


def _mappings():
    with open("/proc/self/maps") as maps:
        return sum("/dev/shm/psm_" in line or "/memfd:mpqueue" in line for line in maps)


class Footprint:
    """What a process holds that could leak."""

    def __init__(self):
        self.processes, self.zombies = _processes(), _zombies()
        # A dummy stands for a thread that Python has not made (TensorFlow's) and does not see the end of.
        own = [thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)]
        self.threads = {thread.ident: thread.name for thread in own}
        self.descriptors, self.segments, self.mappings = _descriptors(), _segments(), _mappings()

    def left_since(self, before):
        left = {
            "processes": {k: v for k, v in self.processes.items() if k not in before.processes},
            "zombies": self.zombies - before.zombies,
            "threads": {k: v for k, v in self.threads.items() if k not in before.threads},
            "descriptors": {k: v for k, v in self.descriptors.items() if before.descriptors.get(k) != v},
            "segments": self.segments - before.segments,
            "mappings": max(0, self.mappings - before.mappings),
        }
        return {what: things for what, things in left.items() if things}


@pytest.fixture(autouse=True)
def _leaves_nothing(request):
    """After each test: no process, thread, descriptor, segment or mapping that was not there before."""
    import mpqueue

    gc.collect()
    before = Footprint()
    yield
    mpqueue.shutdown()
    deadline = time.monotonic() + DEADLOCK_S / 4
    while True:
        gc.collect()
        left = Footprint().left_since(before)
        if not left or time.monotonic() > deadline:
            break
        # What ends by itself (a thread at its last item, a child that was killed) is given the time to do so.
        time.sleep(0.01)
    assert not left, f"the test left behind: {left}"


@pytest.fixture(scope="session")
def deadlock_s():
    """A bound for waits in tests; passing it means that something hangs."""
    return DEADLOCK_S
