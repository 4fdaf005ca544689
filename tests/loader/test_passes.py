"""Calls of Keras 3's fit loop to its enqueuer: passes, epochs within passes, and workers that outlive both."""

import gc
import os
import random
import threading

import numpy as np
import psutil
import pytest
from helpers.gates import Gate, pass_gate

import mpqueue
from mpqueue.frameworks.keras import idle
from mpqueue.frameworks.keras.passes import PassEnqueuer
from mpqueue.plan.options import Options

KINDS = [pytest.param(True, id="processes"), pytest.param(False, id="threads")]


class Marked:
    """A dataset with items (i, state, process, a random number); hooks change the state."""

    def __init__(self, length=4):
        self.num_batches, self.state = length, 0

    def __getitem__(self, index):
        return np.array([index, self.state, os.getpid(), mpqueue.rng().random()])

    def on_epoch_begin(self):
        pass

    def on_epoch_end(self):
        self.state += 1


class Unhooked(Marked):
    on_epoch_begin = on_epoch_end = None


def take(generator, count):
    return np.stack([next(generator) for _ in range(count)])


def indices(generator, count):
    return take(generator, count)[:, 0].astype(int).tolist()


def epoch(enqueuer, generator, count):
    """Run an epoch of `count` steps as Keras does; return the marks of its batches."""
    enqueuer.start()
    marks = take(generator, count)
    enqueuer.stop()
    enqueuer.source.on_epoch_end()
    return marks


@pytest.fixture(params=KINDS)
def processes(request):
    return request.param


def test_pass_ends_with_last_batch():
    enqueuer = PassEnqueuer(Marked(3), 1, True)
    enqueuer.start()
    generator = enqueuer.get()
    assert indices(generator, 3) == [0, 1, 2]
    with pytest.raises(StopIteration):
        next(generator)
    assert enqueuer.is_running()


def test_order_is_drawn_by_random_shuffle_at_first_batch(processes):
    enqueuer = PassEnqueuer(Marked(6), 2, processes, shuffle=True)
    random.seed(3)
    enqueuer.start()
    drawn = [indices(enqueuer.get(), 6) for _ in range(2)]
    after = random.random()
    random.seed(3)
    expected = []
    for _ in range(2):
        order = list(range(6))
        random.shuffle(order)
        expected.append(order)
    assert (drawn, after) == (expected, random.random())


def test_epochs_shorter_than_pass_continue_it(processes):
    enqueuer = PassEnqueuer(Marked(7), 2, processes)
    generator = enqueuer.get()
    marks = [epoch(enqueuer, generator, 2)[:, :2].tolist() for _ in range(3)]
    assert marks == [[[0, 0], [1, 0]], [[2, 1], [3, 1]], [[4, 2], [5, 2]]]


class Noting(Unhooked):
    """A dataset that records computed items in a file that all processes share."""

    def __init__(self, length, path):
        super().__init__(length)
        self.path = path

    def __getitem__(self, index):
        with open(self.path, "a") as notes:
            notes.write(f"{index}\n")
        return super().__getitem__(index)

    def noted(self):
        with open(self.path) as notes:
            return [int(line) for line in notes]


def test_batches_computed_ahead_are_kept_if_dataset_is_unchanged(tmp_path, processes):
    source = Noting(8, tmp_path / "items")
    enqueuer = PassEnqueuer(source, 1, processes)
    generator = enqueuer.get()
    for _ in range(4):
        enqueuer.start()
        take(generator, 2)
        enqueuer.stop()
    assert source.noted() == list(range(8))


