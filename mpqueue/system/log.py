"""The logger of this package, ``mpqueue``.

What happens rarely is a WARNING, with a word on where to read on. What happens at each start and end is DEBUG. A
program that configures logging sees both as it does those of others; ``MPQUEUE_LOG=debug`` (or info, warning, error)
in the environment shows them on the standard error without a line of code.
"""

import os
import sys

from mpqueue.system.interrupts import defer_signals

_LEVELS = ("debug", "info", "warning", "error")


# Where a user of a wheel, which has no pages, finds them: in the source archive. It is that of the package's metadata.
_PAGES = "https://pypi.org/project/mpqueue/#files"


def documented(page: str, section: str = "") -> str:
    """Return where to read on, for a message: whoever has the package can open it.

    Args:
        page: Title of a page of the documentation.
        section: Heading in it; empty: all of it.
    """
    return f'"{page}"{f", {section}," if section else ""} in the documentation ({_PAGES})'


def warn(text: str, page: str = "", section: str = "") -> None:
    """Log a WARNING.

    Args:
        text: What has happened, and what to do.
        page: Title of the page of the documentation that says more; empty: there is none.
        section: Heading in it.
    """
    import logging  # most programs have it; the others need it when something happens, and not before

    with defer_signals():  # as in `debugs`
        logging.getLogger("mpqueue").warning("%s", f"{text} [see {documented(page, section)}]" if page else text)


def debugs() -> bool:
    """Return whether anybody would see a DEBUG message: whoever makes its text asks first."""
    logging = sys.modules.get("logging")
    if logging is None:
        return False
    # It takes a lock of all loggers, and not by `with`: what a signal's handler raises there would leave that taken,
    # and the next thread that asks for a logger would wait for ever.
    with defer_signals():
        return bool(logging.getLogger("mpqueue").isEnabledFor(10))


def debug(text: str) -> None:
    """Log a DEBUG message, of this process; its text should be cheap, or asked for by `debugs`."""
    if debugs():
        import logging

        with defer_signals():
            logging.getLogger("mpqueue").debug("%s", text)


def show(level: str) -> None:
    """Show messages of this level and above on the standard error.

    Args:
        level: "debug", "info", "warning" or "error", in any case.
    """
    import logging

    if level.lower() not in _LEVELS:
        warn(f"MPQUEUE_LOG={level} has no effect: the levels are {', '.join(_LEVELS)}", "Seeing what happens", "Logs")
        return
    logger = logging.getLogger("mpqueue")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s[%(process)d] %(levelname)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level.upper())


if os.environ.get("MPQUEUE_LOG"):
    show(os.environ["MPQUEUE_LOG"])
