"""Forked children that look at a batch of their parent when the test requests it."""

import contextlib
import os
import signal
import warnings

import pytest


class ReadingChild:
    """A forked child that waits.

    Args:
        is_right: Called in the child at the end; returns whether the batch is unchanged.
        fork: Forks this process.
    """

    def __init__(self, is_right=lambda: True, fork=os.fork):
        wait, self._go = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads of other libraries
            self.pid = fork()
        if self.pid == 0:
            status = 2
            try:
                os.close(self._go)
                os.read(wait, 1)
                status = int(not is_right())
            finally:
                os._exit(status)
        os.close(wait)

    def end(self):
        """Make the child look at its batch; return whether it was unchanged, after the child has exited."""
        os.write(self._go, b"x")
        return self._reap() == 0

    def kill(self):
        """Kill the child, unless it has exited."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def _reap(self):
        pid, self.pid = self.pid, 0
        os.close(self._go)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def fork_reading():
    """Return a function that forks a `ReadingChild`. Children that are left are killed at the end of the test."""
    children = []

    def fork(*arguments, **options):
        children.append(ReadingChild(*arguments, **options))
        return children[-1]

    yield fork
    for child in children:
        child.kill()
