"""Workers that hang, or take long: looked for only while the consumer waits.

A worker is asked for its stacks by a signal, which `faulthandler` answers from C whatever the interpreter is doing,
through a pipe of its own. The user's code goes on as if nothing had happened. Where a batch is waited for too long, the
stacks go into a warning (`SlowBatch`): after `SLOW_S`, and at doubling times. With a `batch_timeout`, a worker that has
been at one batch for longer than that is killed then, and its death is handled like any other.

A batch's time begins when its worker runs. Until then a new fork server may have to import and unpickle the source,
which
takes longer than any batch: `START_S` bounds that.

A loop over batches that stands still says nothing by itself: a dead network disk, a lock, an endless loop look alike.
Only who waits looks at the clock, so there is no thread for this, and no cost where batches come in time. Without
workers the batch is computed in the caller's own call, whose stack every tool shows.
"""

import os
import select
import time
from collections.abc import Iterator
from typing import NamedTuple

from mpqueue.engine.ledger import Ledger
from mpqueue.plan.cursors import WorkItem
from mpqueue.system.log import warn
from mpqueue.transport.poller import wait_readable
from mpqueue.worker.config import DUMP_SIGNAL
from mpqueue.workers.handle import Cause, WorkerHandle, WorkerState
from mpqueue.workers.roster import Roster

SLOW_S = 30.0
_LATE_S = 1.0  # a wait that ends so much later than it was to: this process was stopped, or somebody else's turn


