"""Exceptions as in signal handlers, raised at the n-th possible place in the package.

"Possible" is a place where Python checks for signals. Only files of the package count. Tests and this file are excluded:
the number of places in a test depends on the load of the machine, and no handler would expect an exception in an
``__exit__`` of a test.
"""

import contextlib
import dis
import inspect
import itertools
import os
import random
import signal
import sys
import warnings
import weakref

import mpqueue
from helpers.sweeps import step_of
from mpqueue.system.signals import collected
from mpqueue.system.signals.deferred import deliver_after_return

_PACKAGE = os.path.dirname(mpqueue.__file__) + os.sep


_OF_COLLECTOR = (
    weakref.finalize.__call__.__code__,
    collected._end.__code__,
    deliver_after_return.__code__,
    weakref.WeakSet()._remove.__code__,  # used by `threading` for its threads
)


class Struck(BaseException):
    """The exception that the handler raises, a `BaseException` like KeyboardInterrupt."""


class StruckException(Struck, Exception):
    """An exception that ``except Exception`` catches, like a time limit's."""


class StruckLimit(Struck, TimeoutError):
    """A time limit, which is an OSError, as errors of files and connections are."""


class StruckError(Struck, ValueError, IndexError, KeyError, TypeError, RuntimeError):
    """An exception that code mistakes for an expected error."""


_DEFERS = {"deferred.py", "interrupts.py", "masks.py"}  # of `mpqueue.system.signals`
# Python checks for signals after these instructions, and runs handlers only there.
_CHECKED = {number for name, number in dis.opmap.items() if name.startswith(("CALL", "JUMP_BACKWARD", "RESUME"))}
# Except if the call has raised: Python enters the handler of that exception first. If another exception were raised
# before this instruction, the first one would remain the thread's current exception, with all objects of its frames.
_ENTERS_HANDLER = dis.opmap["PUSH_EXC_INFO"]
_IS_CHECKED, _IS_HANDLER = 1, 2  # in the table of a code object
# For each code object by its id, because its hash reads all its instructions: the table of its instructions (None if it
# cannot be struck), and the object, which keeps the id valid.
_tables = {}


def _table_of(frame):
    """Return the kinds of a frame's instructions by their offset, or None if signal handlers cannot raise in it."""
    code = frame.f_code
    known = _tables.get(id(code))
    if known is None:
        kinds = None
        if _can_be_struck(frame):
            kinds = bytes(
                _IS_CHECKED if opcode in _CHECKED else _IS_HANDLER if opcode == _ENTERS_HANDLER else 0
                for opcode in code.co_code
            )
        known = _tables[id(code)] = kinds, code
    return known[0]


def is_ours(frame):
    """Return whether a frame runs code of the package."""
    return frame.f_code.co_filename.startswith(_PACKAGE)


def strike_in_contextlib_too(monkeypatch):
    """Until the test ends, code of `contextlib` counts as code of the package."""

    def is_either(frame):
        return frame.f_code.co_filename.startswith((_PACKAGE, contextlib.__file__))

    monkeypatch.setattr(sys.modules[__name__], "is_ours", is_either)
    monkeypatch.setattr(sys.modules[__name__], "_tables", {})  # they contain which code can be struck


def _can_be_struck(frame):
    """Return whether signal handlers can raise in a frame, which excludes the code that replaces and restores them."""
    return is_ours(frame) and os.path.basename(frame.f_code.co_filename) not in _DEFERS


def in_finalizer(frame):
    """Return whether a `weakref.finalize` or another callback of the garbage collector is an ancestor of this frame.

    A signal that arrives in such a callback raises after it, in an arbitrary frame.
    """
    # Callbacks of JAX and hypothesis, once these are imported.
    if frame is not None and frame.f_code.co_name in {"_xla_gc_callback", "gc_callback"}:
        return True
    while frame is not None and frame.f_code not in _OF_COLLECTOR:
        frame = frame.f_back
    return frame is not None


def runs_package_code(frame):
    """Return whether this frame or an ancestor runs the package's code, and no finalizer does."""
    if in_finalizer(frame):
        return False
    while frame is not None and not is_ours(frame):
        frame = frame.f_back
    return frame is not None


