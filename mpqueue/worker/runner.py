"""Runs a source for one worker, the same in processes, threads and the caller itself.

Before each item the random numbers of its batch are set, those of elements that are skipped included: so the stream is
the same whoever computes it, from wherever on.
"""

from collections.abc import Callable, Iterator
from typing import Any

from mpqueue.engine.schedule import Listed
from mpqueue.engine.torch_numbers import TorchNumbers
from mpqueue.errors import OutOfRangeError
from mpqueue.telemetry.recorder import Stages
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.failures import note_of

BeginBatch = Callable[[int, int, int], None]


class StreamEnd(Exception):
    """The stream of this worker has ended."""


class Runner:
    """Runs a source for one worker: an item of a sequence, or the next element of the worker's stream.

    Args:
        source: A sequence, a callable that returns an iterator, or an iterator.
        info: The worker.
        begin_batch: Called with (seed, epoch, unit) before the source computes that batch.
        is_stream: The source is no sequence.
        torch: Seeds torch's generator, by what ``begin_batch`` does; None: nobody does.
        epoch: For streams: the epoch that the worker begins with,
        skip: and how many elements of it to compute and drop, because they were handed out before.

    Attributes:
        stages: Where the parts of its time are noted; None: it is not timed.
    """

    def __init__(
        self, source: Any, info: WorkerInfo, begin_batch: BeginBatch, *,
        is_stream: bool, torch: TorchNumbers | None = None, epoch: int = 0, skip: int = 0,
    ) -> None:  # fmt: skip
        self._source, self._info, self._seed, self._begin_batch = source, info, info.seed, begin_batch
        self._is_stream, self._lane, self._num_lanes = is_stream, info.shard_id, info.num_shards
        self._torch, self._first_epoch, self._skip = torch, epoch, skip
        self._epoch, self._number = -1, 0  # of the stream that is open, and of its next element
        self.stages: Stages | None = None
        self._iterator: Iterator[Any] | None = None

    def note(self, unit: int, epoch: int) -> str:
        """The note of an exception that `run` raised."""
        return note_of(unit, epoch, self._info)

    def load(self, source: Any) -> None:
        """Go on with another source, a sequence."""
        self._source = source

    def run(self, epoch: int, unit: int, listed: Listed | None = None) -> Any:
        """Compute a batch, by its index, or by the number of the element of the stream.

        A source that is listed what to compute, and no plan of samples says how, has a method ``take`` for it. That
        calls its second argument with (seed, epoch, place) before each sample, and may be called again.

        Raises:
            StreamEnd: The stream has ended.
            Exception: What the source raised.
        """
        if not self._is_stream:
            if listed is not None:
                take, torch = self._source.take, self._torch
                arguments = listed, self._begin_batch
                return take(*arguments) if torch is None else torch.each(take, *arguments)
            self._begin_batch(self._seed, epoch, unit)
            return self._source[unit]
        # A loop that begins anew in the same epoch, because nothing of it was taken, goes back to its first element.
        if epoch != self._epoch or (unit < self._number and callable(self._source)):
            self._open(epoch)
        self._number = unit + 1  # not in `_next`, which is called for each sample of a batch
        return self._next(epoch, unit)

    def _open(self, epoch: int) -> None:
        """Begin the stream of an epoch, and drop what was handed out before."""
        source = self._source
        self._epoch, self._iterator = -1, None
        self._begin_batch(self._seed, epoch, self._lane)
        self._iterator = iter(source()) if callable(source) else source
        self._number = 0
        if epoch == self._first_epoch:
            for number in range(self._skip):
                try:
                    self._next(epoch, number)
                except StreamEnd:
                    break
                except (Exception, SystemExit):  # noqa: S112 - it was raised for the consumer at its place
                    continue
        self._epoch = epoch  # not before: an interrupt leaves what is to be opened again

    def _next(self, epoch: int, number: int) -> Any:
        """Compute an element; every stream has random numbers of its own."""
        iterator = self._iterator
        if iterator is None:
            raise StreamEnd
        self._begin_batch(self._seed, epoch, number * self._num_lanes + self._lane)
        try:
            return next(iterator)
        except (StopIteration, OutOfRangeError):
            self._iterator = None
            raise StreamEnd from None
        except ValueError as error:
            if "already executing" not in str(error):
                raise
            raise RuntimeError(
                "this generator is not thread-safe: it was asked for an element while another thread ran it. "
                "Use workers=1, or protect it with a lock"
            ) from error
