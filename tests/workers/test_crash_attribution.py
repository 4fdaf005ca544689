"""Crash attribution, tested alone."""

import signal

import pytest

from mpqueue.workers import crash_attribution
from mpqueue.workers.handle import Cause


class Kills:
    """A counter of kernel kills; each can be taken once."""

    def __init__(self, count):
        self.count = count

    def take_kill(self):
        self.count -= 1
        return self.count >= 0


@pytest.fixture
def attribution(monkeypatch):
    monkeypatch.setattr(crash_attribution, "OomCounter", lambda _: Kills(1))
    return crash_attribution.CrashAttribution(None, None)


def test_counted_kernel_kill_is_a_lack_of_memory(attribution):
    assert attribution.was_oom_killed(-signal.SIGKILL) is True
    assert attribution.was_oom_killed(-signal.SIGKILL) is False


@pytest.mark.parametrize(
    ("exitcode", "cause"), [(-signal.SIGSEGV, None), (None, None), (1, None), (-signal.SIGKILL, Cause.HUNG)]
)
def test_other_exits_are_not_a_lack_of_memory_and_take_no_count(attribution, exitcode, cause):
    assert attribution.was_oom_killed(exitcode, cause) is False
    assert attribution.was_oom_killed(-signal.SIGKILL) is True
