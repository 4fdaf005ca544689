"""The consumer's side: hands out batches in order, ends epochs, and keeps the workers in work.

There is no feeder thread. The consumer's own `next` takes what has arrived, deals more tickets, and waits if the head
of the line is not there; workers run ahead on the credit that they hold. Threads that may come by (several consumers,
a `stop` from elsewhere, the one-shot epoch-end thread) take turns by one lock; user code that is called here
(`on_epoch_end`) runs inside it and may call back.

What runs the tickets is a `Backend`: processes, threads, or the caller itself. It *pulls*: `Pipeline.deal` gives it
the next ticket as long as there is credit, so that there is one place that counts.

The end of an epoch (where the source has an `on_epoch_end` of its own): due once the epoch's last batch was handed
out. It then runs inside the following `next`, or 0.1 s later in a one-shot thread if no `next` and no `stop` came by,
so that the next epoch is prepared while the trainer validates. Not at once, because programs read the state of the
epoch right after its last batch. What it raises is raised by the following `next`.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from mpqueue.control.schedule import EpochSchedule, StreamSchedule, Ticket

EPOCH_END_DELAY_S = 0.1

_clock = time.perf_counter_ns


class EndOfStream(Exception):
    """The source has ended: there will be no more batches."""


class Stopped(Exception):
    """The pipeline was stopped while, or before, the caller waited."""


class Outcome(Protocol):
    """What became of a ticket."""

    is_end: bool

    def open(self) -> Any:
        """The batch; raises what the source raised."""
        ...


class Backend(Protocol):
    """Runs tickets; called under the pipeline's lock only, but for `wake`."""

    ready: dict[int, Any]  # outcomes by the number of their ticket, in the order of their coming
    chunk: int  # how many tickets are worth a `pump`
    low_water: int  # with fewer tickets at work than this, any is

    def pump(self) -> None:
        """Take as many tickets as `Pipeline.deal` gives and get them done."""
        ...

    def wait(self, head: int, *, block: bool = True) -> None:
        """Take in what has arrived; if nothing has, wait for the next event, or for `wake`.

        ``head`` is the ticket that the consumer waits for.
        """
        ...

    def cancel(self) -> None:
        """Forget all tickets, those at work included."""
        ...

    def is_stale(self) -> bool:
        """Whether the workers' source differs from the caller's, or may do so."""
        ...

    def refresh(self) -> None:
        """The source may have changed: work dealt from now on is computed from its present state."""
        ...

    def wake(self) -> None:
        """Make a blocked `wait` return; from any thread, also inside a signal handler."""
        ...

    def stop(self, timeout_s: float | None) -> None:
        """End all workers and free everything.

        Raises:
            StopTimeout: Some did not end in time.
        """
        ...


