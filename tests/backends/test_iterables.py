"""Iterators, which no second worker can continue, and iterables that are resumed exactly."""

import os
import pickle
import random
import signal

import psutil
import pytest
from helpers.gates import Gate, pass_gate

import mpqueue
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


LENGTH = 300


class Shuffled:
    """Counts its epochs in ``__iter__``, and so begins another epoch after a load."""

    def __init__(self):
        self.epoch, self.at = 0, 0

    def __iter__(self):
        self.epoch += 1
        order = random.Random(self.epoch).sample(range(LENGTH), LENGTH)
        info = mpqueue.worker_info()
        order = order if info is None else order[info.shard_id :: info.num_shards]
        while self.at < len(order):
            self.at += 1
            yield order[self.at - 1]
        self.at = 0

    def state_dict(self):
        return {"epoch": self.epoch, "at": self.at}

    def load_state_dict(self, state):
        self.epoch, self.at = state["epoch"], state["at"]


@pytest.mark.sample(1)
@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "make",
    [lambda: Shuffled().__iter__, lambda: Shuffled, lambda: mpqueue.Dataset(Shuffled())],
    ids=["method", "function", "dataset"],
)
def test_resumed_epoch_has_the_rest_of_its_order(make, workers):
    options = {"workers": workers, "seed": 1, "lanes": 2, "start_method": "fork"}
    with mpqueue.Loader(make(), **options) as loader:
        batches = iter(loader)
        before = [next(batches) for _ in range(LENGTH // 2)]
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        rest = list(batches)
    assert sorted(before + rest) == list(range(LENGTH))
    with mpqueue.Loader(make(), **options) as loader:
        loader.load_state_dict(state)
        assert list(loader) == rest
