"""Options of the whole suite, and the proof that each test leaves nothing behind."""

import contextlib
import gc
import os
import signal
import threading
import time

import hypothesis
import pytest

# The same examples at each run, and no deadline: a loaded machine is slow, which is no defect of what is tested.
hypothesis.settings.register_profile("mpqueue", derandomize=True, deadline=None)
hypothesis.settings.load_profile("mpqueue")

DEADLOCK_S = 60.0  # passing it means that something hangs; nothing is measured by it


def pytest_addoption(parser):
    parser.addoption("--golden", default=None, metavar="DIR", help="folder of case files (default: tests/golden)")
    parser.addoption("--stock", action="store_true", help="play cases on the framework itself, where that is possible")
    parser.addoption("--peers", action="store_true", help="try the benchmark's peers that are installed, too")


def pytest_configure():
    """Ctrl-C works here, also where a shell has started the tests in the background and has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Thousands of tests, and what they have imported, stay: the collection before each test need not look at them."""
    gc.collect()
    gc.freeze()


def _children(pid):
    """Direct children of a process, from its threads' own lists: a scan of all processes would cost more than a test."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as children:
                found += [int(child) for child in children.read().split()]
    return found


def _descendants():
    """All descendants: pid to command line; empty for a zombie."""
    found, pending = {}, _children("self")
    while pending:
        pid = pending.pop()
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as command:
            found[pid] = command.read().replace(b"\0", b" ").decode(errors="replace")[:200]
            pending += _children(pid)
    return found


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
        return sum("/dev/shm/" in line or "/memfd:mpqueue" in line for line in maps)


class Footprint:
    """What a process holds that could leak."""

    def __init__(self):
        descendants = _descendants()
        # Python's own resource tracker stays for as long as the interpreter.
        self.processes = {pid: text for pid, text in descendants.items() if text and "resource_tracker" not in text}
        self.zombies = {pid for pid, text in descendants.items() if not text}
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


def left_behind(look, before):
    """What a test has left: what ends by itself (a thread at its last item, a killed child) is given the time to."""
    deadline = time.monotonic() + DEADLOCK_S / 4
    lasting = None
    while True:
        left = look().left_since(before)
        segments = left.pop("segments", set())
        lasting = segments if lasting is None else lasting & segments  # those of other programs come and go
        if lasting:
            left["segments"] = lasting
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()
        time.sleep(0.01)


_PURE = {"golden", "parsing", "compat", "readers"}  # thousands of quick tests that fork nothing


@pytest.fixture(autouse=True)
def _leaves_nothing(request):
    """Each test begins in an empty graph, and leaves no process, thread, descriptor, segment or mapping behind."""
    import mpqueue

    if not _PURE & set(request.path.parts):
        gc.collect()  # a fork announces all living queues and coordinators: those of earlier tests are not to be there
    before = Footprint()
    yield
    mpqueue.reset_default_graph()  # runners in its collections, and their queues, are nobody else's
    mpqueue.shutdown()
    left = left_behind(Footprint, before)
    assert not left, f"the test left behind: {left}"


@pytest.fixture(scope="session")
def deadlock_s():
    """A bound for waits in tests; passing it means that something hangs."""
    return DEADLOCK_S
