"""`PassEnqueuer` used by several threads, without Keras."""

import threading

import numpy as np
import pytest
from helpers.concurrent_calls import in_threads
from helpers.mapped_values import Follows

from mpqueue.frameworks.keras import idle
from mpqueue.frameworks.keras.passes import PassEnqueuer


class Changing:
    """Batches of its present value; a test may do something while the dataset is checked."""

    def __init__(self):
        self.value, self.amid = 0, None

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return np.array([self.value, index])

    def __getstate__(self):
        state, (amid, self.amid) = {"value": self.value}, (self.amid, None)
        if amid is not None:
            amid()
        return state


def test_change_after_a_concurrent_stop_is_detected():
    """An iterator that reads ahead in a thread requests a batch while the fit loop ends its epoch."""
    source = Changing()
    enqueuer = PassEnqueuer(source, 1, use_multiprocessing=True)

    def end_the_epoch():
        enqueuer.stop()
        source.value = 7

    enqueuer.start()
    batches = enqueuer.get()
    try:
        found = [next(batches).tolist() for _ in range(2)]
        enqueuer.stop()
        enqueuer.start()
        source.amid = lambda: in_threads(end_the_epoch)
        found.append(next(batches).tolist())
        assert source.value == 7
        enqueuer.start()
        found += [next(batches).tolist() for _ in range(2)]
    finally:
        enqueuer.stop()
        enqueuer.park()
    assert found == [[0, 0], [0, 1], [0, 2], [7, 3], [7, 4]]


class Watch(idle._Watch):
    """A watch that shows its timer."""

    timer = property(lambda self: self._timer)

    def look(self):
        self._look()


def test_timer_that_cannot_be_started_is_started_by_the_next_use(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    watch, enqueuer = Watch(), PassEnqueuer(Changing())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            watch.add(enqueuer)
    watch.add(enqueuer)
    assert watch.timer.is_alive()
    watch.end()


class Stuck(idle.Pool):
    """Cannot be parked."""

    def is_running(self):
        return False

    def park(self):
        raise OSError("stuck")


def test_pool_that_cannot_be_parked_does_not_end_the_parking_of_others():
    watch, pool = Watch(), Stuck(None)
    watch.add(pool)
    timer = watch.timer
    timer.cancel()
    pool.last_use -= 2 * idle.IDLE_S
    with pytest.raises(OSError, match="stuck"):
        watch.look()
    assert watch.timer is not timer
    assert watch.timer.is_alive()
    assert watch.timer.interval > idle.IDLE_S  # not at once, which would repeat the error endlessly
    watch.timer.cancel()


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_rest_of_a_pass_is_computed_with_the_present_content_of_shared_memory(tmp_path, processes):
    source = Follows(tmp_path / "value", 12)
    enqueuer = PassEnqueuer(source, 1, use_multiprocessing=processes)
    try:
        batches, found = enqueuer.get(), []
        for epoch in range(3):
            source.value[0] = epoch
            enqueuer.start()
            batches = batches if epoch else enqueuer.get()
            found += [next(batches).tolist() for _ in range(4)]
            enqueuer.stop()
        assert found == [[index // 4, index] for index in range(12)]
    finally:
        enqueuer.park()
