"""Whose doing a death was, alone."""

import signal

import pytest

from mpqueue.workers.crash_attribution import CrashAttribution
from mpqueue.workers.handle import Cause


class Kills:
    """A counter of the kernel's kills: each is taken once."""

    def __init__(self, count):
        self.count = count

    def take_kill(self):
        self.count -= 1
        return self.count >= 0


@pytest.fixture
def blame():
    made = CrashAttribution(None, None)
    made._oom = Kills(1)
    return made


def test_a_kill_that_the_kernel_has_counted_was_for_lack_of_memory(blame):
    assert blame.was_oom_killed(-signal.SIGKILL) is True
    assert blame.was_oom_killed(-signal.SIGKILL) is False


@pytest.mark.parametrize(
    ("exitcode", "cause"), [(-signal.SIGSEGV, None), (None, None), (1, None), (-signal.SIGKILL, Cause.HUNG)]
)
def test_another_end_is_no_lack_of_memory_and_takes_no_count(blame, exitcode, cause):
    assert blame.was_oom_killed(exitcode, cause) is False
    assert blame.was_oom_killed(-signal.SIGKILL) is True
