"""Signal handlers of the user remain installed while batches are awaited and computed."""

import signal
import threading

import pytest
from helpers.computed_source import Computed
from helpers.gates import Gate, pass_gate
from helpers.signal_handlers import handling, raising
from helpers.waits import until_main_thread_is_in

from mpqueue import OrderedEnqueuer
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.interrupts import not_of_handler


def mine(*_):
    """A signal handler of the user."""


def test_user_handlers_remain_installed_while_batches_are_computed():
    seen = []

    def look():
        seen.append(signal.getsignal(signal.SIGTERM))

    def look_while_the_consumer_waits():
        for _ in range(2):
            arrival = gate.arrival()
            until_main_thread_is_in("_poll")
            look()
            arrival.let_go()

    with handling(mine, signal.SIGTERM), Gate() as gate:
        address = gate.address
        source = Computed(lambda index: index if index != 3 else pass_gate(address) or index, 4)
        source.on_epoch_end = look
        with OrderedEnqueuer(source, True) as enqueuer:
            enqueuer.start(1, 4)
            thread = threading.Thread(target=look_while_the_consumer_waits)
            thread.start()
            batches = enqueuer.get()
            assert [next(batches) for _ in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]
            thread.join()
        assert seen == [mine] * 3
        assert signal.getsignal(signal.SIGTERM) is mine


def test_handlers_are_deferred_without_main_thread_object(monkeypatch):
    """It replaces the main thread's object if a handler raises a KeyError in `threading.current_thread`."""
    came = []
    monkeypatch.setattr(threading, "current_thread", object)
    with handling(lambda *_: came.append(True), signal.SIGUSR1):
        with defer_signals():
            signal.raise_signal(signal.SIGUSR1)
            assert came == []
        assert came == [True]


def size_of(path, *, during=lambda: None):
    try:
        during()
        return path.stat().st_size
    except not_of_handler(OSError, ValueError):
        return 0


def test_expected_error_is_caught_but_not_that_of_a_signal_handler(tmp_path):
    assert size_of(tmp_path / "absent") == 0
    # A time limit of the user: TimeoutError is an OSError, as an error of a file is.
    with handling(raising(TimeoutError("time limit")), signal.SIGUSR1):
        with pytest.raises(TimeoutError, match="time limit"):
            size_of(tmp_path, during=lambda: signal.raise_signal(signal.SIGUSR1))
