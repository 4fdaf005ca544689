"""The ``timeout`` that every blocking call of a queue takes."""

import math
import numbers
import threading
from typing import Any


def checked_timeout(timeout: Any) -> float | None:
    """Seconds that a call may wait, None for ever.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative, or not a number.
    """
    if timeout is None or timeout == math.inf:
        return None
    if not isinstance(timeout, numbers.Real):
        raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}")
    seconds = float(timeout)
    if not seconds >= 0:  # not-a-number too
        raise ValueError(f"timeout must be at least 0 seconds, or None to wait for ever; got {timeout!r}")
    return min(seconds, threading.TIMEOUT_MAX)
