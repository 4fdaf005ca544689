"""Slow batches and hanging workers; both are checked only while the consumer waits.

A signal requests a worker's stacks. `faulthandler` answers it from C, whatever the interpreter does, through a separate
pipe, and the user's code continues. If the consumer waits too long for a batch, a warning contains the stacks
(`SlowBatch`): after `SLOW_S`, and again at doubling times. With a `batch_timeout`, a worker that exceeds it with one
batch is killed, and then treated like a crashed one.

Time while the consumer does not wait, or is stopped, does not count: the workers may be stopped, too. The time of a
batch begins when its worker runs. A new fork server may first have to import modules and unpickle the
source, which takes longer than a batch: `START_S` limits that.

Without this check a hanging loop is silent: a dead network disk, a lock and an endless loop look alike. Only a
waiting consumer reads the clock, so the check needs no thread, and has no cost while batches arrive in time. Without
workers the caller computes the batch itself, and any tool shows its stack.
"""

import os
import time
from collections.abc import Callable, Iterator

from mpqueue.backends.processes.handle import Cause, WorkerHandle, WorkerState
from mpqueue.backends.processes.roster import Roster
from mpqueue.engine.ledger import Ledger
from mpqueue.errors import batch_text
from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.system.log import warn
from mpqueue.transport.poller import wait_readable
from mpqueue.worker.config import DUMP_SIGNAL

SLOW_S = 30.0
_LOOK_S = 1.0  # maximum time between two reads of the clock while the consumer waits
_LATE_S = 1.0  # a wait that ends this much late: this process was stopped, or other processes had the CPU


class Looks:
    """Readings of the clock by a consumer, which show for how long it did not wait, or was stopped.

    A stop of the process group, or a freeze of its container, stops the workers too.
    """

    def __init__(self) -> None:
        self._seen_at = self._left_s = 0.0  # the time of the last look, and the seconds until the next one is due

    def missed_s(self, now: float) -> float:
        """Return the seconds since the last look when the consumer did not wait, or was stopped."""
        missed_s = now - self._seen_at - self._left_s
        self._seen_at, self._left_s = now, 0.0
        return missed_s if missed_s > _LATE_S else 0.0

    def next_in_s(self, left_s: float) -> float:
        """Return the seconds until the next look is due, if a time ends in ``left_s`` seconds."""
        # Often, so that a stop is noticed in the middle of a long wait.
        # Not `min` and `max`, which take 0.2 µs: called for each wait.
        self._left_s = _LOOK_S if left_s > _LOOK_S else left_s if left_s > 0 else 0.0
        return self._left_s


class SlowBatch:
    """The waiting time of the consumer since the last batch.

    Args:
        ledger: The ledger of the batches.
        samples_of: Returns the samples of a batch, see `mpqueue.backends.job.Job.samples_of`.
    """

    def __init__(self, ledger: Ledger, samples_of: Callable[[WorkItem], SampleIds]) -> None:
        self._ledger, self._samples_of = ledger, samples_of
        self._of = -1, -1  # the next work item, and the number of batches delivered so far
        self._since, self._due_s = 0.0, SLOW_S  # the beginning of the wait, moved by the time that does not count
        self._looks = Looks()

    def time_left_s(self) -> float | None:
        """Return the seconds until the next look is due, 0 if a warning is due.

        None: The next batch is ready, or was not requested.
        """
        ledger = self._ledger
        head, now = ledger.head, time.monotonic()
        if head in ledger.ready or head not in ledger.work_items:
            return None
        missed_s = self._looks.missed_s(now)
        # Without an order other batches may arrive: the wait for this one starts now.
        if self._of != (head, ledger.counts.num_batches):
            self._of, self._since, self._due_s = (head, ledger.counts.num_batches), now, SLOW_S
        elif missed_s:
            self._since = min(now, self._since + missed_s)
        return self._looks.next_in_s(self._since + self._due_s - now)

    def overdue(self) -> WorkItem | None:
        """Return the work item to warn of now, once for each time, or None."""
        if self.time_left_s() != 0:
            return None
        # A loop: after a long wait in the training step, several times may have passed, and one warning is enough.
        while self.time_left_s() == 0:
            self._due_s *= 2
        return self._ledger.work_items[self._of[0]]

    def tell_awaited(self, work_item: WorkItem, who: str, awaited: str) -> None:
        """Log the warning for a worker that waits for a coroutine; see `mpqueue.worker.concurrency.stuck`."""
        what, _, stack = awaited.partition("\n")
        self.tell(work_item, f"{who} awaits {what}, which is here", stack)

    def tell(self, work_item: WorkItem, who: str, stack: str) -> None:
        """Log the warning.

        Args:
            work_item: The result of `overdue`.
            who: Description of the worker that computes it.
            stack: The worker's stack; empty if unknown.
        """
        batch = batch_text(work_item.source_index, work_item.epoch, self._samples_of(work_item))
        message = f"{batch} is not ready after {time.monotonic() - self._since:.0f} s of waiting; {who}"
        warn(
            f"{message}:\n{stack.rstrip()}\n" if stack else message, "Worker processes", "Find slow or hanging batches"
        )


