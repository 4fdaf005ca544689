"""An invalid timeout is rejected before a coordinator or server is stopped or searched for."""

import math

import pytest

import mpqueue


def wait_for_server(timeout):
    with mpqueue.Server("timeouts", None) as server:
        server.wait(timeout)


def join_coordinator(timeout):
    coordinator = mpqueue.Coordinator()
    coordinator.request_stop()
    try:
        coordinator.join(stop_grace_period_secs=timeout)
    finally:
        assert not coordinator.joined


@pytest.mark.parametrize(
    "call",
    [
        wait_for_server,
        join_coordinator,
        lambda timeout: mpqueue.Coordinator().wait_for_stop(timeout),
        lambda timeout: mpqueue.connect("timeouts", timeout),
    ],
)
@pytest.mark.parametrize(("timeout", "error"), [("3", TypeError), (math.nan, ValueError)])
@pytest.mark.usefixtures("servers_directory")
def test_invalid_timeout_is_rejected(call, timeout, error):
    with pytest.raises(error, match=r"must be (a number of|at least 0) seconds,? or None"):
        call(timeout)
