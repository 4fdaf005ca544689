"""Signals that a thread blocks, and that wait until it unblocks them.

The kernel may deliver a signal of the process to any thread that does not block it, if the main thread has another
pending signal or is stopped. That does not end a wait of the main thread, where the handler must run. So this package's
threads block signals.
"""

import signal

# The function of `signal` creates an Enum for each result: 40 times slower.
from _signal import valid_signals  # type: ignore[import-not-found]
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from mpqueue.system.signals.contexts import context_manager

# Signals that a thread causes itself.
_ERRORS = ("SIGABRT", "SIGBUS", "SIGEMT", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
OF_PROCESS = {*valid_signals()}.difference(getattr(signal, name, 0) for name in _ERRORS)


def block_signals() -> None:
    """Block the signals of the process in this thread, so that other threads receive them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, OF_PROCESS)


def set_signal_mask(blocked: AbstractSet[int] = frozenset()) -> None:
    """Block these signals in this thread, and no others.

    Raises:
        BaseException: The handler of a signal that was blocked until now has raised. The mask is set.
    """
    pending = signal.sigpending() - blocked
    if not pending:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return
    # One by one: of several, the kernel puts all frames on the stack before a handler returns. The stack that
    # `faulthandler` installs has room for three frames of a CPU with AVX-512 (3.4 KB each), and the fourth signal would
    # end the process by SIGSEGV.
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {pending.pop()})
    finally:
        set_signal_mask(blocked)


@context_manager
def unblock_signals() -> Iterator[None]:
    """Unblock all signals inside the context, so that user code starts processes with this setting."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_PROCESS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
