"""Queues that a source captures travel to the workers by themselves, whatever starts them."""

import contextlib
import os
import signal

import numpy as np
import pytest
from tf1.helpers.dequeuing import dequeued_across_a_crash

from mpqueue import FIFOQueue, Loader
from mpqueue.engine import queue_address
from mpqueue.errors import FailedPreconditionError, InvalidArgumentError, OutOfRangeError

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
METHODS = ["forkserver", "fork", "spawn"]


class Feeder:
    """Each item enqueues its index."""

    def __init__(self, queue):
        self.queue = queue

    def __len__(self):
        return 20

    def __getitem__(self, index):
        self.queue.enqueue(index)
        return np.array([index])

    def on_epoch_end(self):
        """Without it, workers would go on into the next epoch."""


@pytest.mark.parametrize("method", METHODS)
def test_workers_enqueue_into_a_queue_that_their_source_captured(method):
    queue = FIFOQueue(100, "int64", [[]])
    with Loader(Feeder(queue), workers=2, start_method=method) as loader:
        assert [int(batch[0]) for batch in loader] == list(range(20))
        assert sorted(queue.dequeue_many(20).tolist()) == list(range(20))


@pytest.mark.parametrize("method", METHODS)
def test_generators_in_workers_share_the_elements_of_a_queue(method):
    queue = FIFOQueue(-1, "int64", [[]])
    queue.enqueue_many(np.arange(50))
    queue.close()

    def source():
        while True:
            yield np.array([queue.dequeue()])

    with Loader(source, workers=2, ordered=False, start_method=method) as loader:
        assert sorted(int(batch[0]) for batch in loader) == list(range(50))


def test_a_generator_that_uses_a_queue_is_called_afresh_after_a_death():
    """Not replayed with skipping: what it had taken is gone from the queue, and the rest must not be skipped."""
    queue = FIFOQueue(-1, "int64", [[]])
    assert dequeued_across_a_crash(queue) == [0, 1, 2, 3, 4, 6, 7, 8, 9]


def test_a_shared_name_is_one_queue_in_the_trainer_and_its_workers():
    queue = FIFOQueue(30, "int64", [[]], shared_name="jobs")

    class Finder:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            FIFOQueue(30, "int64", [[]], shared_name="jobs").enqueue(index)
            return np.array([index])

        def on_epoch_end(self):
            pass

    with Loader(Finder(), workers=2) as loader:
        assert len(list(loader)) == 10
        assert sorted(queue.dequeue_many(10).tolist()) == list(range(10))


def test_a_shared_name_that_a_worker_makes_is_found_by_the_others():
    other = FIFOQueue(1, "int64", shared_name="early")

    class Finder:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            FIFOQueue(30, "int64", [[]], shared_name="late").enqueue(index)
            return np.array([index])

        def on_epoch_end(self):
            pass

    with Loader(Finder(), workers=2) as loader:
        assert len(list(loader)) == 10
        assert FIFOQueue(30, "int64", [[]], shared_name="late").size() == 10
    assert other.size() == 0


def test_another_queue_under_a_shared_name_is_refused_in_a_worker():
    queue = FIFOQueue(30, "int64", [[]], shared_name="jobs")

    class Finder:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            FIFOQueue(31, "int64", [[]], shared_name="jobs")

    with Loader(Finder(), workers=1) as loader, pytest.raises(InvalidArgumentError, match="capacity 30, got 31"):
        next(iter(loader))
    assert queue.size() == 0


def test_a_shared_name_without_a_trainers_queue_is_refused(monkeypatch):
    monkeypatch.setattr(queue_address, "provider", lambda: None)  # queues of other tests may still be around

    class Finder:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            FIFOQueue(31, "int64", shared_name="jobs")

    with Loader(Finder(), workers=1) as loader, pytest.raises(FailedPreconditionError, match="before the workers"):
        next(iter(loader))


def test_a_loader_that_stops_ends_workers_that_are_blocked_in_a_queue():
    queue = FIFOQueue(1, "int64", [[]])
    with Loader(Feeder(queue), workers=1) as loader:
        next(iter(loader))
    assert queue.size() == 1


def test_the_end_of_a_queue_is_the_end_of_a_generator():
    queue = FIFOQueue(5, "int64", [[]])
    queue.close()

    def source():
        yield queue.dequeue()

    with Loader(source, workers=1) as loader:
        assert list(loader) == []
    with pytest.raises(OutOfRangeError):
        queue.dequeue()


@pytest.mark.parametrize("method", METHODS)
def test_the_id_of_a_worker_that_has_ended_is_known_as_a_users_no_more(method):
    """It may be a later worker's, whose stream would be called afresh after its death, and give elements twice."""
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


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_generators_that_share_a_queue_cause_no_warning_about_copies(backend):
    queue = FIFOQueue(4, ["int64"], [()])
    queue.enqueue_many(np.arange(4))
    queue.close()

    def source():
        with contextlib.suppress(OutOfRangeError):
            while True:
                yield queue.dequeue()

    with Loader(source, workers=2, backend=backend) as loader:
        assert sorted(loader) == [0, 1, 2, 3]
