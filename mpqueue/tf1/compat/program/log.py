"""Logging: ``tf.logging``, based on a logger of the standard library, as in TensorFlow.

absl's logging is a different module: its levels have other numbers (``INFO`` is 0), its lines have another format, and
its ``fatal`` ends the process.
"""

import logging
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from mpqueue.system.log import logger_of
from mpqueue.system.signals.locks import Lock

DEBUG: Final = logging.DEBUG
INFO: Final = logging.INFO
WARN: Final = logging.WARNING
ERROR: Final = logging.ERROR
FATAL: Final = logging.CRITICAL

_logger: Final = logger_of("mpqueue.script")
_counts: Counter[tuple[str, int]] = Counter()  # calls by file and line of the caller
_lock: Final = Lock()


def get_logger() -> logging.Logger:
    """Return the logger of ``tf.logging``.

    It writes to stderr, unless the program has configured logging itself.
    """
    if not _logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        _logger.addHandler(handler)
        _logger.propagate = False
    return _logger


def log(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """Log a message at the given level."""
    get_logger().log(level, msg, *args, stacklevel=2, **kwargs)


def _reporter(name: str, level: int, note: str = "") -> Callable[..., None]:
    def report(msg: Any, *args: Any, **kwargs: Any) -> None:
        get_logger().log(level, msg, *args, stacklevel=2, **kwargs)

    report.__name__ = report.__qualname__ = name
    report.__doc__ = f"Log a message at level {logging.getLevelName(level)}{note}."
    return report


debug = _reporter("debug", DEBUG)
info = _reporter("info", INFO)
warn = _reporter("warn", WARN)
error = _reporter("error", ERROR)
fatal = _reporter("fatal", FATAL, ", without ending the program")


def _times_here() -> int:
    """Return how many times the line that called the caller has done so, including this call."""
    frame = sys._getframe(2)
    with _lock:
        key = frame.f_code.co_filename, frame.f_lineno
        _counts[key] += 1
        return _counts[key]


def log_first_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Log a message the first ``n`` times that this line is executed."""
    if _times_here() <= n:
        get_logger().log(level, msg, *args, stacklevel=2)


def log_every_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Log a message the first time that this line is executed, and then every ``n``-th time."""
    if (_times_here() - 1) % n == 0:
        get_logger().log(level, msg, *args, stacklevel=2)


def log_if(level: int, msg: Any, condition: Any, *args: Any) -> None:
    """Log a message if a condition is true."""
    if condition:
        get_logger().log(level, msg, *args, stacklevel=2)


def get_verbosity() -> int:
    """Return the lowest level that is logged."""
    return get_logger().getEffectiveLevel()


def set_verbosity(v: int | str) -> None:
    """Set the lowest level that is logged."""
    get_logger().setLevel(v)


def flush() -> None:
    """Flush the handlers of the logger."""
    for handler in get_logger().handlers:
        handler.flush()
