"""LooperThread: functions that are called repeatedly until the coordinator stops."""

import threading

import pytest

from mpqueue import Coordinator
from mpqueue.train import LooperThread

DEADLOCK_S = 60


@pytest.fixture
def coord():
    return Coordinator()


@pytest.mark.parametrize("interval", [None, 0.01])
def test_looper_runs_until_the_stop(coord, interval):
    calls = []

    def step(*args, **kwargs):
        calls.append((args, kwargs))
        if len(calls) == 3:
            coord.request_stop()

    looper = LooperThread.loop(coord, interval, step, args=(1,), kwargs={"key": 2})
    coord.join(stop_grace_period_secs=DEADLOCK_S)
    assert calls == [((1,), {"key": 2})] * 3
    assert not looper.is_alive()


def test_a_long_interval_does_not_delay_the_stop(coord):
    ran = threading.Event()
    LooperThread.loop(coord, 3600, ran.set)
    assert ran.wait(DEADLOCK_S)
    coord.request_stop()
    coord.join(stop_grace_period_secs=DEADLOCK_S)


def test_error_ends_the_looper_and_is_raised_by_join(coord):
    LooperThread.loop(coord, None, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        coord.join()


def test_subclass_hooks_are_called(coord):
    calls = []

    class Mine(LooperThread):
        def start_loop(self):
            calls.append("start")

        def run_loop(self):
            calls.append("run")
            coord.request_stop()

        def stop_loop(self):
            calls.append("stop")

    Mine(coord, None).start()
    coord.join(stop_grace_period_secs=DEADLOCK_S)
    assert calls == ["start", "run", "stop"]


@pytest.mark.parametrize("wrong", [{"coord": None}, {"args": (1,)}, {"kwargs": {"key": 1}}])
def test_invalid_arguments_raise(coord, wrong):
    with pytest.raises(ValueError):
        LooperThread(**({"coord": coord, "timer_interval_secs": 1} | wrong))
