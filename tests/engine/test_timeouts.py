"""Timeouts of calls are checked before the call has an effect."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from fractions import Fraction

import numpy as np
import pytest
from helpers.faults import Numbers

import mpqueue
from mpqueue.engine.stopping import checked_wait


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None), (math.inf, None), (1e300, threading.TIMEOUT_MAX), (10**400, threading.TIMEOUT_MAX),
        (0, 0.0), (-1, 0.0), (-math.inf, 0.0), (Fraction(1, 4), 0.25), (np.float32(0.5), 0.5), (np.int8(3), 3.0),
    ],
)  # fmt: skip
def test_timeout_is_number_of_seconds_from_zero_or_unlimited(given, seconds):
    assert checked_wait(given) == seconds


def stop_loader(given):
    with mpqueue.Loader(Numbers(), workers=1) as loader:
        batches = iter(loader)
        next(batches)
        try:
            loader.stop(timeout=given)
        finally:
            assert loader.is_alive()
            assert next(batches) is not None  # the loader was not stopped


def join_loader(given):
    with mpqueue.Loader(Numbers(), workers=0) as loader:
        iter(loader)
        loader.join(given)


def stop_enqueuer(given):
    with mpqueue.OrderedEnqueuer(Numbers(), use_multiprocessing=False) as enqueuer:
        enqueuer.start(workers=1)
        try:
            enqueuer.stop(timeout=given)
        finally:
            assert enqueuer.is_running()


def stop_server(given):
    with mpqueue.Server("timeouts", Numbers(), workers=1) as server:
        try:
            server.stop(timeout=given)
        finally:
            assert not server.wait(0)


def wait_for_server(given):
    with mpqueue.Server("timeouts", Numbers(), workers=1) as server:
        server.wait(given)


@pytest.mark.parametrize(
    ("call", "given", "error"),
    [
        (stop_loader, "3", TypeError),
        (stop_loader, math.nan, ValueError),
        (join_loader, "3", TypeError),
        (join_loader, math.nan, ValueError),
        (stop_enqueuer, math.nan, ValueError),
        (stop_server, "3", TypeError),
        (wait_for_server, math.nan, ValueError),
    ],
)
@pytest.mark.usefixtures("servers_directory")
def test_invalid_timeout_raises_and_stops_nothing(call, given, error):
    with pytest.raises(error, match=r"must be (a number of|at least 0) seconds,? or None"):
        call(given)


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300])
def test_join_without_a_limit_returns_when_another_thread_has_stopped_the_loader(timeout):
    with mpqueue.Loader(Numbers(), workers=0) as loader, ThreadPoolExecutor(1) as pool:
        iter(loader)
        joining = pool.submit(loader.join, timeout)
        assert wait([joining], 0.05).not_done
        loader.stop(timeout=timeout)
        assert joining.result(60) is None
    loader.join(timeout)  # of a stopped one, at once