START_S = 60.0  # until a worker with granted work runs
_DUMP_S = 1.0  # a stopped process does not answer
_QUIET_S = 0.05  # the dump arrives in many small writes
# The capacity of a pipe. `faulthandler` writes at most 100 threads of 100 frames each.
_MAX_STACK_BYTES = 1 << 16
_NEW_S = 1.0  # a process that has just started may not have a handler yet, and the signal would end it
_AT_WORK = (WorkerState.SERVING, WorkerState.STARVED)


class HangWatch:
    """Deadlines of the batches that are being computed.

    Args:
        roster: The workers.
        timeout_s: Maximum seconds for one batch.
    """

    def __init__(self, roster: Roster, timeout_s: float) -> None:
        self._roster, self._timeout_s = roster, timeout_s
        self._looks = Looks()

    def _at_work(self) -> Iterator[WorkerHandle]:
        return (w for w in self._roster.living if w.in_flight and w.life.state in _AT_WORK)

    def time_left_s(self) -> float | None:
        """Return the seconds until the next look is due; None if no worker is busy."""
        now = self._look()
        ends_at = min(map(self._ends_at, self._at_work()), default=None)
        return None if ends_at is None else self._looks.next_in_s(ends_at - now)

    def _look(self) -> float:
        """Exclude the time since the last look that does not count; return the time."""
        now = time.perf_counter_ns()
        missed_ns = int(self._looks.missed_s(now / 1e9) * 1e9)
        if missed_ns:
            for worker in self._at_work():
                worker.busy_since = min(now, worker.busy_since + missed_ns)
        return now / 1e9

    def _ends_at(self, worker: WorkerHandle) -> float:
        start_s = START_S if worker.process is None else 0
        return worker.busy_since / 1e9 + self._timeout_s + start_s

    def end_hanging(self) -> None:
        """Read the stacks of workers that exceed their time, and kill them."""
        now = self._look()
        for worker in self._at_work():
            if now >= self._ends_at(worker):
                worker.stacks = stacks_of(worker, self._roster)
                # After the stacks were read: a killed process has no stacks.
                self._roster.kill(worker, Cause.HUNG)


def tell_of_slow(batch: SlowBatch, roster: Roster) -> None:
    """Warn of an overdue batch, with the stacks of its worker."""
    work_item = batch.overdue()
    if work_item is None:
        return
    at_it = (w for w in roster.living if any(work.work_item is work_item for work in w.in_flight.values()))
    worker = next(at_it, None)
    if worker is None or worker.process is None:
        batch.tell(work_item, "no worker has started it, because all are busy, starting, or waiting for memory", "")
        return
    process, took_s = worker.process, (time.perf_counter_ns() - worker.busy_since) / 1e9
    where = f" on node {process.machine}" if process.machine else ""
    who = f"worker {worker.index} (pid {process.pid}{where})"
    if worker.awaited:
        batch.tell_awaited(work_item, who, worker.awaited)
    elif worker.life.state not in _AT_WORK or worker.pipes.stacks < 0 or took_s < _NEW_S:
        batch.tell(work_item, f"{who} computes it", "")
    else:
        batch.tell(work_item, f"{who} is here", stacks_of(worker, roster))


def stacks_of(worker: WorkerHandle, roster: Roster) -> str:
    """Return the stacks of a worker, written in C, whatever its interpreter does; or why there are none."""
    fd = worker.pipes.stacks
    # A late answer to an earlier request. The pipe of a worker that has just exited returns end-of-file.
    # Otherwise the text would be shown as the present stack, though the worker is elsewhere by now.
    while wait_readable(fd, 0.0) and os.read(fd, _MAX_STACK_BYTES):
        pass
    roster.signal(worker, DUMP_SIGNAL)
    data, until = b"", time.monotonic() + _DUMP_S
    # A limit for each piece: `faulthandler` reports no end, and the worker keeps the pipe open.
    while len(data) < _MAX_STACK_BYTES and wait_readable(fd, until):
        piece = os.read(fd, _MAX_STACK_BYTES)
        if not piece:
            break
        data += piece
        # In the middle of a line more follows, however late on a busy machine.
        until = time.monotonic() + (_QUIET_S if data.endswith(b"\n") else _DUMP_S)
    return data.decode("utf-8", "replace") or "(no answer: the worker is stopped, or stuck in the kernel)"
