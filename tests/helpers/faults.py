"""Named kinds of faults, and fuses that make a fault happen once."""

import ctypes
import os
import signal
import sys
import threading

import numpy as np

from helpers.forked_calls import fork_of
from helpers.waits import until


class Unpicklable(Exception):
    """An exception that cannot be pickled."""

    def __init__(self):
        super().__init__("unpicklable")
        self.lock = threading.Lock()


class Ununpicklable(Exception):
    """An exception that can be pickled but not unpickled, because its constructor has other arguments."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class Unspeakable(Exception):
    """An exception with a ``str`` and a ``repr`` that raise."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def _raise(error):
    raise error


def _signal(number):
    os.kill(os.getpid(), number)
    threading.Event().wait()  # only reached after SIGSTOP: other signals to the own process are delivered before this line


def _stop_and_continue():
    """Stop this process. A forked child observes that and continues it."""
    me = os.getpid()

    def is_stopped():
        return open(f"/proc/{me}/stat").read().rpartition(")")[2].split()[0] == "T"

    child = fork_of(lambda: until(is_stopped, "the process does not stop") or os.kill(me, signal.SIGCONT))
    os.kill(me, signal.SIGSTOP)
    os.waitpid(child, 0)


released = threading.Event()  # ends loops in threads of the test's own process, which cannot be killed


def _loop():
    while not released.is_set():
        pass


KINDS = {  # functions that cause the fault in the calling process
    "raise": lambda: _raise(ValueError("a bad record")),
    "memory-error": lambda: _raise(MemoryError("too big")),
    "unpicklable": lambda: _raise(Unpicklable()),
    "ununpicklable": lambda: _raise(Ununpicklable(1, 2)),
    "unspeakable": lambda: _raise(Unspeakable()),
    "sys-exit": lambda: sys.exit(3),
    "exit-0": lambda: os._exit(0),
    "exit-1": lambda: os._exit(1),
    "sigkill": lambda: _signal(signal.SIGKILL),
    "sigsegv": lambda: ctypes.string_at(0),
    "sigabrt": os.abort,
    "sigterm": lambda: _signal(signal.SIGTERM),
    "sigstop-sigcont": _stop_and_continue,
    "sigstop": lambda: _signal(signal.SIGSTOP),
    "endless-loop": _loop,
}


class Fault:
    """A callable that causes a fault, either on each call or only on the first call in any process.

    Args:
        kind: One of `KINDS`.
        fuse: Path of a file that does not exist yet, for a fault that happens once; None for always.
        hanging: A `helpers.declared_hangs.DeclaredHangs` that records each fault, or None.
    """

    def __init__(self, kind, fuse=None, hanging=None):
        self.kind, self.fuse, self.hanging = kind, None if fuse is None else str(fuse), hanging

    def __call__(self):
        if self.fuse is None or burns(self.fuse):
            if self.hanging is not None:
                self.hanging.declare()
            KINDS[self.kind]()


def burns(path):
    """Return True on the first call with this path in any process."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


class Numbers:
    """A source with i in all of batch i."""

    def __init__(self, length=8):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return np.full(64, index)


class Growing(Numbers):
    """A source that changes with each epoch."""

    epoch = 0

    def __getitem__(self, index):
        return super().__getitem__(100 * self.epoch + index)

    def on_epoch_end(self):
        self.epoch += 1


class StrikesAt(Numbers):
    """A source that causes a fault before it computes one index."""

    def __init__(self, fault, at=3, length=8):
        super().__init__(length)
        self.fault, self.at = fault, at

    def __getitem__(self, index):
        if index == self.at:
            self.fault()
        return super().__getitem__(index)


class StrikesWhenUnpickled(Numbers):
    """A source that causes a fault when it is unpickled, in the fork server or in a worker."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.fault()


def numbers(batches, count):
    """Return the numbers of the next batches, after checking that each batch is intact."""
    found = []
    for _ in range(count):
        batch = next(batches)
        assert (batch == batch[0]).all()
        found.append(int(batch[0]))
    return found
