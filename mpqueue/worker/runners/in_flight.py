"""Runs a source of samples with several samples in flight: for sources that wait for disks or networks.

Each sample has its own `mpqueue.rng`, as with one thread, and the worker's own thread joins the samples in order. They
are computed by threads (``threads``) or by coroutines (``concurrency``). At most four samples per thread or coroutine
wait for their turn. If that exceeds the rest of a batch, samples of the next batches are started, if those are granted
and belong to the same epoch. Otherwise all threads would wait for the slowest sample of each batch. A sample that
crashes the worker may then do so before its turn, and the crash is attributed to the present batch. So no sample is
started before its turn during a worker's first batch, until the batches that were open at a crash are computed
(`mpqueue.backends.processes.supervision`), or with ``restarts=0``.

With ``__getitems__``, each thread requests a part of the batch, if the source allows that (``thread_safe = True``, see
`mpqueue.plan.order.rules`). Its random numbers follow from the first sample of the part. A coroutine requests a whole
batch.

The global generators of the process, and the generators of the source, are seeded once per batch, and the threads draw
from them in an unpredictable order. A worker checks in its first batch whether samples use them.
"""

import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.worker.concurrency.helper_threads import Helpers
from mpqueue.worker.concurrency.in_order import CallWindow, Helping, InOrder
from mpqueue.worker.random_state.shared_generator_check import SharedGeneratorCheck
from mpqueue.worker.runners.runner import BatchAhead, BeginBatch, RunnerArguments
from mpqueue.worker.runners.sample_runner import AnyCollation, SampleRunner, TriedSamples, all_of


class BatchIndices(NamedTuple):
    """The indices of the samples of a batch.

    Attributes:
        epoch: Epoch of the batch.
        listed: The samples.
    """

    epoch: int
    listed: BatchSamples

    def is_same_as(self, other: "BatchIndices") -> bool:
        """Return whether these are the same samples."""
        mine, theirs = self.listed, other.listed
        if (self.epoch, mine.positions) != (other.epoch, theirs.positions):
            return False
        # Listed indices may be anything, including arrays; then they are the same object.
        return mine.indices is theirs.indices or list(mine.indices) == list(theirs.indices)


def whole(listed: BatchSamples) -> BatchSamples:
    """Return a batch as a single sample. It has the random numbers of the batch, which no sample has."""
    return BatchSamples(~listed.first, [list(listed.indices)])


FindAhead: TypeAlias = Callable[[int], BatchIndices | None]