def test_endless_dataset_restarts_with_new_pass(processes):
    enqueuer = PassEnqueuer(Marked(None), 2, processes, max_queue_size=3)
    generator = enqueuer.get()
    assert [epoch(enqueuer, generator, 3)[:, 0].tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    assert epoch(enqueuer, enqueuer.get(), 2)[:, 0].tolist() == [0, 1]


def test_new_iterator_invalidates_older_one_and_continues():
    enqueuer = PassEnqueuer(Marked(), 1, True)
    enqueuer.start()
    older, newer = enqueuer.get(), enqueuer.get()
    assert indices(older, 2) == [0, 1]
    assert indices(newer, 2) == [0, 1]
    with pytest.raises(ValueError, match="a newer one of this dataset"):
        next(older)
    assert indices(newer, 2) == [2, 3]


def test_none_is_delivered_like_other_batches(processes):
    class Hollow(Marked):
        def __getitem__(self, index):
            return None

    enqueuer = PassEnqueuer(Hollow(2), 1, processes)
    enqueuer.start()
    assert list(enqueuer.get()) == [None, None]


def test_exception_of_item_replaces_batch_and_stops_workers(processes):
    class Raising(Marked):
        def __getitem__(self, index):
            if index == 2 and self.state == 0:
                raise LookupError("item 2")
            return super().__getitem__(index)

    enqueuer = PassEnqueuer(Raising(), 2, processes)
    enqueuer.start()
    generator = enqueuer.get()
    assert indices(generator, 2) == [0, 1]
    with pytest.raises(LookupError, match="item 2"):
        next(generator)
    assert not enqueuer.is_running()
    assert enqueuer.statistics().batches == 3  # the last statistics remain
    assert [worker.pid for worker in enqueuer.statistics().workers] == [None] * 2
    enqueuer.source.on_epoch_end()
    assert epoch(enqueuer, enqueuer.get(), 4)[:, 0].tolist() == [0, 1, 2, 3]


class Held(Marked):
    """A dataset with an item 2 that waits at the gate while the state is 0."""

    def __init__(self, gate, length=4):
        super().__init__(length)
        self.gate, self.ballast = gate, np.zeros(1 << 16)

    def __getitem__(self, index):
        if index == 2 and self.state == 0:
            pass_gate(self.gate)
        return super().__getitem__(index)


@pytest.mark.parametrize("ballast_bytes", [8, 1 << 20, 32 << 20], ids=["small", "pushed", "forked anew"])
def test_busy_worker_receives_all_later_states(ballast_bytes):
    with Gate() as gate:
        source = Held(gate.address)
        enqueuer = PassEnqueuer(source, 1, True)
        enqueuer.start()
        assert indices(enqueuer.get(), 2) == [0, 1]
        held = gate.arrival()
        for state in (1, 2):
            source.state, source.ballast = state, np.full(ballast_bytes, state, np.uint8)
            enqueuer._begin()  # the worker computes item 2 of the first pass, and does not read messages yet
        held.let_go()
        marks = take(enqueuer.get(), 4)
    assert marks[:, :2].tolist() == [[0, 2], [1, 2], [2, 2], [3, 2]]


def test_stop_waits_for_threads_that_compute():
    inside, go_on, left = threading.Event(), threading.Event(), []

    class Slow(Marked):
        def __getitem__(self, index):
            if index == 2:
                inside.set()
                assert go_on.wait(60)
                left.append(index)
            return super().__getitem__(index)

    enqueuer = PassEnqueuer(Slow(), 1, False)
    enqueuer.start()
    assert indices(enqueuer.get(), 2) == [0, 1]
    assert inside.wait(60)
    stopping = threading.Thread(target=enqueuer.stop)
    stopping.start()
    while enqueuer.is_running():
        pass
    assert not left
    go_on.set()
    stopping.join(60)
    assert left == [2]


def test_stop_waits_at_most_batch_timeout_for_thread():
    go_on = threading.Event()

    class Hanging(Marked):
        def __getitem__(self, index):
            if index == 2:
                go_on.wait(60)
            return super().__getitem__(index)

    enqueuer = PassEnqueuer(Hanging(), 1, False, options=Options(batch_timeout=1.0))
    enqueuer.start()
    generator = enqueuer.get()
    assert indices(generator, 2) == [0, 1]
    enqueuer.stop()
    enqueuer.start()
    go_on.set()
    assert indices(generator, 2) == [2, 3]  # the hooks may have changed the dataset: computed again


def test_parking_loses_no_batch_and_keeps_order(processes):
    def run(*, park):
        enqueuer = PassEnqueuer(Marked(6), 2, processes, shuffle=True, options=Options(seed=5))
        random.seed(1)
        enqueuer.start()
        generator = enqueuer.get()
        first = take(generator, 2)
        if park:
            assert enqueuer.park()
        return np.concatenate([first, take(generator, 4)])[:, [0, 1, 3]].tolist()

    assert run(park=True) == run(park=False)


def test_collected_enqueuer_stops_its_workers(processes, deadlock_s):
    enqueuer = PassEnqueuer(Marked(), 1, processes)
    enqueuer.start()
    worker = psutil.Process(int(take(enqueuer.get(), 2)[0, 2]))
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("mpqueue-worker")]
    assert (worker.pid != os.getpid()) == processes == (not threads)
    del enqueuer
    gc.collect()
    if processes:
        psutil.wait_procs([worker], deadlock_s)
        assert not worker.is_running()
    for thread in threads:
        thread.join(deadlock_s)
        assert not thread.is_alive()


def test_random_state_determines_draws_of_each_enqueuer():
    def drawn():
        enqueuer = PassEnqueuer(Marked(), 1, False)
        return epoch(enqueuer, enqueuer.get(), 1)[0, 3]

    def drawn_by_three():
        random.seed(7)
        return [drawn() for _ in range(3)]

    first = drawn_by_three()
    assert len(set(first)) == 3
    random.random()
    assert drawn() not in first
    assert drawn_by_three() == first


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"workers": -1}, ValueError),
        ({"workers": 1.5}, TypeError),
        ({"max_queue_size": 0, "use_multiprocessing": True}, ValueError),
        ({"max_queue_size": -1}, ValueError),
    ],
)
def test_invalid_options_raise_before_start(options, error):
    with pytest.raises(error):
        PassEnqueuer(Marked(), **options)


def test_empty_dataset_raises_at_first_batch():
    enqueuer = PassEnqueuer(Marked(0), 1, True)
    enqueuer.start()
    with pytest.raises(ValueError, match="num_batches must be at least 1 batch"):
        next(enqueuer.get())


def test_idle_workers_stop_and_next_batch_restarts_them(monkeypatch, deadlock_s):
    monkeypatch.setattr(idle, "IDLE_S", 0.05)
    enqueuer = PassEnqueuer(Marked(), 1, True)
    enqueuer.start()
    generator = enqueuer.get()
    worker = psutil.Process(int(take(generator, 2)[1, 2]))
    psutil.wait_procs([worker], deadlock_s)
    assert not worker.is_running()
    assert indices(generator, 2) == [2, 3]
