"""A source and a `worker_init` that cause a fault at a chosen place.

Places without user code are reached through `worker_init`, which wraps the engine's system calls in the worker process.
Idle workers are reached by a signal handler.
"""

import functools
import os
import signal
import types

import numpy as np

import mpqueue
from helpers.fault_table import AT, LENGTH
from helpers.faults import Numbers
from helpers.gates import pass_gate


class StrikesWhenPickled:
    """A value that causes a fault when it is pickled, and is unpickled as the batch of an index."""

    def __init__(self, fault, index):
        self.fault, self.index = fault, index

    def __reduce__(self):
        self.fault()
        return np.full, (64, self.index)


class Telling(Exception):
    """An exception that causes a fault when it is pickled."""

    def __init__(self, fault):
        super().__init__("a bad record")
        self.fault = fault

    def __reduce__(self):
        self.fault()
        return Telling, (self.fault,)


class Faulty(Numbers):
    """A source that fills batch i with i, and causes a fault at index `AT`.

    Args:
        place: One of the places in `helpers/fault_table.py`.
        fault: The fault.
        gate: Address of a gate that is passed before the fault, for places that the test synchronizes with.
    """

    epoch = 0

    def __init__(self, place, fault, gate=None):
        super().__init__(LENGTH)
        self.place, self.fault, self.gate = place, fault, gate
        self.trainer = os.getpid()
        self.latest = -1

    def __getitem__(self, index):
        self.latest = index
        if index == AT:
            if self.place == "before-item":
                self.fault()
            elif self.place == "amid-item":
                return self._struck_amid(index)
            elif self.place == "pickling-batch":
                return StrikesWhenPickled(self.fault, index)
            elif self.place == "pickling-error":
                raise Telling(self.fault)
            elif self.place == "stopping" and self.gate is not None and os.getpid() == self.trainer:
                self.strike_after_gate()
        return np.full(64, 100 * self.epoch + index)

    def _struck_amid(self, index):
        batch = mpqueue.empty(64, int)
        batch[:32] = index
        self.fault()
        batch[32:] = index
        return batch

    def strike_after_gate(self, *_):
        """Pass the gate and cause the fault. Also used as a signal handler."""
        pass_gate(self.gate)
        self.fault()

    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() == self.trainer:
            return
        is_worker, is_new = mpqueue.worker_info() is not None, self.epoch > 0
        if self.place == "unpickling" and not is_new:
            self.fault()
        elif is_new and self.place == ("push-to-worker" if is_worker else "push-to-fork_server"):
            self.fault()


class FaultyEpochs(Faulty):
    """A source that fills batch i of epoch e with 100 e + i.

    Attributes:
        meanwhile: Called once in the trainer, at the end of the first epoch.
    """

    meanwhile = None

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != "meanwhile"}

    def on_epoch_end(self):
        self.epoch += 1
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        if self.place == "on-epoch-end":
            self.fault()


class WorkerInit:
    """A `worker_init` that installs the fault of a source at its place."""

    def __init__(self, source, pid_path):
        self.source, self.pid_path = source, str(pid_path)

    def __call__(self):
        source = self.source
        if source.place == "worker-init":
            source.fault()
        if os.getpid() != source.trainer:
            _WRAPPERS.get(source.place, lambda _: None)(source)
            signal.signal(signal.SIGUSR1, source.strike_after_gate)
            if mpqueue.worker_info().id == 0:
                with open(self.pid_path, "w") as file:
                    file.write(str(os.getpid()))


def _wrap_copy(source):
    from mpqueue.memory.writer import SlotWriter

    place = SlotWriter.place

    def place_half(writer):
        if source.latest == AT:
            writer._segment.memory[writer._offset : writer._offset + 100] = b"\xab" * 100
            source.fault()
        return place(writer)

    SlotWriter.place = place_half


def _wrap_system(**calls):
    from mpqueue.worker import main as worker_main
    from mpqueue.worker.concurrency import stuck

    worker_main.os = types.SimpleNamespace(**{**vars(os), **calls})
    if "write" in calls:
        worker = stuck.tell.func.__self__  # it has already bound `write`
        worker._put = worker._timing.put = functools.partial(calls["write"], worker._ends.reports)


def _wrap_before_record(source):
    def write(fd, data):
        if source.latest == AT:
            source.fault()
        return os.write(fd, data)

    _wrap_system(write=write)


def _wrap_after_record(source):
    def write(fd, data):
        written = os.write(fd, data)
        if source.latest == AT:
            source.fault()
        return written

    _wrap_system(write=write)


def _wrap_end(source):
    def read(fd, count):
        data = os.read(fd, count)
        if not data:
            source.fault()
        return data

    _wrap_system(read=read)


_WRAPPERS = {
    "amid-copy": _wrap_copy,
    "before-record": _wrap_before_record,
    "after-record": _wrap_after_record,
    "stopping": _wrap_end,
}
