"""Counts of the tests that start processes, and of the tests that take more than a second of CPU time.

``scripts/test`` compares the sums with bounds, so that the tests do not become slow one by one. CPU time depends little
on the load of the machine.
"""

import os
import subprocess
from functools import wraps

import pytest

from mpqueue.backends.start.launcher import ForkServer

_LONG_S = 1.0


class Costs:
    """A plugin of pytest that prints the counts at the end of the run.

    The CPU time is the time of this process and of its waited children, without the workers of a fork server.
    """

    def __init__(self):
        self._num_started = self._num_tests = self._num_long = 0
        os.register_at_fork(after_in_parent=self._started)
        subprocess.Popen._execute_child = self._counted(subprocess.Popen._execute_child)
        ForkServer.start_worker = self._counted(ForkServer.start_worker)

    def _started(self):
        self._num_started += 1

    def _counted(self, start):
        @wraps(start)
        def started(*arguments, **options):
            self._started()
            return start(*arguments, **options)

        return started

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self):
        num_started, begun_s = self._num_started, sum(os.times()[:4])
        result = yield
        self._num_tests += self._num_started > num_started
        self._num_long += sum(os.times()[:4]) - begun_s > _LONG_S
        return result

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.line(f"costs: {self._num_tests} with processes, {self._num_long} long")
