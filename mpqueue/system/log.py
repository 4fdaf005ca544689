"""The package's logger, ``mpqueue``.

Rare events are logged as WARNING, with a reference to the documentation. Information that a user needs once is logged
as INFO, and starts and ends as DEBUG. A program that configures logging sees them. ``MPQUEUE_LOG=debug`` (or info,
warning, error) in the environment shows them on the standard error without code.
"""

import os
import sys
from functools import cache
from typing import TYPE_CHECKING

from mpqueue.system.program_streams import call_unless_lost
from mpqueue.system.signals.deferred import defer_signals

if TYPE_CHECKING:
    from logging import Logger

_LEVELS = ("debug", "info", "warning", "error")


def documented(page: str, section: str = "") -> str:
    """Return a reference to the documentation for a message.

    Args:
        page: Title of a page of the documentation.
        section: Heading on that page; empty for the whole page.
    """
    address = _address()
    return f'"{page}"{f", {section}," if section else ""} in the documentation{f" ({address})" if address else ""}'


@cache
def _address() -> str:
    """Return the address of the public repository from the package's metadata; empty if it has none."""
    from importlib.metadata import PackageNotFoundError, metadata  # slow, and most programs get no message

    try:
        urls = metadata("mpqueue").get_all("Project-URL", [])
    except PackageNotFoundError:  # a checkout that is not installed
        return ""
    return next((address for name, _, address in (url.partition(", ") for url in urls) if name == "Source"), "")


def logger_of(name: str) -> "Logger":
    """Return a logger that drops its messages if the program has lost its standard error."""
    import logging  # imported here, because many programs never get a message

    logger = logging.getLogger(name)
    if "handle" not in vars(logger):
        handle = logger.handle
        vars(logger)["handle"] = lambda record: call_unless_lost(handle, record)
    return logger


def warn(text: str, page: str = "", section: str = "") -> None:
    """Log a WARNING.

    Args:
        text: The event, and the remedy.
        page: Title of a page of the documentation; empty for none.
        section: Heading on that page.
    """
    _log(30, text, page, section)


def inform(text: str, page: str, section: str) -> None:
    """Log an INFO; see `warn`."""
    _log(20, text, page, section)


def _log(level: int, text: str, page: str, section: str) -> None:
    with defer_signals():  # as in `debugs`
        logger_of("mpqueue").log(level, "%s", f"{text} [see {documented(page, section)}]" if page else text)


def debugs() -> bool:
    """Return whether DEBUG messages are shown, so that callers can avoid building their text."""
    logging = sys.modules.get("logging")
    if logging is None:
        return False
    # `isEnabledFor` acquires a global lock of logging without `with`: an exception of a signal handler would leave it
    # locked, and the next thread that requests a logger would hang.
    with defer_signals():
        return bool(logging.getLogger("mpqueue").isEnabledFor(10))


def debug(text: str) -> None:
    """Log a DEBUG message of this process. If its text is expensive, call `debugs` first."""
    if debugs():
        with defer_signals():  # as in `debugs`
            logger_of("mpqueue").debug("%s", text)


def show(level: str) -> None:
    """Show messages of this level and above on the standard error.

    Args:
        level: "debug", "info", "warning" or "error", in any case.
    """
    import logging

    if level.lower() not in _LEVELS:
        warn(f"MPQUEUE_LOG={level} has no effect: the levels are {', '.join(_LEVELS)}", "Monitor data loading", "Logs")
        return
    logger = logging.getLogger("mpqueue")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s[%(process)d] %(levelname)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level.upper())


if os.environ.get("MPQUEUE_LOG"):
    show(os.environ["MPQUEUE_LOG"])
