"""The sources that the Keras cases describe: item i is ``100 * epoch + i``, epoch = calls of on_epoch_end so far.

They lie in an importable module, at its top level, so that worker processes find them.
"""

import builtins
import itertools
import threading
import time

import numpy as np

import mpqueue


def item(setup: dict, index: int, value: int):
    """What a source gives at `index`: a value, a pair of arrays, None, or the exception that the case asks for."""
    pause = setup.get("sleep", 0)
    if setup.get("earlier_is_slower"):
        pause *= setup["len"] - index
    time.sleep(pause)
    if name := setup.get("raise_at", {}).get(str(index)):
        raise getattr(builtins, name)(f"item {index}")
    if index in setup.get("none_at", ()):
        return None
    return (np.array([value, value + 0.5]), np.array([value])) if setup.get("pair") else value


class _Counted:
    """Items that differ in each epoch."""

    def __init__(self, setup: dict):
        self.setup = setup
        self.epoch = 0

    def __getitem__(self, index):
        return item(self.setup, index, 100 * self.epoch + index)

    def on_epoch_end(self):
        self.epoch += 1


class Items(_Counted, mpqueue.Sequence):
    """A sequence as programs for the old Keras write it: a subclass with a length."""

    def __len__(self):
        return self.setup["len"]


class Dataset(_Counted):
    """The same items as programs for Keras 3 write them: `num_batches`, None meaning endless, and no Keras class."""

    @property
    def num_batches(self):
        return self.setup["len"]


def count_up(setup: dict):
    """A generator that counts 0, 1, 2, ...; endless where `count` is None."""
    numbers = itertools.count() if setup["count"] is None else range(setup["count"])
    for number in numbers:
        yield item(setup, number, number)


class Locked:
    """An iterator that several threads may read: one at a time."""

    def __init__(self, iterator):
        self._iterator = iterator
        self._lock = threading.Lock()

    def __iter__(self):
        return self

    def __next__(self):
        with self._lock:
            return next(self._iterator)


def generator(setup: dict):
    """The generator object of a case, behind a lock where the case says so."""
    plain = count_up(setup)
    return Locked(plain) if setup.get("locked") else plain
