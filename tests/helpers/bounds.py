"""An end for what pytest-timeout does not end.

That one ends a test that hangs, but not what comes before and after all tests (an import, the exit of the interpreter,
which waits for threads and for processes of `multiprocessing`). And once a test has failed it takes its time limit
back, as a debugger might come: a teardown that hangs then would hang for ever. Where one failure leads to such a hang,
nobody would see the failure.

The limit is one of faulthandler's: it needs neither Python's lock nor a thread of Python, prints where all threads
stand, and ends the process with status 1.
"""

import faulthandler
import os

import pytest


class Bounds:
    """A plugin of pytest.

    Args:
        limit_s: For the collection, for what follows a failure in its test, and for the exit.
    """

    def __init__(self, limit_s):
        self._limit_s = limit_s
        self._stderr = os.dup(2)  # pytest has a file in its place while tests run
        self._begin()

    def _begin(self):
        faulthandler.dump_traceback_later(self._limit_s, file=self._stderr, exit=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self):
        """All modules of tests are imported (where others run the tests, pytest-xdist, that is their business)."""
        faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(trylast=True)
    def pytest_exception_interact(self, node):
        """A test has failed, and has no other time limit from here on; pytest takes this one back behind the test."""
        if isinstance(node, pytest.Item):
            self._begin()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self):
        """There is nothing left to do but to exit."""
        self._begin()
