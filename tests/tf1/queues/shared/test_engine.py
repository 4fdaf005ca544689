"""Queues captured by a source reach the workers, whatever start method is used."""

import os
import signal

import numpy as np
import pytest
from helpers.gates import Gate, pass_gate

from mpqueue import FIFOQueue, Loader
from mpqueue.errors import FailedPreconditionError, InvalidArgumentError
from mpqueue.worker import queue_address

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


class Feeder:
    """Enqueues the index of each item."""

    def __init__(self, queue):
        self.queue = queue

    def __len__(self):
        return 20

    def __getitem__(self, index):
        self.queue.enqueue(index)
        return np.array([index])

    def on_epoch_end(self):
        """Without this method, workers would continue into the next epoch."""


class Finder(Feeder):
    """Enqueues the index of each item into a queue that the worker finds by its name."""

    def __init__(self, *args):
        self.args = args

    def __getitem__(self, index):
        self.queue = FIFOQueue(*self.args, shared_name="jobs")
        return super().__getitem__(index)


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_enqueue_into_queue_captured_by_source(method):
    queue = FIFOQueue(100, "int64", [[]])
    with Loader(Feeder(queue), workers=2, start_method=method) as loader:
        assert [int(batch[0]) for batch in loader] == list(range(20))
        assert sorted(queue.dequeue_many(20).tolist()) == list(range(20))


@pytest.mark.sample(1)
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_generators_in_workers_share_elements_of_a_queue(backend):
    queue = FIFOQueue(-1, "int64", [[]])
    queue.enqueue_many(np.arange(50))
    queue.close()

    def source():
        while True:
            yield np.array([queue.dequeue()])

    with Loader(source, workers=2, backend=backend, ordered=False) as loader:
        assert sorted(int(batch[0]) for batch in loader) == list(range(50))


def test_generator_with_queue_is_restarted_after_worker_crash():
    """It is not replayed: elements it had taken were consumed, and the remaining ones must not be skipped."""
    queue = FIFOQueue(-1, "int64", [[]])
    queue.enqueue_many(np.arange(10))
    queue.close()
    with Gate() as gate:
        address = gate.address

        def source():
            while True:
                value = int(queue.dequeue())
                if value == 5:
                    pass_gate(address)
                yield np.array([value])

        with Loader(source, workers=1) as loader:
            batches = iter(loader)
            got = [int(next(batches)[0]) for _ in range(5)]
            gate.arrival().kill()
            got += [int(batch[0]) for batch in batches]
    assert got == [0, 1, 2, 3, 4, 6, 7, 8, 9]


@pytest.mark.sample(1)
@pytest.mark.parametrize("creator", ["trainer", "worker"])
def test_shared_name_is_one_queue_in_trainer_and_workers(creator):
    early = FIFOQueue(30, "int64", [[]], shared_name="jobs" if creator == "trainer" else "others")
    with Loader(Finder(30, "int64", [[]]), workers=2) as loader:
        assert len(list(loader)) == 20
        found = FIFOQueue(30, "int64", [[]], shared_name="jobs")
        assert sorted(found.dequeue_many(20).tolist()) == list(range(20))
    assert early.size() == 0


def test_conflicting_shared_queue_is_rejected_in_worker():
    queue, source = FIFOQueue(30, "int64", [[]], shared_name="jobs"), Finder(31, "int64", [[]])
    with Loader(source, workers=1) as loader, pytest.raises(InvalidArgumentError, match="capacity 30, got 31"):
        next(iter(loader))
    assert queue.size() == 0


def test_shared_name_without_trainer_queue_is_rejected(monkeypatch):
    monkeypatch.setattr(queue_address, "provider", lambda: None)  # queues of other tests may still exist
    source = Finder(31, "int64")
    with Loader(source, workers=1) as loader, pytest.raises(FailedPreconditionError, match="before the workers"):
        next(iter(loader))


def test_stopping_loader_ends_workers_blocked_in_queue():
    queue = FIFOQueue(1, "int64", [[]])
    with Loader(Feeder(queue), workers=1) as loader:
        next(iter(loader))
    assert queue.size() == 1


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["forkserver", "fork"])  # a worker of "spawn" is a child of the trainer, too
def test_process_id_of_ended_worker_is_removed_from_queue_users(method):
    """A later worker may get the same id. Its stream would be restarted after a crash, and yield elements twice."""
    queue = FIFOQueue(100, "int64", [[]])
    with Loader(Feeder(queue), workers=1, start_method=method) as loader:
        batches = iter(loader)
        next(batches)
        (worker,) = loader.statistics().workers
        assert worker.pid in queue_address.users
        os.kill(worker.pid, signal.SIGKILL)
        assert len(list(batches)) == 19
        assert worker.pid not in queue_address.users
        (successor,) = loader.statistics().workers
    assert successor.pid not in queue_address.users
