"""Messages: ``tf.logging``, over a logger of the standard library, as TensorFlow's.

absl's logging is another module than ``tf.logging``: its levels are other numbers (``INFO`` is 0), its lines begin in
another way, and its ``fatal`` ends the process.
"""

import logging
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from mpqueue.system.locks import Lock

DEBUG: Final = logging.DEBUG
INFO: Final = logging.INFO
WARN: Final = logging.WARNING
ERROR: Final = logging.ERROR
FATAL: Final = logging.CRITICAL

_logger: Final = logging.getLogger("mpqueue.script")
_counts: Counter[tuple[str, int]] = Counter()  # by the file and line of the call
_lock: Final = Lock()


def get_logger() -> logging.Logger:
    """Return the logger that takes the messages.

    It writes to stderr, unless the program has set up logging of its own.
    """
    if not _logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        _logger.addHandler(handler)
        _logger.propagate = False
    return _logger


def log(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """Report a message of a level."""
    get_logger().log(level, msg, *args, stacklevel=2, **kwargs)


def _reporter(name: str, level: int, what: str) -> Callable[..., None]:
    def report(msg: Any, *args: Any, **kwargs: Any) -> None:
        get_logger().log(level, msg, *args, stacklevel=2, **kwargs)

    report.__name__ = report.__qualname__ = name
    report.__doc__ = f"Report {what}."
    return report


debug = _reporter("debug", DEBUG, "what helps to find errors")
info = _reporter("info", INFO, "what happens")
warn = _reporter("warn", WARN, "what may be wrong")
error = _reporter("error", ERROR, "what is wrong")
fatal = _reporter("fatal", FATAL, "what the program cannot go on with; it goes on all the same")


def _times_here() -> int:
    """Return how often the line that called the caller did so, this time included."""
    frame = sys._getframe(2)
    with _lock:
        key = frame.f_code.co_filename, frame.f_lineno
        _counts[key] += 1
        return _counts[key]


def log_first_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Report a message at the first ``n`` times that this line is reached."""
    if _times_here() <= n:
        get_logger().log(level, msg, *args, stacklevel=2)


def log_every_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Report a message at the first and every ``n``-th further time that this line is reached."""
    if (_times_here() - 1) % n == 0:
        get_logger().log(level, msg, *args, stacklevel=2)


def log_if(level: int, msg: Any, condition: Any, *args: Any) -> None:
    """Report a message if a condition holds."""
    if condition:
        get_logger().log(level, msg, *args, stacklevel=2)


def get_verbosity() -> int:
    """Return the lowest level that is reported."""
    return get_logger().getEffectiveLevel()


def set_verbosity(v: int | str) -> None:
    """Report messages from a level on."""
    get_logger().setLevel(v)


def flush() -> None:
    """Write out what was reported."""
    for handler in get_logger().handlers:
        handler.flush()
