"""Iterators as sources: each element is yielded only once, so the worker of an iterator is not replaced."""

import os
import signal

import psutil
import pytest
from helpers.gates import Gate, pass_gate

from mpqueue import Loader
from mpqueue.errors import WorkerDied


class Numbers:
    """Counts, and passes a gate before each number."""

    def __init__(self, gate):
        self.gate, self.number = gate, 0

    def __iter__(self):
        return self

    def __next__(self):
        pass_gate(self.gate, self.number)
        self.number += 1
        return self.number - 1


@pytest.mark.parametrize("killed", ["worker", "fork server"])
def test_iterator_does_not_restart_after_a_crash(killed):
    with Gate() as gate, Loader(Numbers(gate.address), workers=1, max_queue_size=2) as loader:
        batches = iter(loader)
        gate.arrival().let_go()
        assert next(batches) == 0
        worker = gate.arrival()
        os.kill(worker.pid if killed == "worker" else psutil.Process(worker.pid).ppid(), signal.SIGKILL)
        with pytest.raises(WorkerDied, match="generator object cannot be computed again"):
            next(batches)
        worker.let_go()
        statistics = loader.statistics()
    assert (statistics.deaths, statistics.restarts) == (1, 0)
