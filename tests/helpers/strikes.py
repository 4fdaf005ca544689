"""An exception, as of a signal's handler, at the n-th place in the package: where Python looks for signals, or anywhere.

Only the package's own files count. Neither the tests nor this file do, in whatever folder they lie: how many places
there are in a test is up to the machine's load, and one in an ``__exit__`` of ours would be one that nobody expects.
"""

import dis
import os
import random
import signal
import sys
import warnings
import weakref

import mpqueue
from mpqueue.system.interrupts import are_signals_deferred, deliver_after_return

_PACKAGE = os.path.dirname(mpqueue.__file__) + os.sep


_OF_COLLECTOR = (
    weakref.finalize.__call__.__code__,
    deliver_after_return.__code__,
    weakref.WeakSet()._remove.__code__,  # of the threads that `threading` knows
)


class Struck(BaseException):
    """What the handler raises, as KeyboardInterrupt is raised."""


class StruckException(Struck, Exception):
    """One that ``except Exception`` catches, as a time limit is."""


class StruckError(Struck, ValueError, IndexError, KeyError, TypeError, RuntimeError):
    """One that code takes for an error that it expects."""


# After these Python looks whether a signal has come; a handler runs there, and nowhere else.
_CHECKED = {number for name, number in dis.opmap.items() if name.startswith(("CALL", "JUMP_BACKWARD", "RESUME"))}
_RESUME = dis.opmap["RESUME"]
# Except where the call has raised: then Python enters the handler of that exception first, and what is raised before
# this instruction would leave the exception as the thread's own, with all that its frames hold.
_ENTERS_HANDLER = dis.opmap["PUSH_EXC_INFO"]


def is_ours(frame):
    """Whether a frame runs code of the package."""
    return frame.f_code.co_filename.startswith(_PACKAGE)


def _can_be_struck(frame):
    """Whether handlers run in a frame: not where they are replaced and put back."""
    return is_ours(frame) and not frame.f_code.co_filename.endswith(f"{os.sep}interrupts.py")


def in_finalizer(frame):
    """Whether a `weakref.finalize`, or another callback of the collector's, has called this, directly or not.

    What comes in the latter is raised behind it, in whatever frame that is.
    """
    # JAX's and hypothesis's, once these were imported.
    if frame is not None and frame.f_code.co_name in {"_xla_gc_callback", "gc_callback"}:
        return True
    while frame is not None and frame.f_code not in _OF_COLLECTOR:
        frame = frame.f_back
    return frame is not None


def is_at_work(frame):
    """Whether the package's code runs in this frame or has called it, and no finalizer has."""
    if in_finalizer(frame):
        return False
    while frame is not None and not is_ours(frame):
        frame = frame.f_back
    return frame is not None


class Strike:
    """Sends this process a signal at the n-th place in the engine where Python looks for one, in this thread.

    Args:
        after: Which place.
        finalizers: Strike in a finalizer, too. There Python ignores what a handler raises, and reports it: the report
            is dropped, and the test sees what the finalizer has not done. Else a strike waits for the finalizer's end:
            when one runs is up to the garbage collection.
        error: The class of what the handler raises, a `Struck`.
    """

    def __init__(self, after, *, finalizers=False, error=Struck):
        self.left, self._pid, self._finalizers, self._error = after, os.getpid(), finalizers, error
        self._latest = {}  # opcode, by frame

    def __enter__(self):
        self._handler = signal.signal(signal.SIGUSR1, self._raise)
        self._report, sys.unraisablehook = sys.unraisablehook, self._report_others
        sys._getframe().f_trace_opcodes = True  # Python 3.12 tells of opcodes if any frame wants them when this is set:
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
        self._latest[id(frame.f_back)] = None  # the return from Python code is no place to look
        if not _can_be_struck(frame):
            return None
        frame.f_trace = self._step  # before the next line: else Python 3.13 and newer report no opcode of this frame
        frame.f_trace_opcodes = True
        self._latest[id(frame)] = _RESUME  # which CPython does not report: signals come at a function's beginning, too
        return self._step

    def _step(self, frame, event, _argument):
        if event == "opcode":
            latest, opcode = self._latest[id(frame)], frame.f_code.co_code[frame.f_lasti]
            self._latest[id(frame)] = opcode
            if latest in _CHECKED and opcode != _ENTERS_HANDLER:
                self._count_down(frame)
        return self._step

    def _count_down(self, frame):
        if self.left == 1 and not self._finalizers and in_finalizer(frame):
            return
        self.left -= 1
        if os.getpid() != self._pid:  # a forked child
            sys.settrace(None)
        elif self.left == 0:
            sys.settrace(None)
            signal.raise_signal(signal.SIGUSR1)


class StrikeBeforeLine:
    """Raises before the n-th line of the package, in this thread, where a handler could; not in a finalizer."""

    def __init__(self, after):
        self.left = after

    def __enter__(self):
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _enter(self, frame, _event, _argument):
        return self._step if _can_be_struck(frame) else None

    def _step(self, frame, event, _argument):
        # No handler runs where signals are deferred. A strike before that block's end left SIGINT without its handler,
        # and a test of Ctrl-C that followed waited for ever.
        if event == "line" and not are_signals_deferred() and not (self.left == 1 and in_finalizer(frame)):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise Struck
        return self._step


class StruckByAlarm:
    """Has SIGALRM raise once in the package's code, when it is armed. In a finalizer it does nothing: what a handler
    raises there is ignored.

    Args:
        error: What is raised.
    """

    def __init__(self, error):
        self._error, self._is_armed = error, False

    def __enter__(self):
        # Python's own `Path.read_text` warns of a file that it closes, where one strikes between its open and its with.
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
        if self._is_armed and is_at_work(frame):
            self._is_armed = False
            self._note()
            raise self._error


class Alarms(StruckByAlarm):
    """Calls that a real signal strikes at any moment, in C code and between; what nobody can tell is not struck.

    The handler raises if a frame of the engine is at work. A caller's own frame may lose what it was given, and where
    a finalizer runs is up to the garbage collection: there it does nothing.

    Args:
        seed: Of the moments.
        error: The class of what is raised: a time limit raises an Exception, Ctrl-C does not.

    Attributes:
        count: How often it has struck.
    """

    def __init__(self, seed, error=Struck):
        super().__init__(error)
        self._random, self.count = random.Random(seed), 0

    def _note(self):
        self.count += 1

    def call(self, function, *arguments):
        """Return what a call returns, in a list; an empty list if it was struck."""
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
