"""Threads of a worker begin the next batches early, and the batches are unchanged."""

import itertools
import os
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.faults import burns
from helpers.footprint import DEADLOCK_S

from mpqueue import Loader
from mpqueue.backends.processes.handle import Work, WorkerHandle
from mpqueue.backends.processes.pool import WorkerPool
from mpqueue.errors import WorkerDied
from mpqueue.plan.options.batching import Batching
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.records import GRANT, MAGIC, GrantKind
from mpqueue.worker.runners.in_flight import InFlightRunner
from mpqueue.worker.runners.runner import RunnerArguments

SIZE = 4


class Samples:
    """A source with samples equal to their index, which are computed after a call of a function."""

    def __init__(self, at_work=lambda index: None):
        self.at_work = at_work

    def __len__(self):
        return 24

    def __getitem__(self, index):
        self.at_work(index)
        return index


def batch(number):
    return list(range(SIZE * number, SIZE * number + SIZE))


def taken(batches):
    return [found.tolist() for found in batches]


class WaitsForTheNext(Samples):
    """A source with a sample of batch 1 that waits until a sample of batch 2 has started."""

    def __init__(self):
        self.events = {}  # created in the worker, because an event cannot be sent

    def at_work(self, index):
        is_begun = self.events.setdefault("is begun", threading.Event())
        if index == 2 * SIZE:
            is_begun.set()
        if index == SIZE:
            assert is_begun.wait(DEADLOCK_S)


def test_samples_of_next_batch_begin_while_one_waits():
    with Loader(WaitsForTheNext(), batch_size=SIZE, workers=1, threads=2, max_queue_size=4) as loader:
        assert taken(loader) == [batch(number) for number in range(6)]


def outcomes(loader):
    """Return the batches, and the index of each batch lost by a worker crash."""
    found, batches = [], iter(loader)
    while True:
        try:
            found.extend(taken([next(batches)]))
        except StopIteration:
            return found
        except WorkerDied as error:
            found.append(error.index)


@pytest.mark.parametrize(("workers", "restarts"), [(1, 0), (1, 3), (2, 1)])
def test_sample_that_kills_early_fails_only_its_batch(workers, restarts):
    def kill(index):
        if index == 3 * SIZE + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with Loader(Samples(kill), batch_size=SIZE, workers=workers, threads=4, restarts=restarts) as loader:
        assert outcomes(loader) == [batch(0), batch(1), batch(2), 3, batch(4), batch(5)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"threads": 2}, [True, True, False, True, True]), ({"threads": 2, "restarts": 0}, []), ({}, [])],
    ids=["threads", "no restarts", "one thread"],
)
def test_workers_finish_each_batch_after_a_crash_until_the_open_ones_are_computed(
    tmp_path, monkeypatch, options, expected
):
    """The second crash must be attributed to the right batch."""
    reported, begin_ahead = [], WorkerHandle.begin_ahead

    def note(worker, *, begins):
        reported.append(begins)
        begin_ahead(worker, begins=begins)

    def kill_once(index):
        if index == SIZE and burns(str(tmp_path / "fuse")):
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(WorkerHandle, "begin_ahead", note)
    with Loader(Samples(kill_once), batch_size=SIZE, workers=2, **options) as loader:
        assert len(outcomes(loader)) == 6
        assert loader.statistics().deaths == 1
    assert reported == expected


class Key:
    """A key for an index that equals no other object; one key cannot be unpickled in a worker."""

    is_met = threading.Event()

    def __init__(self, index, *, is_bad=False):
        self.index, self.is_bad = index, is_bad

    def __setstate__(self, state):
        self.__dict__ |= state
        if self.is_bad:
            Key.is_met.set()
            raise ValueError("no key")


class ByKey(WaitsForTheNext):
    """A source that counts the calls for each sample."""

    def __init__(self):
        super().__init__()
        self.times = dict.fromkeys(range(24), 0)

    def __getitem__(self, key):
        self.times[key.index] += 1
        return super().__getitem__(key.index), self.times[key.index]


