"""Signals that reach a whole process group and concern only its main program: batch systems warn of a time limit so.

Their default action ends a process. The helper processes of this package ignore them, by an empty handler.
Unlike `signal.SIG_IGN`, a handler ends at `exec`: programs that user code starts have the default actions.

    SIGHUP, SIGUSR1, SIGALRM, ...   ignored, unless user code of the helper installs a handler
    SIGINT                          not here: programs that a helper starts must ignore Ctrl-C, too
    SIGTERM, and stops (SIGTSTP)    default: the request to end or stop concerns each process
"""

import faulthandler
import signal

# `signal.getsignal` and `signal.signal` create an Enum for each result.
from _signal import getsignal  # type: ignore[import-not-found]
from _signal import signal as set_handler
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from mpqueue.system.signals import deferred
from mpqueue.system.signals.masks import OF_PROCESS

Handler = Callable[[int, Any], Any]

_IGNORE, _BY_DEFAULT = int(signal.SIG_IGN), int(signal.SIG_DFL)
_OF_TERMINAL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGWINCH}
_DEFAULT = {signal.SIGTERM, signal.SIGCHLD, signal.SIGURG, *_OF_TERMINAL}
_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}  # ignored by each interpreter from its start
_OTHERS = {signal.SIGINT, signal.SIGKILL, signal.SIGSTOP}
IGNORED = tuple(map(int, OF_PROCESS - _DEFAULT - _BY_PYTHON - _OTHERS))


def ignore() -> None:
    """Ignore group signals, and forget all handlers that this process has inherited or that user code has installed."""
    for number in map(int, OF_PROCESS):
        # The stacks of a forked child would go to the file of its parent. A later `register` of user code would have no
        # effect: `faulthandler` counts the signal as registered.
        faulthandler.unregister(number)
    for number in IGNORED:
        _ignore_one(number)
    for number in _BY_PYTHON:
        set_handler(number, _IGNORE)
    for number in _DEFAULT:
        if callable(getsignal(number)):
            set_handler(number, _BY_DEFAULT)


def take() -> dict[int, Handler]:
    """Ignore group signals again, and return the handlers that user code has installed since `ignore`."""
    taken = {number: handler for number in IGNORED if callable(handler := getsignal(number)) and handler is not _pass}
    for number in taken:
        _ignore_one(number)
    return taken


def install(handlers: Mapping[int, Handler]) -> None:
    """Install handlers that `take` has returned."""
    for number, handler in handlers.items():
        set_handler(number, handler)


def blocked() -> AbstractContextManager[None]:
    """Block group signals and Ctrl-C inside the context, for processes that ignore them after their start."""
    return deferred.block_and_defer({signal.SIGINT, *IGNORED})


def _ignore_one(number: int) -> None:
    # `nohup` ignores SIGHUP also for the programs that this process starts.
    if getsignal(number) != _IGNORE:
        set_handler(number, _pass)
        signal.siginterrupt(number, False)  # C code of user libraries may not expect an interrupted system call


def _pass(_number: int, _frame: object) -> None:
    """Handle a signal by no action."""
