"""Signals in a worker: its handlers are those of a fresh process, it ignores Ctrl-C, and SIGTERM precedes SIGKILL."""

import os
import signal

import numpy as np
import pytest
from helpers.computed import Computed
from helpers.gates import Gate, pass_gate
from helpers.handling import handling

from mpqueue import Loader, OrderedEnqueuer

METHODS = pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
LOOKED_AT = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]


def look(_):
    """Return the worker's handler of each signal, and the number of blocked signals."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return np.array([*map(signal.getsignal, LOOKED_AT), len(blocked)], object).astype(int)


@pytest.fixture
def odd_signals():
    """The trainer ignores all signals that it can, and blocks one."""
    with handling(signal.SIG_IGN, signal.SIGTERM, signal.SIGCHLD):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        yield
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@METHODS
def test_worker_ignores_ctrl_c_and_has_default_handlers_otherwise(method, odd_signals):
    with Loader(Computed(look, 2), workers=1, start_method=method) as loader:
        found = [batch.tolist() for batch in loader]
    assert found == [[int(signal.SIG_IGN), int(signal.SIG_DFL), int(signal.SIG_DFL), 0]] * 2


@METHODS
def test_worker_that_does_not_exit_by_itself_may_clean_up_before_it_is_killed(method, tmp_path):
    def clean_up(*_):
        with open(tmp_path / "mark", "w"):
            os._exit(0)

    def wait_at_1(index):
        if index == 1:
            signal.signal(signal.SIGTERM, clean_up)
            pass_gate(address)
        return index

    with Gate() as gate:
        address = gate.address
        enqueuer = OrderedEnqueuer(Computed(wait_at_1), True, start_method=method)
        enqueuer.start(1)
        assert next(enqueuer.get()) == 0
        waiting = gate.arrival()
        enqueuer.stop()
        waiting.let_go()
    assert (tmp_path / "mark").exists()