class Strike:
    """Send this process a signal at the n-th place in the engine where Python checks for signals in this thread.

    Args:
        after: Number of the place.
        finalizers: Whether to strike in finalizers, too. There, Python ignores and reports exceptions of handlers. The
        report is dropped; the test must notice the skipped part of the finalizer. Otherwise a strike is delayed until
        after the finalizer, because its time depends on the garbage collector.
        error: Class of the exception, a `Struck`.
    """

    def __init__(self, after, *, finalizers=False, error=Struck):
        self.left, self._pid, self._finalizers, self._error = after, os.getpid(), finalizers, error
        self._num_entries = 0  # of functions and resumed generators

    def __enter__(self):
        self._handler = signal.signal(signal.SIGUSR1, self._raise)
        self._report, sys.unraisablehook = sys.unraisablehook, self._report_others
        # Python 3.12 reports opcodes only if a frame requests them at the time of `sys.settrace`.
        inspect.currentframe().f_trace_opcodes = True
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_):
        sys.settrace(None)
        signal.signal(signal.SIGUSR1, self._handler)
        sys.unraisablehook = self._report

    def _report_others(self, ignored):
        if ignored.exc_type is not self._error:
            self._report(ignored)

    def _raise(self, *_):
        raise self._error

    def _enter(self, frame, _event, _argument):
        self._num_entries += 1
        kinds = _table_of(frame)
        if kinds is None:
            return None
        # CPython does not report `RESUME`, but it handles signals at the beginning of a function, too.
        checked_at = self._num_entries

        def step(frame, event, _argument):
            nonlocal checked_at
            if event == "opcode":
                kind = kinds[frame.f_lasti]
                # Python does not check for signals when a Python function returns. If a function was entered since the
                # last instruction, this frame has called it, perhaps through C code.
                if checked_at == self._num_entries and kind != _IS_HANDLER:
                    self._count_down(frame)
                checked_at = self._num_entries if kind == _IS_CHECKED else None
            return frame.f_trace  # this function, without a reference cycle

        # Before the next line, otherwise Python 3.13 and newer report no opcode of this frame.
        frame.f_trace = step
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return step

    def _count_down(self, frame):
        if self.left == 1 and not self._finalizers and in_finalizer(frame):
            return
        self.left -= 1
        if os.getpid() != self._pid:  # a forked child
            sys.settrace(None)
        elif self.left == 0:
            sys.settrace(None)
            signal.raise_signal(signal.SIGUSR1)


def each_strike(step=1, *, first=1, least=50, make=Strike):
    """Yield the numbers of places in the package, each with its interrupt, until no place is left.

    Args:
        step: Distance between two places, in a whole sweep.
        first: Number of the first place.
        least: Lower limit of the number of places.
        make: Creates the interrupt from the number of its place.
    """
    for after in itertools.count(first, step_of(step)):
        strike = make(after)
        yield after, strike
        if strike.left > 0:
            break
    assert after > least


class StruckByAlarm:
    """A SIGALRM handler that raises once in the package's code when it is armed.

    In a finalizer it does not raise, because exceptions of handlers are ignored there.

    Args:
        error: The exception to raise.
    """

    def __init__(self, error):
        self._error, self._is_armed = error, False

    def __enter__(self):
        # Python's `Path.read_text` warns of an unclosed file if a signal strikes between its `open` and its `with`.
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)
        self._before = signal.signal(signal.SIGALRM, self._strike)
        return self

    def __exit__(self, *_):
        self._is_armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        self._warnings.__exit__(None, None, None)

    def _strike(self, _number, frame):
        if self._is_armed and runs_package_code(frame):
            self._is_armed = False
            self._note()
            raise self._error


class Alarms(StruckByAlarm):
    """Calls that are interrupted by a real signal at a random moment, also within C code.

    The handler raises if a frame of the engine is running. It does not raise in frames of the caller, which could lose
    a returned value, nor in finalizers, because their time depends on the garbage collector.

    Args:
        seed: Seed of the moments.
        error: Class of the exception. A time limit raises an `Exception`, Ctrl-C a `BaseException`.

    Attributes:
        count: Number of signals that raised.
    """

    def __init__(self, seed, error=Struck):
        super().__init__(error)
        self._random, self.count = random.Random(seed), 0

    def _note(self):
        self.count += 1

    def call(self, function, *arguments):
        """Return the result of a call in a list, or an empty list if the call was interrupted."""
        try:
            signal.setitimer(signal.ITIMER_REAL, self._random.uniform(1e-6, self._random.choice((2e-5, 2e-4, 1e-3))))
            self._is_armed = True
            found = function(*arguments)
            self._is_armed = False
            return [found]
        except self._error:
            return []
        finally:
            self._is_armed = False


def batches_despite(strike, loader):
    """Return the batches of an epoch, from a loop that continues after each exception of the handler."""
    epoch, found = None, []
    with strike:
        while True:
            try:
                epoch = iter(loader) if epoch is None else epoch
                found.append(next(epoch))
            except Struck:
                continue
            except StopIteration:
                return found