class SamplesInFlight:
    """The samples in flight of one worker.

    Args:
        make: Creates the threads or coroutines, for the first batch.
        tells: Name and value of the option, if samples share generators that are seeded for each batch: warn if the
            first batch uses them. None: no warning.
        timeout_s: Maximum time for a batch, for coroutines; None for none.
    """

    # No `__dict__`: a search through the source's attributes must not enter this object.
    __slots__ = ("_begun", "_calls", "_draws", "_helpers", "_make", "_tells", "_timeout_s", "_window")

    def __init__(self, make: Callable[[], Helping], tells: str | None, timeout_s: float | None = None) -> None:
        self._make, self._tells, self._timeout_s = make, tells, timeout_s
        self._helpers: Helping | None = None
        self._calls: InOrder | None = None  # the calls of the latest batch
        self._begun: deque[tuple[BatchIndices, InOrder]] = deque()  # next batches with started samples
        self._draws: SharedGeneratorCheck | None = None
        self._window = CallWindow()

    def each(
        self, ask: Callable[[Any], Any], seed: int, batch: BatchIndices, find_ahead: FindAhead | None = None
    ) -> InOrder:
        """Start the samples of a batch, one by one.

        Args:
            ask: Returns the sample of an index.
            seed: Seed of the stream.
            batch: The samples.
            find_ahead: Returns a batch after this one (0 is the next one), or None if unknown: its samples may be
                started before its turn.
        """
        helpers, is_first = self._ready(), self._calls is None
        calls = self._take_begun(helpers, batch)
        if calls is None:
            if not self._begun:  # counted again: a call may have ended in the middle of a batch
                self._window = CallWindow()
            calls = self._calls_of(helpers, ask, seed, batch)
        last = self._begun[-1][1] if self._begun else calls
        last.find_next = None
        # Not from the first batch: it is checked for draws from shared generators.
        if find_ahead is not None and not is_first:
            last.find_next = partial(self._begin_next, ask, seed, find_ahead)
        self._calls, self._window.last, self._window.pause = calls, last, 0
        return calls

    def _begin_next(self, ask: Callable[[Any], Any], seed: int, find_ahead: FindAhead) -> InOrder | None:
        """Return the calls of the batch after the started ones."""
        batch = find_ahead(len(self._begun))
        if batch is None:
            return None
        assert self._helpers is not None
        calls = self._calls_of(self._helpers, ask, seed, batch)
        calls.find_next = partial(self._begin_next, ask, seed, find_ahead)
        self._begun.append((batch, calls))
        return calls

    def _calls_of(self, helpers: Helping, ask: Callable[[Any], Any], seed: int, batch: BatchIndices) -> InOrder:
        call = helpers.in_context(ask, seed, batch.epoch)
        samples = zip(batch.listed.positions, batch.listed.indices, strict=True)
        return InOrder(helpers, call, samples, self._window, self._timeout_s)

    def _take_begun(self, helpers: Helping, batch: BatchIndices) -> InOrder | None:
        """Return the calls of this batch, if some are started."""
        if self._begun:
            expected, calls = self._begun.popleft()
            if expected.is_same_as(batch) and calls.helpers is helpers:
                return calls
            with calls:  # it was not granted after all
                self.forget_begun()
        return None

    def forget_begun(self) -> None:
        """Wait for the started samples of the next batches, which will be computed again."""
        while self._begun:
            with self._begun.popleft()[1]:
                continue

    def in_parts(
        self, getitems: Callable[[Any], Any], seed: int, epoch: int, first: int, indices: Sequence[Any]
    ) -> list[Any]:
        """Return the samples of these indices; each thread requests a part of them.

        Raises:
            Exception: The error of the source.
        """
        helpers = self._ready()
        # Parts of equal size, because the source computes each part in one call.
        bounds = [part * len(indices) // helpers.width for part in range(helpers.width + 1)]
        parts = [(~(first + one), list(indices[one:end])) for one, end in itertools.pairwise(bounds)]
        parts = [part for part in parts if part[1]]
        self._calls = InOrder(helpers, helpers.in_context(getitems, seed, epoch), parts)
        with self._calls as calls:
            return [sample for _ in parts for sample in calls.next()]

    def _ready(self) -> Helping:
        if self._helpers is None or (self._calls is not None and self._calls.is_given_up):
            self._helpers = self._make()
        if self._tells is not None:  # again after a failed first batch, because the generators were seeded since
            self._draws = SharedGeneratorCheck()
        return self._helpers

    @property
    def beside_ns(self) -> int:
        """Nanoseconds that the samples of the latest batch took beyond the time of the worker's own thread."""
        return 0 if self._calls is None else self._calls.beside_ns

    def end(self) -> None:
        """End the threads, after their present calls.

        Without this, an error that user code keeps would keep the threads, because its traceback has the frames of this
        worker.
        """
        helpers, calls, self._helpers = self._helpers, self._calls, None
        self.forget_begun()
        # A batch that this call has left continues, and needs its threads.
        if helpers is not None and (calls is None or calls.is_over):
            helpers.dismiss()

    def look(self) -> None:
        """Warn once if the samples of a batch have used generators that they share."""
        draws, option = self._draws, self._tells
        self._draws = self._tells = None
        if option is not None and draws is not None:
            draws.tell(option)


class InFlightRunner(SampleRunner):
    """Runs a source of samples in several threads; see `SampleRunner`."""

    def __init__(self, arguments: RunnerArguments) -> None:
        super().__init__(arguments)
        self._seeding = arguments.seeding
        self._in_flight = samples_in_flight(arguments, self._make_helpers(), self._option())
        self._batch_ahead: BatchAhead | None = None
        self._left: Sequence[BatchSamples] = ()  # of a step: its micro-batches after the present one

    def _parts_of(self, listed: BatchSamples) -> Iterator[BatchSamples]:
        parts = listed.parts()
        for at, part in enumerate(parts):
            self._left = parts[at + 1 :]
            yield part

    def _make_helpers(self) -> Callable[[], Helping]:
        return partial(Helpers, self._batching.threads)

    def _option(self) -> str:
        return f"threads={self._batching.threads}"

    def begin_ahead(self, batch_ahead: BatchAhead | None) -> None:
        """Start samples of the next batches of an epoch while threads are idle; None stops that."""
        self._batch_ahead = batch_ahead

    def load(self, source: Any) -> None:
        """Continue with another state of the source."""
        self._in_flight.forget_begun()
        super().load(source)

    def _find_ahead(self, epoch: int, position: int) -> BatchIndices | None:
        """Return a batch of this epoch after the present one, or None if unknown."""
        parts, num_found = self._left, 0
        while position >= len(parts):  # micro-batches count as batches
            position -= len(parts)
            batch = None if self._batch_ahead is None else self._batch_ahead(num_found)
            if batch is None or batch[0] != epoch:  # no sample may be in progress when an epoch ends
                return None
            _, index, listed = batch
            parts, num_found = (listed or self._listed(epoch, index)).parts(), num_found + 1
        return BatchIndices(epoch, parts[position])

    def _ask_each(self, ask: Callable[[Any], Any], epoch: int, listed: BatchSamples) -> InOrder:
        # Seeds the shared generators once for the batch; each sample only gets its own `mpqueue.rng`.
        self._begin_batch(self._info.seed, epoch, ~listed.first)
        # `__getitems__` gets whole batches, so no single sample can be started.
        at_once = getattr(self._source, "__getitems__", None) is not None
        find_ahead = None if self._batch_ahead is None or at_once else partial(self._find_ahead, epoch)
        return self._in_flight.each(ask, self._info.seed, BatchIndices(epoch, listed), find_ahead)

    def _computed(self, epoch: int, listed: BatchSamples) -> Any:
        if self._seeding is None:
            batch = self._run(epoch, listed)
        else:
            batch = self._seeding.once((self._info.seed, epoch, ~listed.first), self._run, epoch, listed)
        if self.stages is not None:
            self.stages.beside_ns = self._in_flight.beside_ns
        return batch

    def end(self) -> None:
        """End the threads."""
        self._in_flight.end()

    def _add_each(
        self,
        epoch: int,
        listed: BatchSamples,
        source: Any,
        begin: BeginBatch,  # a helper thread begins its sample
    ) -> tuple[AnyCollation | None, list[Any]]:
        with self._ask_each(partial(operator.getitem, source), epoch, listed) as calls:
            added = super()._add_each(epoch, listed, calls, _begun)
        self._in_flight.look()
        return added

    def _try_each(self, epoch: int, listed: BatchSamples, ask: Callable[[Any], Any]) -> TriedSamples:
        with self._ask_each(ask, epoch, listed) as calls:
            tried = self._sorted_out(listed, lambda _position, _index: calls.take())
        self._in_flight.look()
        return tried

    def _run_at_once(self, epoch: int, listed: BatchSamples, getitems: Callable[[Any], Any]) -> Any:
        first, indices = listed.first, listed.indices
        self._begin_batch(self._info.seed, epoch, ~first)
        ask = partial(all_of, self._source, getitems)
        samples = self._in_flight.in_parts(ask, self._info.seed, epoch, first, indices)
        self._in_flight.look()
        return self._join_all(epoch, first, indices, samples)


def samples_in_flight(arguments: RunnerArguments, make: Callable[[], Helping], option: str) -> SamplesInFlight:
    """Return the samples in flight of a runner.

    Args:
        arguments: The arguments of the runner.
        make: Creates the threads or coroutines.
        option: Name and value of the option that sets their number.
    """
    # Worker threads, and a caller without a seed, do not seed shared generators.
    tells = option if arguments.seeding is not None and arguments.info.id == 0 else None
    return SamplesInFlight(make, tells, None if arguments.coroutines is None else arguments.coroutines.timeout_s)


def _begun(_seed: int, _epoch: int, _position: int) -> None:
    """Leave the start of a sample to its helper thread."""