class Pipeline:
    """One stream of batches out of one source.

    Args:
        schedule: Deals the tickets.
        credit: How many tickets may be dealt and not yet handed out.
        epoch_end: Called once per epoch, after its last batch; None: there is nothing to call.
        ordered: Hand out in the order of the tickets; otherwise as they come.
        timed_epoch_end: Run a due epoch end by itself after 0.1 s.
    """

    def __init__(
        self,
        schedule: EpochSchedule | StreamSchedule,
        credit: int,
        *,
        epoch_end: Callable[[], Any] | None = None,
        ordered: bool = True,
        timed_epoch_end: bool = True,
    ) -> None:
        self.schedule = schedule
        self.lock = threading.RLock()
        self.credit = credit
        self.epoch, self.position = schedule.epoch, 0  # of the next batch to be handed out
        self.delivered_ahead: set[int] = set()  # positions beyond it that were handed out (unordered only)
        self.counts = [0] * schedule.num_lanes if isinstance(schedule, StreamSchedule) else []  # delivered, by lane
        self.next_lane = 0
        self.num_batches = 0
        self.wait_ns = 0
        self._epoch_end, self._ordered, self._timed = epoch_end, ordered, timed_epoch_end
        self._outstanding = 0
        self._head = 0
        self._tickets: dict[int, Ticket] = {}
        self.backend: Backend | None = None
        self._is_due = False
        self._is_paused = False
        self._timer: threading.Timer | None = None
        self._failure: BaseException | None = None
        self._pid = os.getpid()
        self._is_foreign = False  # this is a forked child's copy
        self.is_stopped = False
        self._needs_attention = False  # one flag for all that is rare
        self._stopping = threading.RLock()
        _living.add(self)

    # -- The backend's side

    def fail(self, error: BaseException) -> None:
        """What the following `next` raises: dealing a ticket has failed in a thread of the backend."""
        self._failure = error
        self._needs_attention = True

    def attach(self, backend: Backend) -> None:
        """Set the backend to work."""
        with self.lock:
            self.backend = backend
            backend.pump()

    def deal(self) -> Ticket | None:
        """The next ticket, None where there is no credit, or no work for now."""
        if self._outstanding >= self.credit or self.is_stopped or self._is_paused:
            return None
        ticket = self.schedule.deal()
        if ticket is not None:
            self._outstanding += 1
            self._tickets[ticket.number] = ticket
        return ticket

    # -- The consumer's side

    def next(self) -> Any:
        """The next batch.

        Raises:
            EndOfStream: There are no more, or none before the next epoch is opened.
            Stopped: The pipeline was stopped.
            RuntimeError: This process was forked from the one that owns the pipeline.
            Exception: What the source raised for this batch, or its epoch end.
        """
        with self.lock:
            while True:
                if self._needs_attention:
                    self._attend()
                backend = self.backend
                assert backend is not None
                number = self._head if self._ordered else self._any_ready(backend)
                outcome = backend.ready.pop(number, None)
                if outcome is None:
                    self._wait(backend)
                    continue
                ticket = self._tickets.pop(number)
                self._outstanding -= 1
                if number == self._head:
                    self._head += 1
                if outcome.is_end:
                    self._end_lane(ticket)
                    continue
                self.num_batches += 1
                if ticket.lane < 0:
                    self._advance(ticket)
                else:
                    self.counts[ticket.lane] += 1
                    self.next_lane = (ticket.lane + 1) % len(self.counts)
                if self.credit - self._outstanding >= backend.chunk and not self._is_due:
                    backend.pump()
                return outcome.open()

    def _attend(self) -> None:
        """What is to be done before a batch can be handed out."""
        if self._is_foreign:
            raise RuntimeError(
                "this process was forked while an enqueuer ran, and cannot use it: "
                f"its batches belong to process {self._pid}. Start an enqueuer of its own here"
            )
        self._needs_attention = False  # before the look: a stop from another thread may come right now
        if self.is_stopped or self.backend is None:
            self._needs_attention = True
            raise Stopped
        if self._is_due:
            self.finish_epoch()
        self.raise_failure()

    def _any_ready(self, backend: Backend) -> int:
        """A batch of this epoch, in the order of their coming; one of the next epoch waits for this one's rest."""
        for number in backend.ready:
            if self._tickets[number].epoch == self.epoch:
                return number
        return -1

    def _wait(self, backend: Backend) -> None:
        if (
            self.credit - self._outstanding >= backend.chunk
            or self._outstanding - len(backend.ready) < backend.low_water
        ):
            backend.pump()
        if self._outstanding == 0 and not self._needs_attention:
            raise EndOfStream
        started = _clock()
        backend.wait(self._head)
        self.wait_ns += _clock() - started

    def _end_lane(self, ticket: Ticket) -> None:
        assert isinstance(self.schedule, StreamSchedule)
        self.schedule.end_lane(ticket.lane)

    def _advance(self, ticket: Ticket) -> None:
        """A batch of a sequence is handed out."""
        position, ahead = ticket.position, self.delivered_ahead
        if position != self.position:
            ahead.add(position)
            return
        position += 1
        while position in ahead:
            ahead.discard(position)
            position += 1
        self.position = position
        assert isinstance(self.schedule, EpochSchedule)
        if position == self.schedule.lengths[ticket.epoch]:
            self._close_epoch()

    def _close_epoch(self) -> None:
        assert isinstance(self.schedule, EpochSchedule)
        self.schedule.forget(self.epoch)
        self.epoch, self.position = self.epoch + 1, 0
        if self._epoch_end is None:
            return
        self._is_due = self._needs_attention = True
        if self._timed:
            self._timer = threading.Timer(EPOCH_END_DELAY_S, self._finish_in_time)
            self._timer.name = "mpqueue-epoch-end"
            self._timer.daemon = True
            self._timer.start()

    def disown(self) -> None:
        """This is a copy in a forked child: the workers are the parent's, and a lock may be held for ever."""
        self.lock, self._stopping = threading.RLock(), threading.RLock()
        self._is_foreign = self._needs_attention = True

    def finish_epoch(self) -> None:
        """Run the epoch end if it is due, and begin the next epoch; what it raises is kept for the next `next`."""
        with self.lock:
            if not self._is_due or self.is_stopped:
                return
            self._is_due = False
            self._cancel_timer()
            assert isinstance(self.schedule, EpochSchedule)
            assert self.backend is not None
            assert self._epoch_end is not None
            try:
                self._epoch_end()
                if not self.is_stopped:
                    self.open_epoch()
            except BaseException as error:
                self.fail(error)

    def open_epoch(self) -> None:
        """Let the workers begin the next epoch, from the source's present state."""
        assert isinstance(self.schedule, EpochSchedule)
        assert self.backend is not None
        self.backend.refresh()
        self.schedule.open_epoch()
        self.backend.pump()

    def _finish_in_time(self) -> None:
        self.finish_epoch()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def start_from(self, position: int, ahead: Iterable[int] = (), counts: Iterable[int] = ()) -> None:
        """Where the consumer is in the epoch that the schedule was started at."""
        self.position, self.delivered_ahead = position, set(ahead)
        self.counts = list(counts) or [0] * len(self.counts)

    def restart_at(self, epoch: int, position: int = 0, ahead: tuple[int, ...] = (), *, refresh: bool = False) -> None:
        """Drop all that is under way and go to another place in the order; ``refresh``: the source may have changed."""
        with self.lock:
            if self.backend is None:
                raise Stopped
            self.finish_epoch()
            self.backend.cancel()
            self._is_paused = False
            if refresh:
                self.backend.refresh()
            self._tickets.clear()
            self._outstanding = 0
            if isinstance(self.schedule, EpochSchedule):
                self.schedule.start_at(epoch, position, ahead)
            else:
                self.schedule.start_at(epoch)
            self._head = self.schedule.next_number
            self.epoch = epoch
            self.start_from(position, ahead)
            self.backend.pump()

    def pause(self) -> None:
        """Deal nothing until `resume`, and wait until nothing is at work; what is ready stays."""
        with self.lock:
            self._is_paused = True
            while self.backend is not None and not self.is_stopped and self._outstanding > len(self.backend.ready):
                self.backend.wait(self._head)

    def resume(self) -> None:
        """Go on after a `pause`."""
        with self.lock:
            self._is_paused = False
            if self.backend is not None:
                self.backend.pump()

    def raise_failure(self) -> None:
        """Raise what an epoch end has raised, if it was not raised yet."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    # -- Anybody

    @property
    def num_ready(self) -> int:
        """Batches that are computed and not handed out."""
        with self.lock:
            if self.backend is None or self.is_stopped:
                return 0
            self.backend.pump()
            self.backend.wait(self._head, block=False)
            return len(self.backend.ready)

    def stop(self, timeout_s: float | None = None) -> None:
        """End the stream: frees whoever waits in `next`, ends the workers. Idempotent, from any thread.

        Raises:
            StopTimeout: Workers outlived the deadline.
        """
        self.is_stopped = self._needs_attention = True
        backend = self.backend
        if backend is None or self._is_foreign:
            return
        backend.wake()
        with self._stopping:  # a second caller returns when the first one's work is done
            with self.lock:
                self._cancel_timer()
                backend, self.backend = self.backend, None
                self._tickets.clear()
            if backend is not None:
                backend.stop(timeout_s)


_living: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _disown_all() -> None:
    for pipeline in list(_living):
        pipeline.disown()


os.register_at_fork(after_in_child=_disown_all)
