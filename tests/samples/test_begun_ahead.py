"""Threads of a worker begin the next batches before their turn, and each batch is what it was."""

import os
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.faults import burns
from helpers.footprint import DEADLOCK_S

from mpqueue import Loader
from mpqueue.errors import WorkerDied
from mpqueue.plan.batching import Batching
from mpqueue.plan.cursors import Listed
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.main import GrantReader
from mpqueue.worker.records import GRANT, MAGIC, GrantKind
from mpqueue.worker.threaded_samples import ThreadedSampleRunner
from mpqueue.workers.handle import Work, WorkerHandle
from mpqueue.workers.pool import WorkerPool

SIZE = 4


class Samples:
    """Each sample is its index; a subclass does something when it is asked for."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        self.at_work(index)
        return index

    def at_work(self, index):
        pass


def batch(number):
    return list(range(SIZE * number, SIZE * number + SIZE))


def taken(batches):
    return [found.tolist() for found in batches]


class WaitsForTheNext(Samples):
    """A sample of batch 1 is there when one of batch 2 is begun."""

    def __init__(self):
        self.events = {}  # in the worker: an event cannot be sent there

    def at_work(self, index):
        is_begun = self.events.setdefault("is begun", threading.Event())
        if index == 2 * SIZE:
            is_begun.set()
        if index == SIZE:
            assert is_begun.wait(DEADLOCK_S)


def test_samples_of_the_next_batch_are_begun_while_one_waits():
    with Loader(WaitsForTheNext(), batch_size=SIZE, workers=1, threads=2, max_queue_size=4) as loader:
        assert taken(loader) == [batch(number) for number in range(6)]


class Deadly(Samples):
    """A sample of batch 3 kills its worker, whenever it is computed."""

    def at_work(self, index):
        if index == 3 * SIZE + 1:
            os.kill(os.getpid(), signal.SIGKILL)


def outcomes(loader):
    """The batches, and the index of each one that its worker's death took away."""
    found, batches = [], iter(loader)
    while True:
        try:
            found.extend(taken([next(batches)]))
        except StopIteration:
            return found
        except WorkerDied as error:
            found.append(error.index)


@pytest.mark.parametrize(("workers", "restarts"), [(1, 0), (1, 3), (2, 1)])
def test_a_sample_that_kills_before_its_turn_costs_its_own_batch_and_no_other(workers, restarts):
    with Loader(Deadly(), batch_size=SIZE, workers=workers, threads=4, restarts=restarts) as loader:
        assert outcomes(loader) == [batch(0), batch(1), batch(2), 3, batch(4), batch(5)]


class KilledOnce(Samples):
    def __init__(self, fuse):
        self.fuse = str(fuse)

    def at_work(self, index):
        if index == SIZE and burns(self.fuse):
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"threads": 2}, [1, 1, 0]), ({"threads": 2, "restarts": 0}, []), ({}, [])],
    ids=["threads", "no restarts", "one thread"],
)
def test_with_the_first_death_workers_end_to_begin_batches_before_their_turn(tmp_path, monkeypatch, options, expected):
    """The second one is to be blamed on the right batch."""
    told, tell = [], WorkerHandle.tell

    def note(worker, kind, unit):
        told.append((kind, unit))
        assert worker.key < 2, "its successor is told nothing"
        tell(worker, kind, unit)

    monkeypatch.setattr(WorkerHandle, "tell", note)
    with Loader(KilledOnce(tmp_path / "fuse"), batch_size=SIZE, workers=2, **options) as loader:
        assert len(outcomes(loader)) == 6
        assert loader.statistics().deaths == 1
    assert told == [(GrantKind.AHEAD, unit) for unit in expected]


class Fails(Samples):
    """All samples of batch 1 raise."""

    def at_work(self, index):
        if index // SIZE == 1:
            raise LookupError(index)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_batch_that_fails_leaves_those_that_are_begun_as_they_are(on_error):
    with Loader(Fails(), batch_size=SIZE, workers=1, threads=2, on_error=on_error) as loader:
        batches = iter(loader)
        assert next(batches).tolist() == batch(0)
        if on_error == "raise":
            with pytest.raises(LookupError, match="4"):
                next(batches)
        assert taken(batches) == [batch(number) for number in range(2, 6)]
        assert loader.statistics().skipped == (SIZE if on_error == "skip" else 0)


class Key:
    """Stands for an index, and equals no other object; one may be unreadable in a worker, which shows there."""

    is_met = threading.Event()

    def __init__(self, index, *, is_bad=False):
        self.index, self.is_bad = index, is_bad

    def __setstate__(self, state):
        self.__dict__ |= state
        if self.is_bad:
            Key.is_met.set()
            raise ValueError("no key")


