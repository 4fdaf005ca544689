"""Signal handlers of a test."""

import contextlib
import signal

from mpqueue.system.signals import deferred


@contextlib.contextmanager
def handling(handler, *numbers):
    """Install a handler of signals until the block ends."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def leave_handler_of_a_block(*numbers):
    """Install the handler that defers signals, as if a block had gone without restoring the current ones."""
    deferred._handlers.update({number: signal.getsignal(number) for number in numbers})
    for number in numbers:
        signal.signal(number, deferred._note)


def raising(error):
    """Return a handler that raises an error, or a new one of a class."""

    def handler(*_):
        raise error

    return handler
