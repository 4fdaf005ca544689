"""`Passes`: begins and ends the passes of a run, which are its ``for`` loops, and the workers for them.

The workers start with the first pass. They run until `stop`, so that they compute batches of the next epoch ahead. At
the beginning of a pass they receive a changed source, and move to the position of the run if necessary.

This module also handles each change of the run: the run gets its new plan, and the workers continue at its position. If
the workers crash or are stopped, the next pass starts new workers at the position of the run.
"""

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from mpqueue.engine.backend import Stopped
from mpqueue.errors import WorkerDied
from mpqueue.loader.run import Run
from mpqueue.loader.session import Session
from mpqueue.plan.ids.history import At
from mpqueue.plan.options.backend_kinds import kind_of
from mpqueue.plan.order.plans import Plan
from mpqueue.plan.order.rules import warn_of_idle
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.signals.exceptions import matches
from mpqueue.system.signals.locks import RLock

if TYPE_CHECKING:
    from mpqueue.engine.pipeline import Pipeline
    from mpqueue.loader.epoch_iterator import EpochIterator
    from mpqueue.plan.order.streams import StreamOrder


class Passes:
    """The passes of a run, one after the other.

    Args:
        run: The run.
        session: Its workers.
        max_queue_size: Number of batches computed ahead.

    Attributes:
        lock: Held while a pass begins or ends, and while the run changes. Reentrant: a signal handler may use the
            loader, too.
    """

    def __init__(self, run: Run, session: Session, max_queue_size: int) -> None:
        self._run, self._session, self._max_queue_size = run, session, max_queue_size
        self.lock = RLock()
        plan = run.plan
        self._is_endless, self._is_iterator = plan.ends_by_count, not plan.source.can_replay
        self._latest: Callable[[], EpochIterator | None] = lambda: None
        self._has_warned_of_idle = run.job.is_auto  # the user has not chosen the number
        self._has_warned_of_copies = self._has_warned_of_no_batches = self._is_spent = False

    # -- The beginning

    def begin(self, way: "Callable[[Pipeline], Callable[[int], Any]]", *, holds: bool = False) -> "EpochIterator":
        """Begin a pass.

        Args:
            way: Selects the method of the pipeline that returns a batch.
            holds: The caller takes batches ahead of its user: see `mpqueue.loader.undelivered`.
        """
        run = self._run
        run.follow(run.plan.renewed())
        before = self._latest()
        if run.is_holding:  # otherwise the end of the epoch would wait for these batches
            if before is not None:
                before.replace()
            run.leave()
        is_outdated = self._is_outdated()  # first: if it raises, the position does not change
        if before is not None:
            before.replace()
        pipeline = self._session.pipeline
        if pipeline is not None:  # before its position is read: the previous loop takes no more batches
            pipeline.begin_loop()
        goes_on = run.begin(stays=self._is_iterator and self._is_whole())
        pipeline = self._begin(goes_on=goes_on, is_outdated=is_outdated, holds=holds)
        # Answers about the epoch must not depend on later changes of the source. An error of its length is raised by
        # the pipeline.
        try:
            run.plan.order.note_length(run.point.epoch)
        except BaseException as error:
            if not pipeline.guard.is_of_source(error):
                raise
        from mpqueue.loader.epoch_iterator import EpochIterator  # after the start of the fork server

        batches = EpochIterator(run, pipeline, way(pipeline), self.end_epoch, self.note_failure)
        self._latest = weakref.ref(batches)
        return batches

    def check_source(self) -> None:
        """Raise a `RuntimeError` if the source has no more elements: it is an iterator that was read completely."""
        if self._is_spent:
            raise self._spent()

    def _spent(self) -> RuntimeError:
        return RuntimeError(
            f"the source is an iterator ({type(self._run.job.source).__name__}), which has returned all of its "
            "elements in the previous epoch: pass the generator function itself "
            "(a callable that returns a new iterator for each epoch)"
        )

    def _is_whole(self) -> bool:
        """Return True if the workers run, and no interrupt has left them inconsistent."""
        pipeline = self._session.pipeline
        return pipeline is not None and not (pipeline.is_stopped or pipeline.guard.is_inconsistent)

    def _is_outdated(self) -> bool:
        """Return True if the source may have changed since the workers received it or computed ahead."""
        pipeline = self._session.pipeline
        if self._is_iterator or pipeline is None or pipeline.is_stopped:
            return False
        self._run.plan.source.parts.draw_order()  # the program may have dropped it
        return pipeline.epochs.is_outdated()

    def _begin(self, *, goes_on: bool, is_outdated: bool, holds: bool) -> "Pipeline":
        """Move the workers to the start of the pass, with the current source; ``holds``: see `begin`."""
        run, pipeline = self._run, self._session.pipeline
        point, has_index = run.point, run.plan.has_index
        if pipeline is None or pipeline.is_stopped:
            # A stopped pipeline that was not released must end before a new one starts.
            self._session.stop()
            pipeline = self._open()
            self._bound(pipeline)
        else:
            self._bound(pipeline)
            # Not in the middle of an epoch: its returned batches would no longer count.
            if self._is_endless and not point.position and pipeline.progress.point().counts == point.counts:
                pipeline.epochs.begin(point.epoch)
            # A stream that ends does not compute batches ahead, except after a change of the plan between two epochs.
            is_reopened = not (has_index or self._is_endless)
            is_elsewhere = not goes_on and (is_reopened or not pipeline.progress.point().is_same_as(point))
            is_inconsistent = not has_index and not goes_on and pipeline.guard.is_inconsistent
            # Otherwise the workers keep the batches that they have computed ahead.
            if is_elsewhere or is_inconsistent or (is_outdated and self._may_refresh(pipeline)):
                with contextlib.suppress(Stopped):  # by another thread: the loop ends before its first batch
                    pipeline.epochs.restart_at(point, refresh=is_outdated)
        pipeline.ledger.holds = holds
        if self._is_endless or has_index:
            pipeline.epochs.hand_out(point.epoch)
        run.use_counts_of(pipeline)
        return pipeline

    def _may_refresh(self, pipeline: "Pipeline") -> bool:
        """Return True if batches that were computed ahead must be computed again because the source may have changed.

        A stream is reopened for that, and the elements after its snapshots, or all of them, are computed again. This is
        too expensive if a change cannot be detected.
        """
        return self._run.plan.has_index or (self._is_endless and pipeline.backend.tells_changes)

    def _bound(self, pipeline: "Pipeline") -> None:
        """Do not compute a second epoch before it is requested: a validation loop may have only one."""
        epoch = self._run.point.epoch
        pipeline.epochs.bound(epoch, goes_on=epoch != self._run.first_epoch)

    def _open(self) -> "Pipeline":
        run = self._run
        plan, job, point = run.plan, run.job, run.point
        if not self._has_warned_of_idle:
            self._has_warned_of_idle = True
            warn_of_idle(plan.order.lanes, plan.order.ranks, job.workers)
        run.cursor = cursor = plan.cursor(job.workers, run.backend, run.draws)
        cursor.last_epoch = point.epoch
        return self._session.start(job, cursor, run.backend, self._max_queue_size, point)

    # -- The end

    def end_epoch(self, iterator: int, pipeline: "Pipeline") -> None:
        """Handle the end of an epoch, after its last batch was returned.

        Args:
            iterator: The id of the iterator that has reached the end.
            pipeline: Its pipeline.
        """
        run = self._run
        with self.lock:
            if iterator != run.iterator:
                return
            is_empty, warning = False, None
            if not run.plan.has_index and not (self._is_endless and pipeline.progress.epoch > run.epoch):
                self._warn_of_copies(pipeline)
                where = run.where()
                is_empty = self._is_endless and not where.position
                if not self._is_endless:
                    warning = self._no_batches(where)
                run.end_stream()
                self._is_spent = self._is_iterator
            run.epoch = run.where().epoch
            if warning:
                self._has_warned_of_no_batches = True
                warn_caller(warning, UserWarning)
            if is_empty and self._is_iterator:
                raise self._spent()
            if is_empty:
                raise self._stream.impossible_epoch(where, self._stream.source.title)

    @property
    def _stream(self) -> "StreamOrder":
        """The order of the run, of a source without an index."""
        return cast("StreamOrder", self._run.plan.order)

    def _no_batches(self, where: ResumePoint) -> str | None:
        # An interrupted call is repeated. After the end was recorded, `where` is the start of the next epoch.
        if self._has_warned_of_no_batches or not self._run.is_counting:
            return None
        order = self._stream
        # Others may have read the elements of an iterator, and an interrupt may have lost the last ones.
        if self._is_iterator and not order.source.dropping(order.options):
            return None
        return order.no_batches(where, order.source.title)

    def _warn_of_copies(self, pipeline: "Pipeline") -> None:
        if pipeline.ledger.has_unsharded() and not self._has_warned_of_copies:
            self._has_warned_of_copies = True
            order = self._stream
            count, which = (self._run.job.workers, "workers") if order.lanes is None else (order.lanes, "lanes")
            warn_caller(order.source.copies_warning(count, which), UserWarning)

    def note_failure(self, error: BaseException, pipeline: "Pipeline") -> None:
        """Handle an error that replaced a batch; the stream continues after it, if possible."""
        if not pipeline.guard.is_failure(error):  # a signal handler has raised it
            return
        if pipeline.guard.is_inconsistent:  # and an element of a generator is lost: the next loop starts again
            self._run.give_up()
            return
        self._run.note_failure()
        if matches(error, WorkerDied) and self._is_iterator:
            self.stop()  # the worker's copy of a generator object is lost, and another copy would start again

    def stop(self, timeout: float | None = None) -> None:
        """Stop the workers, and keep the position of the run."""
        self._session.stop(timeout)
        with self.lock:
            # Batches that are held can still be got, and a state counts them then.
            if self._session.pipeline is None and not self._run.is_holding:
                self._run.settle()

    # -- Changes of the run

    def check_length(self) -> None:
        """Raise a `RuntimeError` if the source has another length than at the beginning of the running epoch."""
        pipeline = self._session.pipeline
        if pipeline is None or pipeline.is_stopped or not self._run.where().position:
            return
        if pipeline.ledger.cursor.has_new_length():
            raise RuntimeError(
                f"the length of {self._run.plan.source.name} has changed in this epoch, whose order depends on it: "
                "call this method before the length changes, or between two loops"
            )

    def change(self, plan: Plan, point: ResumePoint, *, refresh: bool) -> None:
        """Continue the running loop with another plan; drop the batches computed ahead.

        Args:
            plan: The plan.
            point: The position of the run, where the change begins.
            refresh: Send the source to the workers again.
        """
        pipeline, run = self._session.pipeline, self._run
        run.use(plan)
        run.forget_held_failure()
        if pipeline is None or pipeline.is_stopped:
            run.settle()
            run.point = point
        else:
            with contextlib.suppress(Stopped):
                pipeline.epochs.restart_at(point, refresh=refresh)

    def load(self, states: Sequence[Any]) -> None:
        """Continue the run of other states, see `mpqueue.Loader.load_state_dict`."""
        run = self._run
        run.check_states(states)  # before the workers are stopped: an invalid state has no effect
        self.stop()
        run.load(states)
        # A worker process has a different copy of the iterator then.
        self._is_spent = self._is_spent and not (run.job.workers and kind_of(run.backend).copies_source)

    def seek(self, point: ResumePoint, before: At, epoch: int, batch: int) -> None:
        """Continue at another point of the same run, without workers.

        Args:
            point: The point.
            before: The point until now, as the history names it.
            epoch: The epoch of the point, as the history names it.
            batch: The position of its batch.
        """
        run = self._run
        with self.lock:
            run.use(run.plan.with_history(run.plan.history.with_seek(before, epoch, batch)))
            run.cursor = None
            run.seek(point)
