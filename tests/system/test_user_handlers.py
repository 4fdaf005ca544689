"""Signal handlers of the user remain installed while batches are awaited and computed."""

import signal
import threading

import pytest
from helpers.faults import Numbers, numbers
from helpers.gates import Gate, pass_gate
from helpers.waits import until_main_thread_is_in

from mpqueue import OrderedEnqueuer
from mpqueue.system.interrupts import defer_signals, not_of_handler


class Gated(Numbers):
    """A source that waits at a gate at index 3, and reads the handler of SIGTERM at each end of an epoch."""

    def __init__(self, gate):
        super().__init__(4)
        self.gate, self.seen = gate.address, []

    def __getitem__(self, index):
        if index == 3:
            pass_gate(self.gate)
        return super().__getitem__(index)

    def on_epoch_end(self):
        self.seen.append(signal.getsignal(signal.SIGTERM))


def mine(*_):
    """A signal handler of the user."""


def test_user_handlers_remain_installed_while_batches_are_computed():
    previous = signal.signal(signal.SIGTERM, mine)
    with Gate() as gate, OrderedEnqueuer(Gated(gate), True) as enqueuer:
        source = enqueuer.sequence
        enqueuer.start(1, 4)

        def look_while_the_consumer_waits():
            for _ in range(2):
                arrival = gate.arrival()
                until_main_thread_is_in("_poll")
                source.seen.append(signal.getsignal(signal.SIGTERM))
                arrival.let_go()

        thread = threading.Thread(target=look_while_the_consumer_waits)
        thread.start()
        assert numbers(enqueuer.get(), 8) == [0, 1, 2, 3, 0, 1, 2, 3]
        thread.join()
        enqueuer.stop()
        assert source.seen == [mine] * 3
        assert signal.signal(signal.SIGTERM, previous) is mine


def test_handlers_are_deferred_without_main_thread_object(monkeypatch):
    """It replaces the main thread's object if a handler raises a KeyError in `threading.current_thread`."""
    came = []
    monkeypatch.setattr(threading, "current_thread", object)
    before = signal.signal(signal.SIGUSR1, lambda *_: came.append(True))
    with defer_signals():
        signal.raise_signal(signal.SIGUSR1)
        assert came == []
    assert came == [True]
    signal.signal(signal.SIGUSR1, before)


def expire(*_):
    """A handler that ends a time limit of the user. TimeoutError is an OSError, as an error of a file is."""
    raise TimeoutError("time limit")


def size_of(path, *, during=lambda: None):
    try:
        during()
        return path.stat().st_size
    except not_of_handler(OSError, ValueError):
        return 0


def test_expected_error_is_caught_but_not_that_of_a_signal_handler(tmp_path):
    assert size_of(tmp_path / "absent") == 0
    previous = signal.signal(signal.SIGUSR1, expire)
    try:
        with pytest.raises(TimeoutError, match="time limit"):
            size_of(tmp_path, during=lambda: signal.raise_signal(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, previous)
