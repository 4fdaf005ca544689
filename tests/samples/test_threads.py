"""`threads=n`: a worker computes the samples of a batch in n threads, and the stream is the same as with one."""

import os
import random
import signal
import sys
import threading

import numpy as np
import pytest
from helpers.declared_hangs import TIMEOUT_S, DeclaredHangs, judge_by
from helpers.footprint import DEADLOCK_S
from helpers.loader_runs import batches_of, plain

import mpqueue
from mpqueue import Dataset, Loader
from mpqueue.errors import BatchTimeout, WorkerRaised
from mpqueue.worker.concurrency.helper_threads import THREAD_NAME, Helpers

pytestmark = pytest.mark.sample(2)

backends = pytest.mark.parametrize(("workers", "backend"), [(0, "process"), (2, "process"), (2, "thread")])


class Samples:
    """A source with samples of a number and an array that is large enough for its own row."""

    def __init__(self, length=16):
        self.length, self.barriers = length, {}

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.at_work(index)
        return index, np.full(2000, index)

    def at_work(self, index):
        pass

    def meet(self, name, parties):
        """Wait until this number of threads has called this with the same name."""
        self.barriers.setdefault(name, threading.Barrier(parties)).wait(DEADLOCK_S)


def indices(batches):
    """Return the indices of batches, and check their arrays."""
    found = []
    for numbers, arrays in batches:
        assert (arrays == numbers[:, None]).all()
        found.append(numbers.tolist())
    return found


def by(size, length=16):
    return [list(range(first, first + size)) for first in range(0, length, size)]


