"""The iterator and the queue that enqueuers give: any thread may ask them for the next batch."""

import types
import weakref
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from mpqueue.engine.backend import EndOfStream, Stopped
from mpqueue.engine.pipeline import Pipeline
from mpqueue.worker.failures import never_an_end

if TYPE_CHECKING:
    from mpqueue.engine.async_batches import AsyncBatches
    from mpqueue.system.living import Living


class EnqueuerQueue:
    """The batches that are ready, under the names of `queue.Queue` that fit loops use."""

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
        """The next batch, ``None`` included; waits for it.

        Raises:
            RuntimeError: The enqueuer does not run.
            Exception: What the source raised.
        """
        pipeline = self._pipeline()
        if pipeline is None:
            raise RuntimeError("the enqueuer does not run: call start() first")
        try:
            return pipeline.next()
        except StopIteration as error:  # it would end `iter(queue.get, None)`
            raise never_an_end(error) from error

    def _pipeline(self) -> Pipeline | None:
        enqueuer = self._enqueuer()
        pipeline: Pipeline | None = None if enqueuer is None else enqueuer._engine.pipeline
        return pipeline


class BatchIterator(Generator[Any, None, None]):
    """An iterator of `SequenceEnqueuer.get`: the enqueuer's stream, ``None`` items left out.

    Any number of threads may call its ``__next__``, also at once: each batch goes to one of them, and the end to all.
    It passes for a generator (``isinstance(batches, types.GeneratorType)``), because `fit` of Keras takes nothing else.

    Args:
        running: Returns the pipeline of the enqueuer, None after a stop.
        stop: Called when the source has failed.
        steps: It never waits, and gives the answers of `Pipeline.step`, an empty tuple where a batch is not there yet:
            see `mpqueue.engine.async_batches`, whose `Pollable` it is then.
    """

    __class__ = types.GeneratorType  # type: ignore[assignment]

    def __init__(
        self, running: Callable[[], Pipeline | None], stop: Callable[[], object], *, steps: bool = False
    ) -> None:
        self._running, self._stop, self._steps = running, stop, steps
        self._pipeline: Pipeline | None = None
        self._next: Callable[[], Any] = _begin  # of the pipeline: this is the way of every batch
        self._is_over = False
        self._failure: Exception | None = None  # an interrupt has kept it from the caller

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                batch = self._next()
            # One start of the enqueuer is over; there may have been another one since.
            except (EndOfStream, Stopped):
                self._go_on()
            except Exception as error:
                try:
                    self._note_failure(error)
                    told: BaseException = error
                    if isinstance(error, StopIteration):  # of the source or its hook: `_go_on` alone ends this iterator
                        told = never_an_end(error)
                except BaseException:  # an interrupt: the failure is raised by the next call
                    self._failure, self._next = error, _begin
                    raise
                if told is not error:
                    raise told from error
                raise
            else:
                # Keras's own enqueuers leave out what is None.
                if batch is not None:
                    return batch

    def _go_on(self) -> None:
        """Go on with another start of the enqueuer, or end."""
        if self._failure is not None:
            self._note_failure(self._failure)
            failure, self._failure = self._failure, None
            if self._is_over:
                raise never_an_end(failure)
            return  # an interrupt, which another one has followed: the caller got that
        pipeline = None if self._is_over else self._running()
        if pipeline is None or pipeline is self._pipeline:
            self._is_over = True
            raise StopIteration
        self._pipeline, self._next = pipeline, self._way(pipeline)

    def _way(self, pipeline: Pipeline) -> Callable[[], Any]:
        return partial(_step, pipeline) if self._steps else pipeline.next

    def _note_failure(self, error: Exception) -> None:
        if self._pipeline is None:
            return
        # A failure ends all iterators. What the handler of a signal raises is none, and the stream goes on.
        if self._pipeline.is_failure(error):
            self._is_over = True
            self._stop()
        else:
            self._next = self._way(self._pipeline)

    # -- Of the stream that it gives batches of, once it has given or refused one

    @property
    def watchers(self) -> "Living[AsyncBatches]":
        """See `Pollable`."""
        assert self._pipeline is not None
        return self._pipeline.watchers

    def fileno(self) -> int:
        """See `Pollable`."""
        assert self._pipeline is not None
        return self._pipeline.fileno()

    def timeout_s(self) -> float | None:
        """See `Pollable`."""
        assert self._pipeline is not None
        return self._pipeline.timeout_s()

    def send(self, value: None) -> Any:
        """Return the next batch; nothing can be sent."""
        if value is not None:
            raise TypeError("batches are only taken: send() takes None")
        return self.__next__()  # no `next(self)`: see NOTE [ Interrupts ] in mpqueue.engine.pipeline

    def throw(self, *args: Any) -> Any:
        """End this iterator by an exception, as a generator ends that does not catch it."""
        self._is_over = True
        return Generator.throw(self, *args)  # no super(): it would look at our __class__


def _step(pipeline: Pipeline) -> Any:
    taken = pipeline.step()
    if taken is None:
        return ()
    return None if taken[1] is None else taken  # an item that is None is left out


def _begin() -> Any:
    raise Stopped
