"""Workers that hang: looked for only with a `batch_timeout`, and only while the consumer waits.

A worker that has been at one batch for too long is asked for its stacks by a signal, which `faulthandler` answers
from C whatever the interpreter is doing, through a pipe of its own; then it is killed, and its death is handled like
any other.
"""

import os
import select
import signal
import time

from mpqueue.workers.roster import Link, Roster
from mpqueue.workers.worker_main import DUMP_SIGNAL

_DUMP_S = 1.0  # a stopped process cannot answer
_QUIET_S = 0.05  # the dump comes in many small writes
_MAX_STACK_BYTES = 1 << 16


class HangWatch:
    """Deadlines of the batches at work.

    Args:
        timeout_s: Seconds that one batch may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    def time_left_s(self, roster: Roster) -> float | None:
        """Until the first batch at work is over its time; None if no worker works."""
        since = [link.busy_since for link in roster.links.values() if link.in_flight and link.dumped is None]
        if not since:
            return None
        return max(0.0, self.timeout_s - (time.perf_counter_ns() - min(since)) / 1e9)

    def end_hanging(self, roster: Roster) -> None:
        """Dump and kill the workers that are over their time."""
        now = time.perf_counter_ns()
        for link in list(roster.links.values()):
            if link.in_flight and link.dumped is None and now - link.busy_since >= self.timeout_s * 1e9:
                roster.kill(link, DUMP_SIGNAL)
                link.dumped = read_stacks(link)
                roster.kill(link, signal.SIGKILL)


def read_stacks(link: Link) -> str:
    """What a worker writes about its stacks; an explanation if it writes nothing."""
    poll = select.poll()
    poll.register(link.stacks, select.POLLIN)
    data = b""
    wait_s = _DUMP_S
    while len(data) < _MAX_STACK_BYTES and poll.poll(wait_s * 1000):
        piece = os.read(link.stacks, _MAX_STACK_BYTES)
        if not piece:
            break
        data += piece
        wait_s = _QUIET_S
    return data.decode("utf-8", "replace") or "(it did not answer: it is stopped, or stuck in the kernel)"
