"""`EpochIterator`: one ``for`` loop over a loader."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from mpqueue.engine.backend import EndOfStream, Stopped
from mpqueue.engine.pipeline import Pipeline
from mpqueue.loader.loop_position import LoopPosition
from mpqueue.system.interrupts import is_of_handler
from mpqueue.worker.failures import never_an_end


class EpochIterator(Iterator[Any]):
    """The batches of one epoch of a `mpqueue.Loader`.

    Any number of threads may call its ``__next__``, also at once: each batch goes to one of them, and the end to all.

    The loader has one stream, so that a later iterator ends this one. Who asks it for more all the same is told: as a
    silent end, nested loops and ``zip(loader, loader)`` would lose the rest.

    Args:
        position: Of the loader: tells whether there is a later iterator.
        pipeline: Hands the batches out.
        take: Its `next`; or its `step`, whose answers this iterator then gives: see `mpqueue.engine.async_batches`.
        end_epoch: Called with the number of this iterator and the pipeline, when all batches were handed out.
        note_failure: Called with an error that came in a batch's place, and the pipeline.

    Attributes:
        pipeline: As given.
    """

    def __init__(
        self,
        position: LoopPosition,
        pipeline: Pipeline,
        take: Callable[[int], Any],
        end_epoch: Callable[[int, Pipeline], None],
        note_failure: Callable[[Exception, Pipeline], None],
    ) -> None:
        self._position, self.pipeline, self._take = position, pipeline, take
        self._end_epoch, self._note_failure = end_epoch, note_failure
        self._number, self._epoch = position.iterator, position.place.epoch
        self._is_unfinished = False
        self._failure: Exception | None = None  # an interrupt has kept it from the caller
        self._next = take  # this is the way of every batch
        self._loop = pipeline.loop

    def replace(self) -> None:
        """Note that a later iterator ends this one, if it has not given all."""
        self._is_unfinished = self._number != -1 and self._position.where().epoch == self._epoch

    def __next__(self) -> Any:
        try:
            # Returned at once: between the pipeline's return and the caller's there is no place for a handler to
            # strike.
            return self._next(self._loop)
        except EndOfStream:
            self._end_epoch(self._number, self.pipeline)
        except Stopped:
            if self._number != self._position.iterator or not self.pipeline.is_stopped:
                self._end()  # a later one has begun
        except Exception as error:
            told = None  # never the error itself: it would be kept by this frame, which its traceback keeps
            try:
                self._note_failure(error, self.pipeline)
                if isinstance(error, StopIteration):  # of the source or its hooks, not of the epoch
                    told = never_an_end(error)
            except BaseException:  # an interrupt: the error is raised by the next call
                self._failure, self._next = error, self._raise_failure
                raise
            if told is not None:
                raise told from error
            raise
        # All was given: a later iterator cuts nothing off.
        self._number = -1
        raise StopIteration

    def _raise_failure(self, loop: int) -> Any:
        assert self._failure is not None
        is_interrupt = is_of_handler(self._failure)  # which another one has followed: the caller got that
        failure, self._failure, self._next = self._failure, None, self._take
        if is_interrupt:
            return self._take(loop)
        raise failure

    def _end(self) -> NoReturn:
        if self._is_unfinished:
            raise RuntimeError(
                f"this iterator of epoch {self._epoch} was ended by another one of the same Loader, which has begun "
                "since: a Loader gives one epoch at a time. For two loops at once (nested, or in zip) make two Loaders"
            )
        raise StopIteration

    def __repr__(self) -> str:
        return f"<batches of epoch {self._epoch}, {'over' if self._number == -1 else 'running'}>"
