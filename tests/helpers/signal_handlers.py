"""Signal handlers of a test."""

import contextlib
import signal


@contextlib.contextmanager
def handling(handler, *numbers):
    """Install a handler of signals until the block ends."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def raising(error):
    """Return a handler that raises an error, or a new one of a class."""

    def handler(*_):
        raise error

    return handler
