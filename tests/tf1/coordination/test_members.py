"""Timeouts of queues and queue servers, which must not be negative, unlike timeouts of threads."""

import math
import threading

import pytest

from mpqueue.tf1.coordination.members import checked_timeout


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(None, None), (math.inf, None), (0, 0.0), (0.5, 0.5), (10**400, threading.TIMEOUT_MAX)]
)
def test_timeout_is_a_number_of_seconds_or_none(timeout, seconds):
    assert checked_timeout(timeout) == seconds


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
def test_negative_timeout_and_nan_raise_value_error(timeout):
    with pytest.raises(ValueError, match="timeout must be at least 0 seconds, or None to wait"):
        checked_timeout(timeout)


@pytest.mark.parametrize("timeout", ["3", [1], 1j])
def test_timeout_of_wrong_type_raises_type_error(timeout):
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None, got"):
        checked_timeout(timeout)
