"""Finalizers: whether they run Python code, in which the exception of a signal handler would be lost."""

import inspect
import sys


def calls_of_python_in(function):
    """Return the names of the Python functions that a built-in function calls.

    Generators that end early do not count: they run no code unless they have a ``with``, ``try`` or ``finally``, whose
    calls count.
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
