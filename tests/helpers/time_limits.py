"""A time limit for the hangs that pytest-timeout does not cover.

pytest-timeout ends a test that hangs. It does not cover the time before and after all tests: imports, and the exit of
the interpreter, which waits for threads and for processes of `multiprocessing`. It also cancels its limit once a test
has failed, in case a debugger follows, so a teardown could hang indefinitely and hide the failure.

The limit is set with faulthandler. It needs neither the GIL nor a Python thread, prints the stacks of all threads, and
ends the process with status 1.
"""

import faulthandler
import os

import pytest


class Bounds:
    """A pytest plugin that limits collection, teardown after a failure, and exit.

    Args:
        limit_s: Limit in seconds of each of these phases.
    """

    def __init__(self, limit_s):
        self._limit_s = limit_s
        self._stderr = os.dup(2)  # pytest replaces descriptor 2 by a file while tests run
        self._begin()

    def _begin(self):
        faulthandler.dump_traceback_later(self._limit_s, file=self._stderr, exit=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self):
        """Cancel the limit, because all test modules are imported. (pytest-xdist imports them in its own processes.)"""
        faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(trylast=True)
    def pytest_exception_interact(self, node):
        """Set the limit again after a failed test, because pytest-timeout has cancelled its own."""
        if isinstance(node, pytest.Item):
            self._begin()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self):
        """Limit the exit of the interpreter."""
        self._begin()
