"""What a process holds that could leak: the proof that a test leaves nothing behind compares it with what was there."""

import contextlib
import gc
import os
import signal
import threading
import time

DEADLOCK_S = 60.0  # passing it means that something hangs; nothing is measured by it


_SLOW_S = 0.002  # of CPU time


def collect():
    """Collect garbage; where that is slow, what is left is not looked at again: it costs 500 ms beside Keras."""
    begun = time.thread_time()
    gc.collect()
    if time.thread_time() - begun > _SLOW_S:
        gc.freeze()


def children_of(pid):
    """Direct children of a process, from its threads' own lists: a scan of all processes would cost more than a test."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as children:
                found += [int(child) for child in children.read().split()]
    return found


def _descendants():
    """All descendants: pid to command line; empty for a zombie."""
    found, pending = {}, children_of("self")
    while pending:
        pid = pending.pop()
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as command:
            found[pid] = command.read().replace(b"\0", b" ").decode(errors="replace")[:200]
            pending += children_of(pid)
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


def mappings_of(pid):
    """How much of our shared memory a process has mapped."""
    with open(f"/proc/{pid}/maps", "rb") as maps:
        text = maps.read()
    return text.count(b"/dev/shm/#") + text.count(b"/dev/shm/psm_") + text.count(b"/memfd:mpqueue")


class Footprint:
    """What a process holds that could leak.

    Args:
        parked: Fork servers that may stay for the next test: each is left out, with its two descriptors.
        has_mappings: Count shared memory that is mapped: beside torch and pandas, a list of all takes 2 ms.
    """

    def __init__(self, parked=(), *, has_mappings=True):
        descendants = _descendants()
        for fork_server in parked:
            descendants.pop(fork_server._process.pid, None)
        # Python's own resource tracker stays for as long as the interpreter.
        self.processes = {pid: text for pid, text in descendants.items() if text and "resource_tracker" not in text}
        self.zombies = {pid for pid, text in descendants.items() if not text}
        # A dummy stands for a thread that Python has not made (TensorFlow's) and does not see the end of.
        own = [thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)]
        self.threads = {thread.ident: thread.name for thread in own}
        self.descriptors, self.segments = _descriptors(), _segments()
        self.mappings = mappings_of("self") if has_mappings else 0
        # What later tests start would inherit them: a program whose Ctrl-C never comes.
        self.signals_kept_out = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        for fork_server in parked:
            del self.descriptors[fork_server._socket.fileno()], self.descriptors[fork_server._lifeline]

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
