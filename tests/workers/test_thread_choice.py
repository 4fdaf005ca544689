"""Helper threads or the worker's own thread: measurements decide, and the batches are the same either way."""

import random
import threading

import numpy as np
import pytest
from helpers.footprint import DEADLOCK_S

import mpqueue
from mpqueue import Loader
from mpqueue.worker import thread_choice
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.helper_threads import Helpers, InOrder
from mpqueue.worker.thread_choice import ThreadChoice

THREADS, ALONE = "threads", "alone"


class Machine:
    """Clocks of a worker, advanced by the duration of each batch."""

    def __init__(self, monkeypatch, cpus=2):
        self.now = self.cpu = self.queued = 0
        monkeypatch.setattr(thread_choice, "clock_ns", lambda: self.now)
        monkeypatch.setattr(thread_choice, "thread_ns", lambda: self.cpu)
        monkeypatch.setattr(thread_choice, "process_ns", lambda: self.cpu)
        monkeypatch.setattr(thread_choice, "queued_ns", lambda: self.queued)
        monkeypatch.setattr(thread_choice, "useful_workers", lambda: cpus)

    def ways(self, choice, batches, by_threads, alone, **options):
        """Return how each of these batches was computed, with (time, CPU time, queueing time) for both ways."""
        return [self.way(choice, by_threads, alone, **options) for _ in range(batches)]

    def way(self, choice, by_threads, alone, *, was_alone=True):
        patience_s = choice.begin(10)
        took = by_threads if patience_s is None else alone
        self.now, self.cpu, self.queued = self.now + took[0], self.cpu + took[1], self.queued + took[2]
        choice.end(10, was_alone=patience_s is not None and was_alone)
        return THREADS if patience_s is None else ALONE


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def of(workers):
    return ThreadChoice(WorkerInfo(0, workers, 0))


FIRST = [THREADS] * 4


# By case: number of workers, (time, CPU time, queueing time) of a batch by threads and alone, and the numbers of the
# batches that are computed alone.
CASES = {
    "samples do not wait": (2, (1100, 1100, 0), (1000, 1000, 0), range(4, 100)),
    "queueing for a CPU is not waiting": (2, (1100, 1100, 900), (3000, 1000, 1950), range(4, 100)),
    "samples wait: tried ever more rarely": (2, (1000, 900, 0), (2000, 900, 0), [4, 13, 30, 63]),
    "samples hardly use a CPU": (2, (1000, 200, 0), None, []),
    "CPUs are free, and threads are faster": (1, (600, 1100, 0), (1000, 1000, 0), [4, 13, 30, 63]),
}


@pytest.mark.parametrize("name", CASES)
def test_measurements_decide_which_batches_are_computed_alone(name, machine):
    num_workers, by_threads, alone, expected = CASES[name]
    ways = machine.ways(of(num_workers), 100, by_threads, alone)
    assert [number for number, way in enumerate(ways) if way == ALONE] == [*expected]


def test_worker_that_computes_alone_for_long_uses_threads_again(machine):
    choice = of(2)
    ways = machine.ways(choice, 5, (1100, 1100, 0), (1000, 1000, 0), was_alone=False)
    assert [*ways, *machine.ways(choice, 9, (1100, 1100, 0), (1000, 1000, 0))] == [*FIRST, ALONE, *[THREADS] * 8, ALONE]


def test_samples_that_start_to_wait_get_threads_again(machine):
    choice = of(2)
    assert machine.ways(choice, 6, (1100, 1100, 0), (1000, 1000, 0)) == [*FIRST, ALONE, ALONE]
    assert machine.ways(choice, 3, (1100, 1100, 0), (3000, 1000, 0)) == [ALONE, ALONE, THREADS]


def test_threads_are_tried_again_if_cpus_are_free(machine):
    choice = of(1)
    ways = machine.ways(choice, 68, by_threads=(1100, 1100, 0), alone=(1000, 1000, 0))
    assert ways == FIRST + [ALONE] * 64
    assert machine.ways(choice, 6, (600, 1100, 0), (1000, 1000, 0)) == [*FIRST, ALONE, THREADS]


def test_threads_compute_everything_in_the_trainer(machine):
    assert set(machine.ways(ThreadChoice(None), 100, by_threads=(1100, 1100, 0), alone=None)) == {THREADS}


