"""`Epochs`: opens and ends the epochs of a pipeline, and goes to other places in the order.

    hand_out --> the last batch is counted --> the epoch end is due --> finish --> the next epoch is open

An epoch of the source that has its own end (`on_epoch_end`) is open after that, see `mpqueue.engine.epoch_end`.
"""

from mpqueue.engine.backend import Backend, EndOfStream, Stopped
from mpqueue.engine.guard import Guard, locked, starting
from mpqueue.plan.position.cursors import ResumePoint


class Epochs:
    """The epochs of one pipeline.

    Args:
        guard: The lock around the ledger and the backend.
        ends_epochs: `attend` runs a due epoch end. Otherwise it raises EndOfStream until `finish` was called.
        requests_epochs: Epochs follow each other without `hand_out`: the first `step` of an epoch requests it.
    """

    def __init__(self, guard: Guard, *, ends_epochs: bool, requests_epochs: bool) -> None:
        self.guard, self._ledger = guard, guard.ledger
        self._ends_epochs, self._requests_epochs = ends_epochs, requests_epochs
        self._last: int | None = None  # no batch after this epoch is delivered

    def start(self, backend: Backend) -> None:
        """Request the first epoch, before the backend starts."""
        self._requests_epochs = self._requests_epochs and backend.may_change_unseen
        if self._requests_epochs:
            self._ledger.cursor.last_epoch = self._ledger.progress.epoch

    # -- Where the loop begins

    @starting
    @locked
    def hand_out(self, epoch: int) -> None:
        """Make `step` end after this epoch, which has a length, rather than after the previous one."""
        guard, ledger = self.guard, self._ledger
        guard.recorder.mark(f"epoch {epoch} begins")
        self._last = epoch
        ledger.forget_deal_error()
        ledger.needs_attention = True  # the end of the previous epoch no longer counts
        if not guard.is_stopped:
            guard.backend.pump()
        self._end_delivered()

    @locked
    def begin(self, epoch: int) -> None:
        """Begin the epoch at the current point of an endless stream; batches computed ahead remain valid.

        The point does not change if they are invalid; then call `restart_at`.
        """
        guard, ledger = self.guard, self._ledger
        # A loop that was left early has computed batches of this epoch before it was requested.
        is_early = guard.backend.may_change_unseen and bool(ledger.work_items)
        if not (guard.is_stopped or guard.is_inconsistent or ledger.progress.has_missing or is_early):
            ledger.enter(epoch)

    def bound(self, epoch: int, *, goes_on: bool) -> None:
        """Compute no batch after this epoch, unless it ``goes_on`` and computing ahead is safe."""
        # An order must not be drawn before its epoch is requested. If a change of the source cannot be detected, no
        # batch of a later epoch must be computed before that epoch is requested, either.
        cursor, backend = self._ledger.cursor, self.guard.backend
        is_known = backend.tells_changes and not backend.may_change_unseen and not cursor.is_drawn
        cursor.last_epoch = None if goes_on and is_known else epoch

    @starting
    @locked
    def is_outdated(self) -> bool:
        """Return whether the computed batches, or the workers' source, may be older than the source is now.

        Raises:
            Exception: The exception that the length of the source, or its pickling, raised.
        """
        self.finish()  # its hook may change the source
        self._ledger.forget_epochs()
        try:
            return self._ledger.cursor.has_new_length() or self.guard.backend.is_stale()
        except BaseException as error:
            # Both calls only read. Otherwise the next loop would restart the workers.
            if self.guard.is_of_source(error):
                self.guard.own = error
            raise

    @starting
    @locked
    def restart_at(self, point: ResumePoint, *, refresh: bool = False) -> None:
        """Drop the work in flight and go to another point in the order; ``refresh``: the source may have changed."""
        guard, ledger, backend = self.guard, self._ledger, self.guard.backend
        if guard.is_stopped:
            raise guard.expected(Stopped())
        if point.epoch < ledger.progress.epoch:
            guard.end.forget()
        ledger.counts.move(point)
        self.finish()
        ledger.resume()
        # The backend's records of its work items cannot be trusted then: `reset` discards them all.
        if guard.is_inconsistent:
            ledger.go_to(point)
            backend.reset(anew=True)
        else:
            backend.cancel()
        if refresh:
            backend.refresh()
        if not guard.is_inconsistent:
            ledger.go_to(point)
        backend.pump()
        guard.is_inconsistent = False
        ledger.needs_attention = True  # settles the times of this start
        self._end_delivered()

    # -- The end of an epoch

    def mark_due(self) -> None:
        """Record that the last batch of an epoch is counted."""
        end, ledger = self.guard.end, self._ledger
        self.guard.recorder.mark(f"epoch {ledger.progress.epoch - 1} ends")
        is_due = end.mark_due()
        # The user does not have the held batches. When the last one is delivered, `end_soon` starts the timer.
        if is_due and not ledger.holds:
            end.start_timer(self._finish_ahead)
        ledger.needs_attention = True

    def end_soon(self) -> None:
        """End the epoch in 0.1 s, if the user has got all of its batches by then."""
        if self.guard.end.is_due:
            self._start_timer()

    @locked
    def _start_timer(self) -> None:
        self.guard.end.start_timer(self._finish_ahead)

    @locked
    def _finish_ahead(self) -> None:
        """Run the epoch end in a thread, while the consumer does something else."""
        with self.guard.recorder.starts.ahead():
            self.finish()

    @locked
    def finish(self) -> None:
        """Run the epoch end if it is due, and begin the next epoch; its exception is kept for the next `step`."""
        guard, end, ledger = self.guard, self.guard.end, self._ledger
        # A batch that is held belongs to the epoch that would end here.
        if not end.is_due or guard.is_stopped or ledger.progress.has_missing:
            return
        # Otherwise its thread might wake later, and end the next epoch too early.
        end.cancel_timer()
        starts = guard.recorder.starts
        try:
            with starts.part("hook"):
                end.run_hook()
            if not guard.is_stopped:
                guard.is_inconsistent = True  # until the epoch is open
                with starts.part("order"):
                    # Workers compute the next epoch from the current state of the source.
                    guard.backend.refresh()
                    ledger.cursor.open_epoch()
                    guard.backend.pump()
                guard.is_inconsistent = end.is_due = False
        except BaseException as error:
            if not guard.is_of_source(error):
                raise
            # Not raised here, because the timer's thread has no caller.
            ledger.fail(error)

    def _end_delivered(self) -> None:
        """End the epoch of the loop if all of its batches were delivered: no last batch will end it."""
        epoch, ledger = self._last, self._ledger
        if epoch is None or ledger.progress.epoch != epoch:
            return
        if ledger.cursor.length_of(epoch) == ledger.progress.position:
            ledger.enter(epoch + 1)
            self.mark_due()

    # -- For `step`

    def attend(self) -> None:
        """Do what is due before a batch: restart if that is due, end the epoch, request the next one.

        Raises:
            EndOfStream: The epoch of the loop is over, or the next one must be opened first.
            Exception: As for `recover`, or the exception of an epoch end.
        """
        guard, ledger = self.guard, self._ledger
        ledger.forget_epochs()
        # Called twice: an epoch end, which runs below, keeps the exception of its hook.
        guard.raise_failure()
        if guard.is_inconsistent:
            self.recover()
        if guard.end.is_due:
            if not self._ends_epochs:
                raise guard.expected(EndOfStream())
            self.finish()
        guard.raise_failure()
        if self._last is not None and ledger.progress.epoch > self._last:
            raise guard.expected(EndOfStream())
        if self._requests_epochs and ledger.cursor.last_epoch != ledger.progress.epoch:
            ledger.cursor.last_epoch = ledger.progress.epoch
            guard.backend.pump()

    def recover(self) -> None:
        """Drop the work in flight, and restart at the user's point; repeated until it succeeds.

        Raises:
            RuntimeError: Elements of an iterator, which cannot be computed again, may be lost.
            Exception: New workers cannot be started.
        """
        guard, ledger, point = self.guard, self._ledger, self._ledger.progress.point()
        if point.epoch < ledger.progress.epoch:
            guard.end.forget()
        ledger.counts.move(point)
        try:
            guard.backend.reset()
        except BaseException as error:
            if guard.is_of_source(error):
                guard.own = error
            raise
        if guard.end.is_due:
            ledger.stand_before(ledger.progress.epoch)
        else:
            ledger.go_to(point)
            guard.backend.pump()
        guard.is_inconsistent = False
