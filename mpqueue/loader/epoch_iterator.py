"""`EpochIterator`: one ``for`` loop over a loader."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from mpqueue.engine.backend import EndOfStream, Stopped
from mpqueue.engine.pipeline import Pipeline
from mpqueue.loader.run import Run
from mpqueue.system.signals.exceptions import matches
from mpqueue.worker.failures import never_an_end


class EpochIterator(Iterator[Any]):
    """The batches of one epoch of a `mpqueue.Loader`.

    Any number of threads may call ``__next__`` concurrently: each batch goes to one thread, the end to all.

    A loader has one stream, so that a later iterator invalidates this one. A further call then raises an error. If it
    ended silently, nested loops and ``zip(loader, loader)`` would lose batches.

    Args:
        run: The run, which knows the latest iterator.
        pipeline: Delivers the batches.
        take: The pipeline's `next`, or its `take` for a loop that holds its batches.
        end_epoch: Called with this iterator's id at the end of the epoch.
        note_failure: Called with an error that replaced a batch.

    Attributes:
        pipeline: The pipeline.
    """

    def __init__(
        self,
        run: Run,
        pipeline: Pipeline,
        take: Callable[[int], Any],
        end_epoch: Callable[[int, Pipeline], None],
        note_failure: Callable[[BaseException, Pipeline], None],
    ) -> None:
        self._run, self.pipeline, self._take = run, pipeline, take
        self._end_epoch, self._note_failure = end_epoch, note_failure
        self._started, self._epoch = run.iterator, run.point.epoch
        self._id = self._started  # -1: the epoch is over
        self._is_unfinished = False
        self._next = take  # the path of every batch
        self._loop = pipeline.loop

    @property
    def is_current(self) -> bool:
        """True if no later iterator was created, and no other point was loaded; also after the end of the epoch."""
        return self._started == self._run.iterator

    def replace(self) -> None:
        """Record that a later iterator invalidates this one, unless it is exhausted."""
        self._is_unfinished = self._id != -1 and self._run.where().epoch == self._epoch

    def __next__(self) -> Any:
        try:
            return self._next(self._loop)
        except EndOfStream:
            self._end_epoch(self._id, self.pipeline)
        except Stopped:
            if self._id != self._run.iterator or not self.pipeline.is_stopped:
                self._end()  # a later iterator was created
        except BaseException as error:
            self._note_failure(error, self.pipeline)
            if matches(error, StopIteration):  # raised by the source or its hooks: not the end of the epoch
                raise never_an_end(error) from error
            raise
        # All batches were delivered: a later iterator does not invalidate this one.
        self._id = -1
        # A change of the run restarts the pipeline at the next epoch. Its batches belong to the next iterator.
        self._next = self._over
        raise StopIteration

    @staticmethod
    def _over(loop: int) -> NoReturn:  # noqa: ARG004 - as `take`
        raise EndOfStream

    def _end(self) -> NoReturn:
        if self._is_unfinished:
            raise RuntimeError(
                f"this iterator of epoch {self._epoch} was invalidated by a later iterator of the same Loader: a "
                "Loader runs one epoch at a time. To run two loops at once (nested, or in zip), create two Loaders"
            )
        raise StopIteration

    def __repr__(self) -> str:
        return f"<batches of epoch {self._epoch}, {'over' if self._id == -1 else 'running'}>"
