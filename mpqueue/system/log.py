"""The logger of this package, ``mpqueue``.

What happens rarely is a WARNING, with a word on where to read on. What happens at each start and end is DEBUG. A
program that configures logging sees both as it does those of others; ``MPQUEUE_LOG=debug`` (or info, warning, error)
in the environment shows them on the standard error without a line of code.
"""

import os
import sys

_LEVELS = ("debug", "info", "warning", "error")


def warn(text: str, read_on: str = "") -> None:
    """Log a WARNING.

    Args:
        text: What has happened.
        read_on: The page of the documents, and the section, that says more; empty: there is none.
    """
    import logging  # most programs have it; the others need it when something happens, and not before

    logging.getLogger("mpqueue").warning("%s", f"{text} [see {read_on}]" if read_on else text)


def debugs() -> bool:
    """Return whether anybody would see a DEBUG message: whoever makes its text asks first."""
    logging = sys.modules.get("logging")
    return logging is not None and logging.getLogger("mpqueue").isEnabledFor(10)


def debug(text: str) -> None:
    """Log a DEBUG message, of this process; its text should be cheap, or asked for by `debugs`."""
    if debugs():
        import logging

        logging.getLogger("mpqueue").debug("%s", text)


def show(level: str) -> None:
    """Show messages of this level and above on the standard error.

    Args:
        level: "debug", "info", "warning" or "error", in any case.
    """
    import logging

    if level.lower() not in _LEVELS:
        warn(f"MPQUEUE_LOG={level} has no effect: the levels are {', '.join(_LEVELS)}", "docs/seeing.md, Logs")
        return
    logger = logging.getLogger("mpqueue")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s[%(process)d] %(levelname)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level.upper())


if os.environ.get("MPQUEUE_LOG"):
    show(os.environ["MPQUEUE_LOG"])
