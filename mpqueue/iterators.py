"""The iterator that enqueuers give: an object, so that any thread may ask it for the next batch."""

import types
from collections.abc import Callable, Generator
from typing import Any, Self

from mpqueue.control.backend import EndOfStream, Stopped
from mpqueue.control.pipeline import Pipeline
from mpqueue.engine import Engine


class BatchIterator(Generator[Any, None, None]):
    """An iterator of `SequenceEnqueuer.get`: the enqueuer's stream, ``None`` items left out.

    Any number of threads may call its ``__next__``, also at once: each batch goes to one of them, and the end to all.
    It passes for a generator (``isinstance(batches, types.GeneratorType)``), because `fit` of Keras takes nothing else.

    Args:
        engine: Whose batches it gives.
        running: Returns its pipeline, None after a stop.
        stop: Called when the source has failed.
    """

    __class__ = types.GeneratorType  # type: ignore[assignment]

    def __init__(self, engine: Engine, running: Callable[[], Pipeline | None], stop: Callable[[], object]) -> None:
        self._engine, self._running, self._stop = engine, running, stop
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while not self._is_over and (pipeline := self._running()) is not None:
            try:
                batch = pipeline.next()
            except (EndOfStream, Stopped):
                self._is_over = self._engine.pipeline in {pipeline, None}
            except Exception:
                if pipeline.recovery.has_failed:  # and was not interrupted by what a signal handler raised
                    self._is_over = True
                    self._stop()
                raise
            else:
                if batch is not None:
                    return batch
        self._is_over = True
        raise StopIteration

    def send(self, value: None) -> Any:
        """Return the next batch; nothing can be sent."""
        if value is not None:
            raise TypeError("batches are only taken: send() takes None")
        return next(self)

    def throw(self, *args: Any) -> Any:
        """End this iterator by an exception, as a generator ends that does not catch it."""
        self._is_over = True
        return Generator.throw(self, *args)  # no super(): it would look at our __class__
