"""The consumer's side: hands out batches in order, ends epochs, and keeps the workers in work.

There is no feeder thread. The consumer's own `next` takes what has arrived, deals more tickets, and waits if the head
of the line is not there; workers run ahead on the credit that they hold. Threads that may come by (several consumers,
a `stop` from elsewhere, the one-shot epoch-end thread) take turns by one lock; user code that is called here
(`on_epoch_end`) runs inside it and may call back.

What runs the tickets is a `Backend`: processes, threads, or the caller itself. It *pulls*: `Pipeline.deal` gives it
the next ticket as long as there is credit, so that there is one place that counts.

# NOTE [ Interrupts ]
A signal handler runs between any two bytecodes of the main thread, and may raise (Ctrl-C, `sys.exit`, a time-out by
SIGALRM) or call `stop`. Three rules keep the stream whole, at no cost as long as none strikes:

1. While we wait, nothing is half done: what was raised passes through, and the next `next` goes on where it was.
2. Anywhere else the books may be *torn*. The next `next` drops all that is under way and goes back to the last place
   that was counted. A batch is counted after it was opened, by one assignment; one that was counted and not returned
   is returned then. So nothing is lost, and nothing comes twice.
3. A `stop` from a handler in the middle of our own work only sets a mark; the work itself stops at its end. (The
   alternative, to close descriptors that a line further up the stack is about to use, could write to strangers.)
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.control.backend import Backend, EndOfStream, Failure, Outcome, Stopped
from mpqueue.control.epoch_end import EpochEnd
from mpqueue.control.progress import Place, Progress
from mpqueue.control.schedule import EpochSchedule, StreamSchedule, Ticket
from mpqueue.system import forked
from mpqueue.system.interrupts import HeldBack, let_through

_clock = time.perf_counter_ns


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
        self.credit = self.allowance = credit  # the allowance is what of the credit may be used for now
        self.progress = Progress(schedule.num_lanes if isinstance(schedule, StreamSchedule) else 0)
        self.progress.enter(schedule.epoch)
        self.num_batches = 0
        self.wait_ns = 0
        self._ordered = ordered
        self._end = EpochEnd(epoch_end, timed=timed_epoch_end)
        self.num_outstanding = 0  # tickets that were dealt and not handed out
        self._head = 0
        self._tickets: dict[int, Ticket] = {}
        self.backend: Backend | None = None
        self._failure: BaseException | None = None
        self._pid = os.getpid()
        self._is_foreign = False  # this is a forked child's copy
        self.is_stopped = False
        self._needs_attention = False  # one flag for all that is rare
        self.is_waiting = False  # set by the backend around its wait; see NOTE [ Interrupts ]
        self.has_failed = False  # what `next` raised last was a failure, not an interrupt
        self.failed_at = Place()  # where the consumer was then
        self._is_raising = self._is_torn = False
        self._latest: Ticket | None = None
        self._unclaimed: deque[Any] = deque()  # batches that were counted and did not reach the caller
        self._late_stop: tuple[float | None] | None = None
        self._stopping = threading.RLock()
        self._is_shutting_down = False
        self.has_ended = False  # nothing of it is left
        forked.watch(self)

    # -- The backend's side

    def fail(self, error: BaseException) -> None:
        """What the following `next` raises: dealing a ticket has failed in a thread of the backend."""
        self._failure = error
        self._needs_attention = True

    def attach(self, backend: Backend) -> None:
        """Set the backend to work."""
        with self._turn():
            self.backend = backend
            backend.pump()

    def is_outstanding(self, number: int) -> bool:
        """Whether this ticket was dealt and not handed out."""
        return number in self._tickets

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Up to so many of the next tickets; none where there is no credit, or no work for now."""
        backend, room = self.backend, self.allowance - self.num_outstanding
        if room <= 0 or self.is_stopped or backend is None:
            return []
        try:
            tickets = self.schedule.deal(min(limit, room))
        except Exception as error:
            self._note_undealt(backend, error)
            return []
        for ticket in tickets:
            self._tickets[ticket.number] = ticket
        self.num_outstanding += len(tickets)
        return tickets

    def _note_undealt(self, backend: Backend, error: Exception) -> None:
        """The source has no next epoch: an error in its place in the order, once."""
        if any(ticket.position < 0 for ticket in self._tickets.values()):
            return
        assert isinstance(self.schedule, EpochSchedule)
        ticket = self.schedule.deal_failure()
        self.num_outstanding += 1
        self._tickets[ticket.number] = ticket
        backend.ready[ticket.number] = Failure(error)

    # -- The consumer's side

    def next(self) -> Any:
        """The next batch.

        Raises:
            EndOfStream: There are no more, or none before the next epoch is opened.
            Stopped: The pipeline was stopped.
            RuntimeError: This process was forked from the one that owns the pipeline.
            Exception: What the source raised for this batch, or its epoch end.
        """
        ticket: Ticket | None = None
        batch: Any = None
        is_inside = True
        try:
            with self.lock:
                try:
                    while True:
                        if self._needs_attention:
                            self._attend()
                            if self._unclaimed:
                                batch = self._unclaimed.popleft()
                                break
                        backend = self.backend
                        assert backend is not None
                        number = self._head if self._ordered else self._any_ready(backend)
                        outcome = backend.ready.pop(number, None)
                        if outcome is None:
                            self._wait(backend)
                            continue
                        ticket = self._tickets.pop(number)
                        self.num_outstanding -= 1
                        if number == self._head:
                            self._head += 1
                        if not outcome.is_plain:
                            self._take_rare(ticket, outcome)
                            continue
                        if self.credit - self.num_outstanding >= backend.chunk:
                            backend.pump()
                        batch = outcome.open()
                        self._count(ticket)
                        break
                except BaseException:
                    self._note_escape(ticket, batch)
                    is_inside = False
                    raise
            if self._late_stop is not None:
                self._stop_late()
            return batch  # noqa: TRY300 - a signal may still strike here
        except BaseException:
            if is_inside:  # struck by a signal on the last steps
                self._note_escape(ticket, batch)
            if self._late_stop is not None:
                self._stop_late()
            raise

    def _take_rare(self, ticket: Ticket, outcome: Outcome) -> None:
        """The end of a worker's stream, or an exception, which is raised."""
        if outcome.is_end:
            assert isinstance(self.schedule, StreamSchedule)
            self.schedule.end_lane(ticket.lane)
            return
        self.failed_at = self.progress.place()
        if ticket.position >= 0:
            self._count(ticket)
        self._is_raising = True
        outcome.open()

    def _attend(self) -> None:
        """What is to be done before a batch can be handed out."""
        self._refuse_foreign()
        self._needs_attention = False  # before the look: a stop from another thread may come right now
        if self.is_stopped or self.backend is None:
            self._needs_attention = self._is_raising = True
            raise Stopped
        self.raise_failure()
        if self._is_torn:
            self._mend()
        if self._end.is_due:
            self.finish_epoch()
        self.raise_failure()

    def _refuse_foreign(self) -> None:
        if self._is_foreign:
            self._is_raising = True
            raise RuntimeError(
                "this process was forked while an enqueuer ran, and cannot use it: "
                f"its batches belong to process {self._pid}. Start an enqueuer of its own here"
            )

    def _note_escape(self, ticket: Ticket | None = None, batch: Any = None) -> None:
        """An exception leaves: ours, or an interrupt. See NOTE [ Interrupts ]."""
        self.has_failed = self._is_raising
        if not self.is_waiting and not self._is_raising:
            self._is_torn = self._needs_attention = True
            if ticket is not None and ticket is self._latest:
                self._recount(ticket)
                self._unclaimed.append(batch)
        self.is_waiting = self._is_raising = False

    def _mend(self) -> None:
        """Drop all that is under way and go back to the last place that was counted."""
        assert self.backend is not None
        self._is_raising = self._needs_attention = True  # as long as this fails, it is tried again
        self.backend.reset()
        if not self._end.is_due:
            self._go_to(self.progress.place())
        else:
            assert isinstance(self.schedule, EpochSchedule)
            self.schedule.stand_before(self.progress.epoch)
            self._forget_tickets()
        self._is_raising = self._needs_attention = self._is_torn = False

    def _any_ready(self, backend: Backend) -> int:
        """A batch of this epoch, in the order of their coming; one of the next epoch waits for this one's rest."""
        for number in backend.ready:
            if self._tickets[number].epoch == self.progress.epoch:
                return number
        return -1

    def _wait(self, backend: Backend) -> None:
        if (
            self.credit - self.num_outstanding >= backend.chunk
            or self.num_outstanding - len(backend.ready) < backend.low_water
        ):
            backend.pump()
        if len(backend.ready) == self.num_outstanding:  # nobody is at work who could tell of anything
            if self.num_outstanding or self._needs_attention:
                return
            self._is_raising = True
            raise EndOfStream
        started = _clock()
        backend.wait(self._head)
        self.wait_ns += _clock() - started

    def _count(self, ticket: Ticket) -> None:
        """A batch is handed out."""
        self._latest = ticket  # from here on; see NOTE [ Interrupts ]
        self.num_batches += 1
        if self.progress.count(ticket) == self.schedule.lengths.get(ticket.epoch):
            self._close_epoch(ticket.epoch + 1)

    def _recount(self, ticket: Ticket) -> None:
        """What `_count` does, which was interrupted anywhere behind its first line."""
        if not self.progress.is_counted(ticket):
            self._count(ticket)
        elif ticket.epoch == self.progress.epoch:
            if self.progress.position == self.schedule.lengths.get(ticket.epoch, -1):
                self._close_epoch(ticket.epoch + 1)
        elif not self._end.is_due:
            self._close_epoch(self.progress.epoch)

    def _close_epoch(self, following: int) -> None:
        assert isinstance(self.schedule, EpochSchedule)
        self.progress.enter(following)
        self.schedule.forget(following - 1)
        if self._end.fall_due(self.finish_epoch):
            self._needs_attention = True

    def disown(self) -> None:
        """This is a copy in a forked child: the workers are the parent's, and a lock may be held for ever."""
        self.lock, self._stopping = threading.RLock(), threading.RLock()
        self._is_foreign = self._needs_attention = True

    def finish_epoch(self) -> None:
        """Run the epoch end if it is due, and begin the next epoch; what it raises is kept for the next `next`."""
        with self._turn():
            end = self._end
            if not end.is_due or self.is_stopped:
                return
            end.cancel_timer()
            try:
                end.run_hook()
                if not self.is_stopped:
                    self._is_torn = True  # as long as it lasts
                    self.open_epoch()
                    self._is_torn = end.is_due = False
            except BaseException as error:
                self.fail(error)

    def open_epoch(self) -> None:
        """Let the workers begin the next epoch, from the source's present state."""
        assert isinstance(self.schedule, EpochSchedule)
        assert self.backend is not None
        self.backend.refresh()
        self.schedule.open_epoch()
        self.backend.pump()

    def restart_at(self, place: Place, *, refresh: bool = False) -> None:
        """Drop all that is under way and go to another place in the order; ``refresh``: the source may have changed."""
        with self._turn():
            if self.backend is None or self.is_stopped:
                self._is_raising = True
                raise Stopped
            self.finish_epoch()
            self.backend.cancel()
            self._unclaimed.clear()
            self.allowance = self.credit
            if refresh:
                self.backend.refresh()
            self._go_to(place)

    def _go_to(self, place: Place) -> None:
        assert self.backend is not None
        self._forget_tickets()
        if isinstance(self.schedule, EpochSchedule):
            self.schedule.start_at(place.epoch, place.position, place.ahead)
        else:
            self.schedule.start_at(place.epoch, place.counts, place.lane)
        self.progress.go_to(place)
        self.backend.pump()

    def _forget_tickets(self) -> None:
        self._tickets.clear()
        self.num_outstanding = 0
        self._head = self.schedule.next_number

    def pause(self) -> None:
        """Deal nothing until `resume`, and wait until nothing is at work; what is ready stays."""
        with self._turn():
            self.allowance = 0
            while self.backend is not None and not self.is_stopped and self._failure is None:
                at_work = self._tickets.keys() - self.backend.ready.keys()
                if not at_work:
                    return
                self.backend.wait(min(at_work))  # the oldest: the one that a `batch_timeout` can end

    def resume(self) -> None:
        """Go on after a `pause`, and with all of the credit."""
        with self._turn():
            self.allowance = self.credit
            if self.backend is not None and not self.is_stopped:
                self.backend.pump()

    def raise_failure(self) -> None:
        """Raise what an epoch end has raised, if it was not raised yet."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._is_raising = True
            raise failure

    # -- Anybody

    @property
    def num_ready(self) -> int:
        """Batches that are computed and not handed out."""
        with self._turn():
            if self.backend is None or self.is_stopped or self._is_torn:
                return 0
            self.backend.pump()
            self.backend.wait(self._head, block=False)
            return len(self.backend.ready)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """What `next` does around its work, for the others; see NOTE [ Interrupts ]."""
        try:
            with self.lock:
                try:
                    self._refuse_foreign()
                    yield
                except BaseException:
                    self._note_escape()
                    raise
        finally:
            if self._late_stop is not None and not self._is_inside():
                self._stop_late()

    def _is_inside(self) -> bool:
        """Whether this very thread holds the lock."""
        return self.lock._is_owned()  # type: ignore[attr-defined,no-any-return]  # as threading.Condition does

    def _stop_late(self) -> None:
        if self._late_stop is not None:
            (timeout_s,), self._late_stop = self._late_stop, None
            self.stop(timeout_s)

    def stop(self, timeout_s: float | None = None) -> None:
        """End the stream: frees whoever waits in `next`, ends the workers. Idempotent, from any thread.

        Raises:
            StopTimeout: Workers outlived the deadline.
        """
        self.is_stopped = self._needs_attention = True
        backend = self.backend
        if backend is None or self._is_foreign:
            self.has_ended = True
            return
        backend.wake()
        is_inside = self._is_inside()
        if is_inside and not self._end.is_calling:
            self._late_stop = (timeout_s,)  # a signal handler; see NOTE [ Interrupts ]
        elif self._stopping.acquire(blocking=not is_inside):  # else another thread is at it, and waits for our lock
            try:
                self._shut_down(backend, timeout_s)
            finally:
                self._stopping.release()

    def _await_others(self) -> None:
        with self.lock:  # those who hold it see that they are to leave
            self._end.cancel_timer()

    def _shut_down(self, backend: Backend, timeout_s: float | None) -> None:
        if self.has_ended or self._is_shutting_down:
            return
        with HeldBack():
            self._is_shutting_down = True
            try:
                let_through(self._await_others)
                self._tickets.clear()
                self._unclaimed.clear()
                self.has_ended = True
                backend.stop(timeout_s)
            finally:
                self._is_shutting_down = False
                if self.has_ended:
                    self.backend = None
