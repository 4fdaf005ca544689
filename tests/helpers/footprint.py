"""The resources of a process that could leak. A comparison before and after a test proves that it leaks none."""

import contextlib
import gc
import os
import signal
import threading
import time

from helpers.waits import comes_true
from mpqueue.system.descriptors import descriptors

DEADLOCK_S = 60.0  # exceeded only if a test hangs; not a measurement


_SLOW_S = 0.002  # of CPU time


def collect():
    """Collect garbage. If that is slow, freeze the remaining objects: scanning them again takes 500 ms with Keras
    loaded."""
    begun = time.thread_time()
    gc.collect()
    if time.thread_time() - begun > _SLOW_S:
        gc.freeze()


def children_of(pid):
    """Return the direct children of a process from its threads' lists, because scanning all processes is slow."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as children:
                found += [int(child) for child in children.read().split()]
    return found


def _descendants():
    """Return all descendants, as a dictionary from pid to command line (empty for a zombie)."""
    found, pending = {}, children_of("self")
    while pending:
        pid = pending.pop()
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as command:
            found[pid] = command.read().replace(b"\0", b" ").decode(errors="replace")[:200]
            pending += children_of(pid)
    return found


def owned_descriptors():
    """Return the numbers of the descriptors that the package owns in this process."""
    return descriptors._owned


def owned_objects():
    """Return the sockets and other objects with descriptors that the package owns in this process, by key."""
    return dict(descriptors._objects)


def _descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    # The pipe of Python's resource tracker is opened with the first shared memory, and remains open.
    from multiprocessing import resource_tracker

    found.pop(resource_tracker._resource_tracker._fd, None)
    return found


def _segments():
    """Return the files in /dev/shm; its folders belong to tests that run at the same time."""
    if not os.path.isdir("/dev/shm"):
        return set()
    with os.scandir("/dev/shm") as entries:
        return {entry.name for entry in entries if not entry.name.startswith("sem.") and not entry.is_dir()}


def mappings_of(pid):
    """Return the number of mpqueue's shared memory mappings in a process."""
    with open(f"/proc/{pid}/maps", "rb") as maps:
        text = maps.read()
    return text.count(b"/dev/shm/#") + text.count(b"/dev/shm/psm_") + text.count(b"/memfd:mpqueue")


def pid_of(fork_server):
    """Return the process id of a fork server."""
    return fork_server._process.pid


class Footprint:
    """The resources of this process that could leak.

    Args:
        parked: Fork servers that the next test may reuse. They and their two descriptors are not counted.
        has_mappings: Whether to count mappings of shared memory. With torch and pandas loaded, reading them takes 2 ms.
    """

    def __init__(self, parked=(), *, has_mappings=True):
        descendants = _descendants()
        for fork_server in parked:
            descendants.pop(pid_of(fork_server), None)
        # Python keeps these until the interpreter exits. From 3.14 on, its default context starts both.
        kept = "multiprocessing.resource_tracker", "multiprocessing.forkserver"
        self.processes = {
            pid: text for pid, text in descendants.items() if text and not any(name in text for name in kept)
        }
        self.zombies = {pid for pid, text in descendants.items() if not text}
        # A dummy represents a thread that Python did not start (TensorFlow's). Python does not notice when it ends.
        own = [thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)]
        self.threads = {thread.ident: thread.name for thread in own}
        self.descriptors, self.segments = _descriptors(), _segments()
        self.mappings = mappings_of("self") if has_mappings else 0
        # Processes that later tests start would inherit blocked signals, so Ctrl-C would never reach them.
        self.signals_kept_out = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        for fork_server in parked:
            del self.descriptors[fork_server.fileno()], self.descriptors[fork_server._lifeline]

    def left_since(self, before):
        left = {
            "processes": {k: v for k, v in self.processes.items() if k not in before.processes},
            "zombies": self.zombies - before.zombies,
            "threads": {k: v for k, v in self.threads.items() if k not in before.threads},
            "descriptors": {k: v for k, v in self.descriptors.items() if before.descriptors.get(k) != v},
            "segments": self.segments - before.segments,
            "mappings": max(0, self.mappings - before.mappings),
            "signals kept out": self.signals_kept_out - before.signals_kept_out,
        }
        return {kind: things for kind, things in left.items() if things}


def left_behind(look, before):
    """Return the resources that a test leaked. Wait for resources that end by themselves, such as a killed child."""
    lasting = left = None

    def is_gone():
        nonlocal lasting, left
        left = look().left_since(before)
        segments = left.pop("segments", set())
        lasting = segments if lasting is None else lasting & segments  # other programs create and remove segments, too
        if lasting:
            left["segments"] = lasting
        if left:
            gc.collect()
        return not left

    comes_true(is_gone, DEADLOCK_S / 4)
    return left
