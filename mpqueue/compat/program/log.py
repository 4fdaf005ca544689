"""Messages: ``tf.logging``, over a logger of the standard library."""

import logging
import sys
import threading
from collections import Counter
from typing import Any, Final

DEBUG: Final = logging.DEBUG
INFO: Final = logging.INFO
WARN: Final = logging.WARNING
ERROR: Final = logging.ERROR
FATAL: Final = logging.CRITICAL

_logger: Final = logging.getLogger("mpqueue.script")
_counts: Counter[tuple[str, int]] = Counter()  # by the file and line of the call
_lock: Final = threading.Lock()


def _prepared() -> logging.Logger:
    """The logger; it writes to stderr, unless the program has set up logging of its own."""
    if not _logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
        _logger.addHandler(handler)
        _logger.propagate = False
    return _logger


def get_logger() -> logging.Logger:
    """The logger that takes the messages.

    Follows: ``tf.get_logger``.
    """
    return _prepared()


def log(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """Report a message of a level.

    Follows: ``tf.logging.log``.
    """
    _prepared().log(level, msg, *args, **kwargs)


def debug(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Report what helps to find errors.

    Follows: ``tf.logging.debug``.
    """
    log(DEBUG, msg, *args, **kwargs)


def info(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Report what happens.

    Follows: ``tf.logging.info``.
    """
    log(INFO, msg, *args, **kwargs)


def warn(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Report what may be wrong.

    Follows: ``tf.logging.warn``, ``tf.logging.warning``.
    """
    log(WARN, msg, *args, **kwargs)


def error(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Report what is wrong.

    Follows: ``tf.logging.error``.
    """
    log(ERROR, msg, *args, **kwargs)


def fatal(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Report what the program cannot go on with; it goes on all the same.

    Follows: ``tf.logging.fatal``.
    """
    log(FATAL, msg, *args, **kwargs)


def vlog(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """`log`.

    Follows: ``tf.logging.vlog``.
    """
    log(level, msg, *args, **kwargs)


def _times_here() -> int:
    """How often the line that called the caller did so, this time included."""
    frame = sys._getframe(2)
    with _lock:
        key = frame.f_code.co_filename, frame.f_lineno
        _counts[key] += 1
        return _counts[key]


def log_first_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Report a message at the first ``n`` times that this line is reached.

    Follows: ``tf.logging.log_first_n``.
    """
    log_if(level, msg, _times_here() <= n, *args)


def log_every_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Report a message at the first and every ``n``-th further time that this line is reached.

    Follows: ``tf.logging.log_every_n``.
    """
    log_if(level, msg, (_times_here() - 1) % n == 0, *args)


def log_if(level: int, msg: Any, condition: Any, *args: Any) -> None:
    """Report a message if a condition holds.

    Follows: ``tf.logging.log_if``.
    """
    if condition:
        log(level, msg, *args)


def get_verbosity() -> int:
    """The lowest level that is reported.

    Follows: ``tf.logging.get_verbosity``.
    """
    return _prepared().getEffectiveLevel()


def set_verbosity(v: int | str) -> None:
    """Report messages from a level on.

    Follows: ``tf.logging.set_verbosity``.
    """
    _prepared().setLevel(v)


def flush() -> None:
    """Have written what was reported.

    Follows: ``tf.logging.flush``.
    """
    for handler in _prepared().handlers:
        handler.flush()