class ByKey(WaitsForTheNext):
    """Tells how often each sample was asked for."""

    def __init__(self):
        super().__init__()
        self.times = dict.fromkeys(range(24), 0)

    def __getitem__(self, key):
        self.times[key.index] += 1
        return super().__getitem__(key.index), self.times[key.index]


def test_keys_need_not_be_equal_to_be_begun_once():
    keys = [[Key(index) for index in batch(number)] for number in range(4)]
    with Loader(ByKey(), batch_sampler=keys, workers=1, threads=2, max_queue_size=4) as loader:
        assert [(indices.tolist(), times.tolist()) for indices, times in loader] == [
            (batch(number), [1] * SIZE) for number in range(4)
        ]


class WaitsForTheUnreadable(Samples):
    """A sample of batch 1 is there when the key of one of batch 2 was met."""

    def __getitem__(self, key):
        if key.index == SIZE:
            assert Key.is_met.wait(DEADLOCK_S)
        return key.index


def test_a_key_that_cannot_be_read_costs_its_own_batch():
    keys = [[Key(index, is_bad=index == 2 * SIZE) for index in batch(number)] for number in range(4)]
    options = {"threads": 2, "restarts": 1, "max_queue_size": 4}
    with Loader(WaitsForTheUnreadable(), batch_sampler=keys, workers=1, **options) as loader:
        found = outcomes(loader)
    assert [entry for entry in found if type(entry) is list] == [batch(0), batch(1), batch(3)]
    assert len(found) == 4


class Worker:
    """A runner, what it was asked for, and the batches that are granted to it."""

    def __init__(self, source=None, **options):
        self.asked, self.granted, self.source = [], [], source or Samples()
        self.source.at_work = self.asked.append
        plan = Batching(SIZE, threads=2, **options)
        self.runner = ThreadedSampleRunner(self.source, WorkerInfo(0, 1, 0), lambda *_: None, plan, in_slot=False)
        self.runner.begin_ahead(self.ahead)

    def ahead(self, place):
        return self.granted[place] if place < len(self.granted) else None

    def __enter__(self):
        assert self.run(0, 0) == batch(0)
        self.asked.clear()
        return self

    def __exit__(self, *_):
        self.runner.end()

    def run(self, epoch, unit, listed=None):
        return np.asarray(self.runner.run(epoch, unit, listed)).tolist()


def test_it_is_asked_for_as_many_samples_as_may_wait():
    with Worker() as worker:
        worker.granted = [(0, 2, None), (0, 3, None), (0, 4, None)]
        assert worker.run(0, 1) == batch(1)
        for number in (2, 3, 4):
            worker.granted = worker.granted[1:]
            assert worker.run(0, number) == batch(number)
        assert sorted(worker.asked) == list(range(SIZE, 5 * SIZE))  # each once


def test_the_number_of_threads_may_change_before_the_first_batch():
    """The batch that is watched then is the first one to ask for the length of the source."""
    worker = Worker()
    try:
        worker.runner.use_threads(3)
        assert [worker.run(0, number) for number in range(3)] == [batch(number) for number in range(3)]
        assert len(worker.asked) == 3 * SIZE
    finally:
        worker.runner.end()


def test_the_next_epoch_is_not_begun():
    with Worker() as worker:
        worker.granted = [(1, 0, None)]
        assert worker.run(0, 5) == batch(5)
        assert sorted(worker.asked) == batch(5)


def test_what_is_not_granted_after_all_is_computed_anew():
    with Worker() as worker:
        worker.granted = [(0, 2, None), (0, 3, None)]
        assert worker.run(0, 1) == batch(1)
        worker.granted = []
        assert worker.run(0, 4) == batch(4)
        assert worker.run(0, 2) == batch(2)


class AtOnce(Samples):
    """Raises at once for a batch with sample 5, and for that sample."""

    thread_safe = True

    def __getitems__(self, indices):
        if 5 in indices:
            raise LookupError(5)
        return [self[index] for index in indices]


def test_what_is_asked_for_at_once_is_not_begun_one_by_one():
    with Worker(AtOnce(), skips=True) as worker:
        worker.granted = [(0, 2, None)]
        left, skipped, _ = worker.runner.run(0, 1)
        assert (left.tolist(), len(skipped)) == ([4, 6, 7], 1)
        assert not set(worker.asked) & set(batch(2))


def test_as_many_batches_may_be_begun_as_there_are_samples_ahead(monkeypatch):
    monkeypatch.setattr("mpqueue.worker.helper_threads.AHEAD", 2000)
    with Worker() as worker:
        worker.granted = [(0, -1, Listed(8 + place, [place])) for place in range(3000)]
        assert worker.run(0, -1, Listed(4, [9, 8])) == [9, 8]
        assert set(range(2000)) <= set(worker.asked) | {2, 3}