class Meeting(Samples):
    """A source with samples that wait until four of them run at once."""

    def at_work(self, index):
        self.meet(index // 4, 4)


@backends
def test_n_samples_are_computed_at_once_and_collated_in_order(workers, backend):
    with Loader(Meeting(), batch_size=8, workers=workers, backend=backend, threads=4) as loader:
        assert [indices(loader) for _ in range(2)] == [by(8)] * 2


class Draws(Samples):
    def __getitem__(self, index):
        info = mpqueue.worker_info()
        own = mpqueue.empty(1024)
        own.fill(index)
        return index, mpqueue.rng().random(3), info.num_workers, info.seed, own


class Failing(Samples):
    """A source with samples that raise when the whole first batch is running."""

    bad = (3, 5)

    def __init__(self, error):
        super().__init__()
        self.error = error

    def at_work(self, index):
        if index < 8:
            self.meet(0, 8)
        if index in self.bad:
            raise self.error


class FailsTogether(Failing):
    """A source that checks in its second batch that the first one is done."""

    bad = (3,)

    def __init__(self, error):
        super().__init__(error)
        self.done = []

    def at_work(self, index):
        super().at_work(index)
        assert index < 8 or len(self.done) >= 7, "a sample of the previous batch is still running"
        self.done.append(index)


@pytest.mark.parametrize(("workers", "backend"), [(0, "process"), (1, "process"), (1, "thread")])
def test_error_replaces_batch_after_its_other_samples_are_done(workers, backend):
    source = FailsTogether(OSError("cannot be read"))
    with Loader(source, batch_size=8, workers=workers, backend=backend, threads=8) as loader:
        batches = iter(loader)
        with pytest.raises(OSError, match="cannot be read") as caught:
            next(batches)
        assert "the sample of index 3, at place 3 of the epoch" in caught.value.__notes__
        assert indices(batches) == [list(range(8, 16))]


@pytest.mark.parametrize(
    ("workers", "backend", "error", "kind", "text"),
    [
        (0, "process", SystemExit(3), WorkerRaised, "SystemExit: 3"),
        (2, "process", SystemExit(3), WorkerRaised, "SystemExit: 3"),
        (2, "process", StopIteration(), RuntimeError, "StopIteration"),
        (2, "thread", StopIteration(), RuntimeError, "StopIteration"),
    ],
)
def test_error_in_thread_is_the_same_as_with_one_thread(workers, backend, error, kind, text):
    with Loader(Failing(error), batch_size=8, workers=workers, backend=backend, threads=8) as loader:
        batches = iter(loader)
        with pytest.raises(kind, match=text):
            next(batches)
        assert indices(batches) == [list(range(8, 16))]


class Parts(Samples):
    """A source that returns samples when four parts of a batch are requested at once."""

    thread_safe = True

    def __getitems__(self, asked):
        self.meet(asked[0] // 8, 4)
        return [(index, np.full(2000, index)) for index in asked]


@backends
def test_getitems_is_called_for_part_of_batch_in_each_thread(workers, backend):
    with Loader(Parts(), batch_size=8, workers=workers, backend=backend, threads=4) as loader:
        assert indices(loader) == by(8)


class Unsaid(Parts):
    thread_safe = None


class Unsafe(Samples):
    thread_safe = False


def numbers():
    yield from range(3)


@pytest.mark.parametrize(
    ("source", "options", "kind", "text"),
    [
        (Samples(), {"threads": 0}, ValueError, "threads must be 1"),
        (Samples(), {"threads": 2.5}, TypeError, r"threads must be an integer, got 2\.5"),
        (Samples(), {"threads": True}, TypeError, "threads must be an integer, got True"),
        (Samples(), {"threads": 2, "batch_size": None}, ValueError, "threads=2 .* pass batch_size"),
        (Unsafe(), {"threads": 2}, ValueError, "threads=2 needs .*Unsafe.thread_safe is False: use more workers"),
        (Dataset(Unsafe()).shuffle(), {"threads": 2}, ValueError, "threads=2 needs .*Unsafe.thread_safe is False"),
        (Unsaid(), {"threads": 2}, ValueError, "Unsaid has __getitems__.*thread_safe = True"),
        (Dataset(Unsaid()), {"threads": 2}, ValueError, "Unsaid has __getitems__.*thread_safe = True"),
        (numbers, {"threads": 2}, ValueError, "threads=2 .* is a stream.*map"),
        (Dataset.range(9).filter(bool), {"threads": 2}, ValueError, r"a stream.*map\(function, threads=n\)"),
    ],
)
def test_invalid_threads_raise_before_workers_start(source, options, kind, text):
    with pytest.raises(kind, match=text):
        Loader(source, **{"batch_size": 2, **options})


def test_source_without_thread_support_uses_one_thread():
    for source in (Unsafe(), Unsaid()):
        source.barriers = {number: threading.Barrier(1) for number in range(2)}
        with Loader(source, batch_size=8, workers=0) as loader:
            assert indices(loader) == by(8)


class Ahead(Samples):
    """A source with a sample 0 that waits for the last sample that may start before sample 0 is done."""

    def __init__(self):
        super().__init__()
        self.requested, self.is_last_begun = [], threading.Event()

    def at_work(self, index):
        self.requested.append(index)
        if index == 7:
            self.is_last_begun.set()
        if index == 0:
            assert self.is_last_begun.wait(DEADLOCK_S)
            assert set(self.requested) == set(range(8))


def test_at_most_four_samples_per_thread_are_begun_early():
    with Loader(Ahead(), batch_size=16, workers=0, threads=2) as loader:
        assert indices(loader) == by(16)


class Hanging(Samples):
    def __init__(self, hanging):
        super().__init__()
        self.hanging = hanging

    def at_work(self, index):
        if index == 10:
            self.hangs_in_a_helper()

    def hangs_in_a_helper(self):
        self.hanging.declare()
        threading.Event().wait()


def test_hanging_sample_is_timeout_with_stack_of_thread(tmp_path, monkeypatch):
    hanging = DeclaredHangs(tmp_path / "hanging")
    judge_by(hanging, monkeypatch)
    options = {"batch_timeout": TIMEOUT_S, "restarts": 0, "workers": 1, "threads": 4}
    with Loader(Hanging(hanging), batch_size=4, **options) as loader:
        batches = iter(loader)
        assert indices([next(batches), next(batches)]) == by(4)[:2]
        with pytest.raises(BatchTimeout) as caught:
            next(batches)
        assert "hangs_in_a_helper" in caught.value.stack
        assert indices(batches) == by(4)[3:]


class Forks(Samples):
    """A source with samples computed by forked children, which exit in different ways."""

    def __getitem__(self, index):
        child = os.fork()
        if child == 0:
            if index % 3 == 0:
                return None
            if index % 3 == 1:
                sys.exit(7)
            sys.stderr = open(os.devnull, "w")
            raise ValueError("of the child")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_child_forked_in_thread_exits_with_its_sample(backend):
    assert batches_of(Forks(6), batch_size=6, workers=1, backend=backend, threads=2) == [[0, 7, 1, 0, 7, 1]]


class Shared(Samples):
    def __getitem__(self, index):
        return float(np.random.random()), random.random()


@pytest.mark.parametrize("seed", [None, 3])
def test_draws_from_shared_generators_warn_once(caplog, seed):
    with Loader(Shared(), batch_size=4, workers=0, seed=seed, threads=2) as loader:
        for _ in range(2):
            list(loader)
    messages = [record.getMessage() for record in caplog.records if "threads=2" in record.getMessage()]
    assert len(messages) == (seed is not None)
    assert all("Python's random and numpy.random drew numbers" in text for text in messages)
    caplog.clear()
    batches_of(Draws(), batch_size=4, workers=0, seed=seed, threads=2)
    assert not caplog.records


def test_workers_draw_different_numbers_from_shared_generators():
    with Loader(Shared(400), batch_size=40, workers=2, seed=3, threads=4) as loader:
        pairs = {pair for batch in loader for pair in zip(*plain(batch), strict=True)}
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == 400


class Struck(Samples):
    """A source with a sample 2 that sends Ctrl-C to the waiting thread once, and then waits until the test ends."""

    def __init__(self):
        super().__init__()
        self.strikes, self.is_over = [1], threading.Event()

    def at_work(self, index):
        if index == 2 and self.strikes:
            self.strikes.pop()
            # Not to this thread: the waiting thread might notice it only when it runs again.
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert self.is_over.wait(DEADLOCK_S)


def test_ctrl_c_does_not_wait_for_threads_and_loses_no_batch():
    source = Struck()
    with Loader(source, batch_size=8, workers=0, threads=2) as loader:
        with pytest.raises(KeyboardInterrupt):
            list(loader)
        assert indices(loader) == by(8)
        source.is_over.set()


@pytest.mark.parametrize("workers", [0, 1])
def test_threads_end_with_loader_even_if_error_is_kept(workers):
    def helpers():
        return [thread for thread in threading.enumerate() if thread.name.startswith("mpqueue-helper")]

    source = Failing(ValueError("kept, with the frames of the worker"))
    with Loader(source, batch_size=8, workers=workers, backend="thread", threads=8) as loader:
        with pytest.raises(ValueError, match="kept"):
            list(loader)
        assert len(helpers()) == 8
    for thread in helpers():
        thread.join(DEADLOCK_S)
    assert not helpers()


def test_dropped_threads_end():
    before = threading.active_count()
    helpers = [Helpers(2)]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]
    helpers.clear()
    for thread in threads:
        thread.join(DEADLOCK_S)
    assert threading.active_count() == before