class SlowBatch:
    """The time that the next batch has been waited for, since one was handed out.

    Args:
        ledger: Whose batches are waited for.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._of = -1, -1  # the work item that is waited for, and how many batches have come before
        self._waited_s, self._due_s = 0.0, SLOW_S
        self._seen_at = self._left_s = 0.0  # when it was asked last, and what the answer was

    def time_left_s(self) -> float | None:
        """Return the seconds until it has to be told of; None: the next batch is there, or nobody is to compute it."""
        ledger = self._ledger
        head, now = ledger.head, time.monotonic()
        if head in ledger.ready or not ledger.is_outstanding(head):
            return None
        if self._of != (head, ledger.num_batches):  # without an order others come: nobody has waited for this one
            self._of, self._waited_s, self._due_s = (head, ledger.num_batches), 0.0, SLOW_S
        elif (passed_s := now - self._seen_at) <= self._left_s + _LATE_S:
            self._waited_s += passed_s
        self._seen_at, self._left_s = now, max(0.0, self._due_s - self._waited_s)
        return self._left_s

    def overdue(self) -> WorkItem | None:
        """Return the work item that is to be told of now, each time once; None: there is none."""
        if self.time_left_s() != 0:
            return None
        while self.time_left_s() == 0:
            self._due_s *= 2
        return self._ledger.work_items[self._of[0]]

    def tell(self, work_item: WorkItem, who: str, stack: str) -> None:
        """Log the warning.

        Args:
            work_item: As of `overdue`.
            who: Who is at work on it.
            stack: Where that is; empty: nobody knows.
        """
        waited = f"{self._waited_s:.0f} s of waiting"
        text = f"index {work_item.unit} of epoch {work_item.epoch} is not ready after {waited}; {who}"
        warn(f"{text}:\n{stack.rstrip()}\n" if stack else text, "Worker processes", "Find slow or hanging batches")


START_S = 60.0  # until a worker runs that was granted work
_DUMP_S = 1.0  # a stopped process cannot answer
_QUIET_S = 0.05  # the dump comes in many small writes
_MAX_STACK_BYTES = 1 << 16
_NEW_S = 1.0  # a process that was started just now may not have a handler of the signal yet, and would end by it
_AT_WORK = (WorkerState.SERVING, WorkerState.STARVED)


class HangWatch:
    """Deadlines of the batches at work.

    Args:
        roster: The workers.
        timeout_s: Seconds that one batch may take.
    """

    def __init__(self, roster: Roster, timeout_s: float) -> None:
        self._roster, self._timeout_s = roster, timeout_s

    def _at_work(self) -> Iterator[WorkerHandle]:
        return (w for w in self._roster.living if w.in_flight and w.life.state in _AT_WORK)

    def time_left_s(self) -> float | None:
        """Return the seconds until the first batch at work is over its time; None if no worker works."""
        ends_at = min(map(self._ends_at, self._at_work()), default=None)
        return None if ends_at is None else max(0.0, ends_at - time.perf_counter_ns() / 1e9)

    def _ends_at(self, worker: WorkerHandle) -> float:
        start_s = START_S if worker.process is None else 0
        return worker.busy_since / 1e9 + self._timeout_s + start_s

    def end_hanging(self) -> None:
        """Ask the workers that are over their time for their stacks, and kill them."""
        now = time.perf_counter_ns() / 1e9
        for worker in self._at_work():
            if now >= self._ends_at(worker):
                worker.stacks = stacks_of(worker, self._roster)
                self._roster.kill(worker, Cause.HUNG)


def stacks_of(worker: WorkerHandle, roster: Roster) -> str:
    """Ask a worker for its stacks, which it tells in C, whatever its interpreter does."""
    _ask_for_stacks(worker, roster)
    return read_stacks(worker.pipes.stacks)


class _Question(NamedTuple):
    """A worker was asked where it is.

    Attributes:
        work_item: What is waited for.
        worker: Has it.
        who: Names the worker.
        ends_at: When no answer is expected any more.
    """

    work_item: WorkItem
    worker: WorkerHandle
    who: str
    ends_at: float


class SlowWatch:
    """Tells of the batch that is waited for too long, and where its worker is.

    It never waits for the worker's answer: a server has other things to do. What has come by the next look is read
    then, and told once no more comes.

    Args:
        ledger: Whose batches are waited for.
        roster: The workers.
    """

    def __init__(self, ledger: Ledger, roster: Roster) -> None:
        self._batch, self._ledger, self._roster = SlowBatch(ledger), ledger, roster
        self._question: _Question | None = None
        self._answer = b""

    def time_left_s(self) -> float | None:
        """Return the seconds after which `look` is to be called; None: there is nothing to tell of."""
        left_s = self._batch.time_left_s()
        return left_s if self._question is None else _QUIET_S

    def look(self) -> None:
        """Ask, or read what was answered, and tell."""
        question = self._question
        if question is None:
            self._ask()
            return
        work_item, worker, who, ends_at = question
        fd = worker.pipes.stacks
        if (
            fd >= 0
            and self._ledger.work_items.get(work_item.number) is work_item
            and work_item.number not in self._ledger.ready
        ):
            piece = os.read(fd, _MAX_STACK_BYTES) if wait_readable(fd, 0.0) else b""
            self._answer += piece
            if (piece or not self._answer) and time.monotonic() < ends_at:
                return  # the dump comes in many small writes
            self._batch.tell(work_item, f"{who} is here", _text_of(self._answer))
        self._question = None

    def _ask(self) -> None:
        work_item = self._batch.overdue()
        if work_item is None:
            return
        at_it = (w for w in self._roster.living if any(work.work_item is work_item for work in w.in_flight.values()))
        worker = next(at_it, None)
        if worker is None or worker.process is None:
            why = "no worker has begun it, because all are busy, being started, or without memory"
            self._batch.tell(work_item, why, "")
            return
        process, took_s = worker.process, (time.perf_counter_ns() - worker.busy_since) / 1e9
        where = f" on node {process.machine}" if process.machine else ""
        who = f"worker {worker.number} (pid {process.pid}{where})"
        if worker.life.state not in _AT_WORK or worker.pipes.stacks < 0 or took_s < _NEW_S:
            self._batch.tell(work_item, f"{who} has it", "")
            return
        _ask_for_stacks(worker, self._roster)
        self._answer, self._question = b"", _Question(work_item, worker, who, time.monotonic() + _DUMP_S)


def _ask_for_stacks(worker: WorkerHandle, roster: Roster) -> None:
    fd = worker.pipes.stacks
    # The answer to an earlier question, that came late. The pipe of a worker that has just died has ended.
    while wait_readable(fd, 0.0) and os.read(fd, _MAX_STACK_BYTES):
        pass
    roster.signal(worker, DUMP_SIGNAL)


def read_stacks(fd: int) -> str:
    """Return what a worker writes about its stacks; an explanation if it writes nothing."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    wait_s = _DUMP_S
    while len(data) < _MAX_STACK_BYTES and poll.poll(wait_s * 1000):
        piece = os.read(fd, _MAX_STACK_BYTES)
        if not piece:
            break
        data += piece
        wait_s = _QUIET_S
    return _text_of(data)


def _text_of(stacks: bytes) -> str:
    return stacks.decode("utf-8", "replace") or "(it did not answer: it is stopped, or stuck in the kernel)"