def test_samples_that_are_listed_are_begun_too():
    with Worker() as worker:
        following = Listed(8, [7, 5, 3])
        worker.granted = [(0, -1, following)]
        assert worker.run(0, -1, Listed(4, [9, 8])) == [9, 8]
        worker.granted = []
        assert worker.run(0, -1, following) == [7, 5, 3]
        assert sorted(worker.asked) == [3, 5, 7, 8, 9]


def test_another_state_of_the_source_has_them_computed_anew():
    class Doubled(Samples):
        def __getitem__(self, index):
            return 2 * index

    with Worker() as worker:
        worker.granted = [(0, 2, None)]
        assert worker.run(0, 1) == batch(1)
        worker.runner.load(Doubled())
        assert worker.run(0, 2) == [2 * index for index in batch(2)]


def test_a_worker_that_is_told_begins_none():
    with Worker() as worker:
        worker.runner.begin_ahead(None)
        worker.granted = [(0, 2, None)]
        assert worker.run(0, 1) == batch(1)
        assert sorted(worker.asked) == batch(1)


class Grants:
    """A pipe of grants, and who reads them."""

    def __init__(self):
        self._reading, self._writing = os.pipe()
        self.reader = GrantReader(self._reading)

    def write(self, *units, kind=GrantKind.WORK):
        os.write(self._writing, b"".join(GRANT.pack(MAGIC, kind, 0, 0, unit, 0, 0) for unit in units))

    def foreseen(self, place):
        grant = self.reader.foresee(place)
        return None if grant is None else grant[4]

    def read(self, count=1):
        found = []
        while len(found) < count:
            assert self.reader.read(0)
            found += [grant[4] for grant in self.reader.backlog]
            self.reader.backlog.clear()
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._reading)
        os.close(self._writing)


def test_grants_are_foreseen_in_their_order_and_read_once():
    with Grants() as grants:
        assert grants.foreseen(0) is None
        grants.write(5, 6, 7)
        assert [grants.foreseen(0), grants.foreseen(1), grants.foreseen(1)] == [5, 6, 6]
        assert grants.read(2) == [5, 6]
        assert [grants.foreseen(0), grants.foreseen(1)] == [7, None]
        assert grants.read() == [7]
        grants.write(8)
        assert grants.read() == [8]  # it waits for them again


def test_behind_a_batch_that_was_begun_early_no_more_grants_are_read_than_one():
    """It takes no time in its turn, and those behind it may take long: others are to have them."""
    with Grants() as grants:
        grants.write(5)
        assert grants.foreseen(0) == 5
        assert grants.read() == [5]
        grants.write(6, 7, 8)
        assert grants.reader.read(grants.reader.read_at)
        assert [grant[4] for grant in grants.reader.backlog] == [6]


def test_what_a_worker_is_told_keeps_its_place_where_grants_are_taken_back():
    """Else what is granted behind a death would be begun before its turn."""
    released = []
    pool = WorkerPool(SimpleNamespace(ready={}), SimpleNamespace(release=released.append), None)
    worker = WorkerHandle(0, 0)
    try:
        for turn in (1, 2):
            worker.in_flight[turn] = Work(turn, turn, None)
        worker.outbox += GRANT.pack(MAGIC, GrantKind.WORK, 0, 1, 0, 0, 0)
        worker.tell(GrantKind.AHEAD, 0)
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


def test_those_that_were_read_and_not_served_are_the_next_ones():
    with Grants() as grants:
        grants.write(5)
        assert grants.reader.read(0)
        grants.write(6)
        assert [grants.foreseen(0), grants.foreseen(1)] == [5, 6]


def test_an_answer_to_a_lack_of_memory_leaves_grants_in_their_order():
    with Grants() as grants:
        grants.write(5, 6)
        assert grants.foreseen(0) == 5
        grants.write(0, kind=GrantKind.RETRY)
        assert grants.reader.may_retry()
        assert grants.read(2) == [5, 6]


def test_as_many_grants_are_read_at_once_as_take_a_tenth_of_a_millisecond_and_16_at_most():
    with Grants() as grants:
        grants.write(*range(40))
        reader = grants.reader
        for ns, count in [(0, 1), (0, 16), (10**9, 1), (49_999, 2), (99_999, 2), (400_000, 1)]:  # since the last read
            assert reader.read(reader.read_at + ns)
            assert len(reader.backlog) == count
            reader.backlog.clear()


def test_the_end_of_the_grants_is_seen_when_they_are_read():
    reading, writing = os.pipe()
    reader = GrantReader(reading)
    os.close(writing)
    assert reader.foresee(0) is None
    assert not reader.read(0)
    os.close(reading)
