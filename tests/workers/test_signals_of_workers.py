"""Signals in a worker: its handlers are those of a fresh process, it ignores Ctrl-C, and SIGTERM precedes SIGKILL."""

import os
import signal

import numpy as np
import pytest
from helpers.faults import Numbers, numbers
from helpers.gates import Gate, pass_gate

from mpqueue import Loader, OrderedEnqueuer

METHODS = pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
LOOKED_AT = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]


class Looking(Numbers):
    """Each batch contains the worker's handler of each signal, and the number of blocked signals."""

    def __getitem__(self, index):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return np.array([*map(signal.getsignal, LOOKED_AT), len(blocked)], object).astype(int)


@pytest.fixture
def odd_signals():
    """The trainer ignores all signals that it can, and blocks one."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGCHLD)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


@METHODS
def test_worker_ignores_ctrl_c_and_has_default_handlers_otherwise(method, odd_signals):
    with Loader(Looking(2), workers=1, start_method=method) as loader:
        found = [batch.tolist() for batch in loader]
    assert found == [[int(signal.SIG_IGN), int(signal.SIG_DFL), int(signal.SIG_DFL), 0]] * 2


class Cleaning(Numbers):
    """Waits forever at index 1; cleans up on SIGTERM."""

    def __init__(self, gate, mark):
        super().__init__()
        self.gate, self.mark = gate.address, str(mark)

    def __getitem__(self, index):
        if index == 1:
            signal.signal(signal.SIGTERM, self.clears_up)
            pass_gate(self.gate)
        return super().__getitem__(index)

    def clears_up(self, *_):
        with open(self.mark, "w"):
            os._exit(0)


@METHODS
def test_worker_that_does_not_exit_by_itself_may_clean_up_before_it_is_killed(method, tmp_path):
    with Gate() as gate:
        enqueuer = OrderedEnqueuer(Cleaning(gate, tmp_path / "mark"), True, start_method=method)
        enqueuer.start(1)
        assert numbers(enqueuer.get(), 1) == [0]
        waiting = gate.arrival()
        enqueuer.stop()
        waiting.let_go()
    assert (tmp_path / "mark").exists()