def test_unequal_keys_are_begun_once():
    keys = [[Key(index) for index in batch(number)] for number in range(4)]
    with Loader(ByKey(), batch_sampler=keys, workers=1, threads=2, max_queue_size=4) as loader:
        assert [(indices.tolist(), times.tolist()) for indices, times in loader] == [
            (batch(number), [1] * SIZE) for number in range(4)
        ]


class WaitsForTheUnreadable(Samples):
    """A source with a sample of batch 1 that waits until the unreadable key of batch 2 was reached."""

    def __getitem__(self, key):
        if key.index == SIZE:
            assert Key.is_met.wait(DEADLOCK_S)
        return key.index


def test_unreadable_key_raises_its_error_in_place_of_its_batch():
    keys = [[Key(index, is_bad=index == 2 * SIZE) for index in batch(number)] for number in range(4)]
    options = {"threads": 2, "max_queue_size": 4}
    with Loader(WaitsForTheUnreadable(), batch_sampler=keys, workers=1, **options) as loader:
        batches = iter(loader)
        assert taken(itertools.islice(batches, 2)) == [batch(0), batch(1)]
        with pytest.raises(ValueError, match="no key"):
            next(batches)
        assert taken(batches) == [batch(3)]


class Worker:
    """A runner with its calls, and the batches granted to it."""

    def __init__(self, source=None, **options):
        self.requested, self.granted, self.source = [], [], source or Samples()
        self.source.at_work = self.requested.append
        plan = Batching(SIZE, threads=2, **options)
        parts = RunnerArguments(self.source, WorkerInfo(0, 1, 0), lambda *_: None, plan, in_slot=False)
        self.runner = InFlightRunner(parts)
        self.runner.begin_ahead(self.ahead)

    def ahead(self, position):
        return self.granted[position] if position < len(self.granted) else None

    def __enter__(self):
        assert self.run(0, 0) == batch(0)
        self.requested.clear()
        return self

    def __exit__(self, *_):
        self.runner.end()

    def run(self, epoch, index, listed=None):
        return np.asarray(self.runner.run(epoch, index, listed)).tolist()


def test_next_epoch_is_not_begun():
    with Worker() as worker:
        worker.granted = [(1, 0, None)]
        assert worker.run(0, 5) == batch(5)
        assert sorted(worker.requested) == batch(5)


def test_revoked_batch_is_computed_again():
    with Worker() as worker:
        worker.granted = [(0, 2, None), (0, 3, None)]
        assert worker.run(0, 1) == batch(1)
        worker.granted = []
        assert worker.run(0, 4) == batch(4)
        assert worker.run(0, 2) == batch(2)


def test_new_state_of_source_recomputes_begun_samples():
    class Doubled(Samples):
        def __getitem__(self, index):
            return 2 * index

    with Worker() as worker:
        worker.granted = [(0, 2, None)]
        assert worker.run(0, 1) == batch(1)
        worker.runner.load(Doubled())
        assert worker.run(0, 2) == [2 * index for index in batch(2)]


def test_messages_keep_their_place_when_grants_are_taken_back():
    """Otherwise a batch granted after a crash could start early."""
    released = []
    pool = WorkerPool(
        SimpleNamespace(ready={}, is_stream=False), SimpleNamespace(release=released.append), None, None, None
    )
    worker = WorkerHandle(0, 0)
    try:
        for turn in (1, 2):
            worker.in_flight[turn] = Work(turn, turn, None)
        worker.outbox += GRANT.pack(MAGIC, GrantKind.WORK, 0, 1, 0, 0, 0)
        worker.begin_ahead(begins=False)
        worker.outbox += GRANT.pack(MAGIC, GrantKind.WORK, 0, 2, 0, 0, 0)
        worker.flush()
        taken = pool.take_unread(worker, 2)
        worker.flush()
        left = GRANT.iter_unpack(os.read(worker.pipes.unread, 10 * GRANT.size))
        assert [(grant[1], grant[3]) for grant in left] == [(GrantKind.AHEAD, 0)]
        assert released == [work.slot for work in taken] == [1, 2]
    finally:
        worker.pipes.close_worker_ends()
        worker.close()
