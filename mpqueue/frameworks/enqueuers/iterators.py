"""The iterator and the queue of an enqueuer. Any thread may request the next batch from them."""

import types
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Self

from mpqueue.engine.backend import EndOfStream, Stopped
from mpqueue.system.signals.exceptions import matches

if TYPE_CHECKING:
    from mpqueue.engine.pipeline import Pipeline


class EnqueuerQueue:
    """The batches that are ready, with the methods of `queue.Queue` that fit loops use."""

    def __init__(self, enqueuer: Any) -> None:
        self._enqueuer = weakref.ref(enqueuer)

    def qsize(self) -> int:
        """Return the number of batches that are ready."""
        pipeline = self._pipeline()
        return 0 if pipeline is None else pipeline.num_ready

    def empty(self) -> bool:
        """Return True if no batch is ready."""
        return self.qsize() == 0

    def get(self) -> Any:
        """Return the next batch, which may be ``None``; block until it is ready.

        Raises:
            RuntimeError: The enqueuer is not running, or its generator is exhausted.
            Exception: The error of the source.
        """
        pipeline = self._pipeline()
        if pipeline is None:
            raise RuntimeError("the enqueuer is not running: call start() first")
        try:
            return pipeline.next()
        except (EndOfStream, Stopped):
            raise RuntimeError("no batches are left: the generator has ended, or the enqueuer was stopped") from None
        except StopIteration as error:  # it would end `iter(queue.get, None)`
            from mpqueue.worker.failures import never_an_end

            raise never_an_end(error) from error

    def _pipeline(self) -> "Pipeline | None":
        enqueuer = self._enqueuer()
        pipeline: Pipeline | None = None if enqueuer is None else enqueuer._session.pipeline
        return pipeline


class BatchIterator(Generator[Any, None, None]):
    """An iterator of `SequenceEnqueuer.get`: the stream of the enqueuer, without ``None`` items.

    Any number of threads may call ``__next__`` at once: each batch is returned once, and the end is reported to all. It
    is reported as a generator (``isinstance(batches, types.GeneratorType)``), because `fit` of Keras requires one.

    Args:
        running: Returns the pipeline of the enqueuer; None after a stop.
        stop: Called when the source has failed.
    """

    __class__ = types.GeneratorType  # type: ignore[assignment]

    def __init__(self, running: "Callable[[], Pipeline | None]", stop: Callable[[], object]) -> None:
        self._running, self._stop = running, stop
        self._pipeline: Pipeline | None = None
        self._next: Callable[[], Any] = _begin  # a method of the pipeline, without another call for each batch
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                batch = self._next()
            # The present start of the enqueuer is over; the enqueuer may have been started again.
            except (EndOfStream, Stopped):
                self._continue()
            except BaseException as error:
                self._note_failure(error)
                if matches(error, StopIteration):  # of the source or its hook; it must not end this iterator
                    from mpqueue.worker.failures import never_an_end

                    raise never_an_end(error) from error
                raise
            else:
                # Keras's own enqueuers leave out None, too.
                if batch is not None:
                    return batch

    def _continue(self) -> None:
        """Continue with the next start of the enqueuer, or end."""
        pipeline = None if self._is_over else self._running()
        if pipeline is None or pipeline is self._pipeline:
            self._is_over = True
            raise StopIteration
        self._pipeline, self._next = pipeline, pipeline.next

    def _note_failure(self, error: BaseException) -> None:
        if self._pipeline is None:
            return
        # A failure ends all iterators. After another exception, the stream continues.
        if self._pipeline.guard.is_failure(error):
            self._is_over = True
            self._stop()
        # Also after the end: the pipeline refuses the calls of a forked process.
        self._next = self._pipeline.next

    def send(self, value: None) -> Any:
        """Return the next batch. Only None can be sent."""
        if value is not None:
            raise TypeError("send() of an iterator of batches must be called with None")
        return self.__next__()

    def throw(self, *args: Any) -> Any:
        """End this iterator by an exception, like a generator that does not catch it."""
        self._is_over = True
        return Generator.throw(self, *args)  # not super(), which would use our __class__


def _begin() -> Any:
    raise Stopped