def be_alone(patience_s=DEADLOCK_S):
    """Return a worker_init that makes the worker compute its batches alone, for the given time."""

    def begin(choice, count, is_begun):
        assert not is_begun
        return patience_s

    def patch():
        ThreadChoice.begin, ThreadChoice.end = begin, lambda choice, count, was_alone: None
        ThreadChoice.is_settled = False

    return patch


class Samples:
    """Samples that record their thread, and draw numbers."""

    broken = ()

    def __init__(self, length=22):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.broken:
            raise ValueError(f"broken {index}")
        info = mpqueue.worker_info()
        own = mpqueue.empty(1024)
        own.fill(index)
        return index, mpqueue.rng().random(3), info.num_workers, info.seed, own


class Whose(Samples):
    def __getitem__(self, index):
        return threading.current_thread() is threading.main_thread()


class Broken(Samples):
    broken = (3, 5)


class Meeting(Samples):
    """Samples that finish when four are being computed at once."""

    def __init__(self):
        super().__init__(16)
        self.barriers = {}

    def __getitem__(self, index):
        self.barriers.setdefault(index // 4, threading.Barrier(4)).wait(DEADLOCK_S)
        return index


def plain(value):
    if isinstance(value, Loader | list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def taken(source, epochs=2, **options):
    with Loader(source, **{"batch_size": 5, "shuffle": True, "seed": 5, "workers": 2} | options) as loader:
        return [plain(loader) for _ in range(epochs)], loader.statistics()


def test_worker_that_is_alone_computes_in_its_own_thread():
    ((batches,), _) = taken(Whose(), 1, threads=3, worker_init=be_alone())
    assert {one for batch in batches for one in batch} == {True}


@pytest.mark.parametrize("collate", [None, list], ids=["joined", "listed"])
def test_order_numbers_and_memory_of_samples_are_the_same_as_with_threads(collate):
    one, alone, by_threads = (
        taken(Samples(), collate=collate, **options)[0]
        for options in ({}, {"threads": 3, "worker_init": be_alone()}, {"threads": 3})
    )
    assert one == alone == by_threads


def test_error_has_its_position_and_note():
    with Loader(Broken(), batch_size=5, workers=1, threads=3, worker_init=be_alone()) as loader:
        batches = iter(loader)
        with pytest.raises(ValueError, match="broken 3") as caught:
            next(batches)
        assert "the sample of index 3, at place 3 of the epoch" in caught.value.__notes__
        with pytest.raises(ValueError, match="broken 5"):
            next(batches)
        assert next(batches)[0].tolist() == [10, 11, 12, 13, 14]


class Draws(Samples):
    def __getitem__(self, index):
        return float(np.random.random()), random.random()


def test_shared_generators_are_seeded_for_each_batch():
    one, other = (taken(Draws(), threads=3, worker_init=be_alone())[0] for _ in range(2))
    assert one == other


def test_samples_that_wait_for_each_other_do_not_hang():
    ((batches, again), _) = taken(Meeting(), batch_size=8, threads=4, shuffle=False, worker_init=be_alone(0.001))
    assert batches == again == [list(range(8)), list(range(8, 16))]


def test_no_call_is_taken_while_threads_join_in():
    """The worker's thread waits for the thread that passes calls to the helpers, so results remain in order."""
    has_come_in, may_go_on, has_asked = threading.Event(), threading.Event(), threading.Event()

    def arguments():
        yield (0,)
        has_come_in.set()
        assert may_go_on.wait(DEADLOCK_S)
        yield from ((number,) for number in range(1, 6))

    def call(number):
        if number == 0:
            assert has_come_in.wait(DEADLOCK_S)
        return number

    class Asked:
        """A lock that reports when the worker's thread waits for it."""

        def __init__(self, lock):
            self.lock, self.of = lock, threading.current_thread()

        def __enter__(self):
            if has_come_in.is_set() and threading.current_thread() is not self.of:
                has_asked.set()
            return self.lock.__enter__()

        def __exit__(self, *args):
            return self.lock.__exit__(*args)

    found = []

    def run():
        try:
            found.extend(calls.next() for _ in range(6))
        finally:
            has_asked.set()  # also if it ignored the lock, and failed

    helpers = Helpers(2)
    with InOrder(helpers, call, arguments(), patience_s=0.001) as calls:
        calls._lock = Asked(calls._lock)
        worker = threading.Thread(target=run)
        worker.start()
        assert has_asked.wait(DEADLOCK_S)
        may_go_on.set()
        worker.join(DEADLOCK_S)
    helpers.dismiss()
    assert found == list(range(6))
