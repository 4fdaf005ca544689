"""Workers of Keras's fit loop: batches computed ahead, changes while they compute, and stops."""

import os
import threading

import numpy as np
import psutil
import pytest
from helpers.engine_parts import begin_pass
from helpers.gates import Gate, pass_gate

import mpqueue
from mpqueue.frameworks.keras import idle
from mpqueue.frameworks.keras.passes import PassEnqueuer
from mpqueue.plan.options.options import Options

KINDS = [pytest.param(True, id="processes"), pytest.param(False, id="threads")]


class Marked:
    """A dataset with items (i, state, process, a random number); hooks change the state.

    Args:
        length: Number of batches.
        at: Called with the dataset and an index before the item is computed.
    """

    def __init__(self, length=4, at=lambda *_: None):
        self.num_batches, self.at, self.state = length, at, 0

    def __getitem__(self, index):
        self.at(self, index)
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


@pytest.fixture(params=KINDS)
def processes(request):
    return request.param


def test_batches_computed_ahead_are_kept_if_dataset_is_unchanged(tmp_path, processes):
    def note(_, index):
        with open(tmp_path / "items", "a") as notes:
            notes.write(f"{index} ")

    enqueuer = PassEnqueuer(Unhooked(8, note), 1, processes)
    generator = enqueuer.get()
    for _ in range(4):
        enqueuer.start()
        take(generator, 2)
        enqueuer.stop()
    assert (tmp_path / "items").read_text() == "0 1 2 3 4 5 6 7 "


@pytest.mark.sample(1)
@pytest.mark.parametrize("ballast_bytes", [8, 1 << 20, 32 << 20], ids=["small", "pushed", "forked anew"])
def test_busy_worker_receives_all_later_states(ballast_bytes):
    def wait(source, index):
        if index == 2 and source.state == 0:
            pass_gate(address)

    with Gate() as gate:
        address = gate.address
        source = Marked(at=wait)
        source.ballast = np.zeros(1 << 16)
        enqueuer = PassEnqueuer(source, 1, True)
        enqueuer.start()
        assert indices(enqueuer.get(), 2) == [0, 1]
        held = gate.arrival()
        for state in (1, 2):
            source.state, source.ballast = state, np.full(ballast_bytes, state, np.uint8)
            begin_pass(enqueuer)  # the worker computes item 2 of the first pass, and does not read messages yet
        held.let_go()
        marks = take(enqueuer.get(), 4)
    assert marks[:, :2].tolist() == [[0, 2], [1, 2], [2, 2], [3, 2]]


def test_stop_waits_for_threads_that_compute():
    inside, go_on, left = threading.Event(), threading.Event(), []

    def wait(_, index):
        if index == 2:
            inside.set()
            assert go_on.wait(60)
            left.append(index)

    enqueuer = PassEnqueuer(Marked(at=wait), 1, False)
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

    source = Marked(at=lambda _, index: index == 2 and go_on.wait(60))
    enqueuer = PassEnqueuer(source, 1, False, options=Options(backend=None, batch_timeout=1.0))
    enqueuer.start()
    generator = enqueuer.get()
    assert indices(generator, 2) == [0, 1]
    enqueuer.stop()
    enqueuer.start()
    go_on.set()
    assert indices(generator, 2) == [2, 3]  # the hooks may have changed the dataset: computed again


def test_idle_workers_stop_and_next_batch_restarts_them(monkeypatch, deadlock_s):
    monkeypatch.setattr(idle, "IDLE_S", 0.05)
    enqueuer = PassEnqueuer(Marked(), 1, True)
    enqueuer.start()
    generator = enqueuer.get()
    worker = psutil.Process(int(take(generator, 2)[1, 2]))
    psutil.wait_procs([worker], deadlock_s)
    assert not worker.is_running()
    assert indices(generator, 2) == [2, 3]
