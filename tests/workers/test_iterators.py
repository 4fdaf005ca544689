"""Iterators as sources: each element is yielded only once, so the worker of an iterator is not replaced."""

import os
import signal

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


def kill_next(gate):
    arrival = gate.arrival()
    os.kill(arrival.pid, signal.SIGKILL)
    arrival.let_go()


def test_iterator_does_not_restart_after_a_crash_of_its_worker():
    with Gate() as gate, Loader(Numbers(gate.address), workers=1, max_queue_size=2) as loader:
        batches = iter(loader)
        gate.arrival().let_go()
        assert next(batches) == 0
        kill_next(gate)
        with pytest.raises(WorkerDied, match="generator object cannot be computed again"):
            next(batches)
        statistics = loader.statistics()
    assert (statistics.deaths, statistics.restarts) == (1, 0)


def test_crash_of_the_fork_server_ends_an_iterator():
    with Gate() as gate, Loader(Numbers(gate.address), workers=1, max_queue_size=2) as loader:
        batches = iter(loader)
        gate.arrival().let_go()
        assert next(batches) == 0
        worker = gate.arrival()
        with open(f"/proc/{worker.pid}/stat", encoding="ascii") as stat:
            fork_server = int(stat.read().rpartition(")")[2].split()[1])
        os.kill(fork_server, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="generator object cannot be computed again"):
            next(batches)
        worker.let_go()
