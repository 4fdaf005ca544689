"""Finalizers: whether they run Python code, which would lose the exception of a signal handler."""

import inspect
import signal
import sys
import time

import pytest

from helpers.injected_exceptions import Struck


def calls_of_python_in(function):
    """Return the names of the Python functions that a built-in function calls.

    Generators that end early do not count: they run no code without a ``with``, ``try`` or ``finally``. Calls in these
    count.
    """
    called = []

    def note(frame, event, _argument):
        if event == "call" and not frame.f_code.co_flags & inspect.CO_GENERATOR:
            called.append(frame.f_code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return called


def end_interrupted(monkeypatch, owner, name, end):
    """Call ``end``, which drops an object. Its finalizer calls a method; there, a signal arrives.

    The exception of its handler must leave ``end``, and the finalizer must not be interrupted.
    """
    method, calls = getattr(owner, name), []

    def strike(*arguments, **options):
        calls.append("begins")
        signal.raise_signal(signal.SIGUSR1)
        result = method(*arguments, **options)
        calls.append("ends")
        return result

    def handler(*_):
        raise Struck

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, strike)
            with pytest.raises(Struck):
                end()
                time.sleep(0)  # where Python checks for signals
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls == ["begins", "ends"]
