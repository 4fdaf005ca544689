"""Runs a source for one worker, in the same way in processes, threads and the caller; here, one with an index.

Before each item the random numbers of its batch are set, so a stream is the same in any worker and from any start.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mpqueue.engine.outcomes import BatchWithState, Partial
from mpqueue.engine.skips import SkippedSamples
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.options.batching import Batching, Concurrency
from mpqueue.seeding.lazy_seeding import LazySeeding
from mpqueue.telemetry.stage_rows import StageRows
from mpqueue.telemetry.stages import Stages
from mpqueue.worker import context
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.failures import note_of
from mpqueue.worker.retry_markers import Name

BeginBatch = Callable[[int, int, int], None]
# Maps a position after the present batch (0 is the next one) to the epoch, index and samples of that batch, the
# arguments of a runner's `run`; None if it is not known yet.
BatchAhead = Callable[[int], tuple[int, int, BatchSamples | None] | None]


# The result for a batch with all samples excluded.
EMPTY = Partial(None, [], True)


class StreamEnd(Exception):
    """The end of a lane of a stream.

    Args:
        rows: The unreported work of its stages.
        skipped: The samples skipped after its last element: fields of `mpqueue.engine.skips.Skipped`.
    """

    def __init__(self, rows: StageRows = (), skipped: Sequence[tuple[Any, ...]] = ()) -> None:
        super().__init__()
        self.rows, self.skipped = rows, skipped


def part_names_of(source: Any) -> Any:
    """Return the parts of the mixtures of a source, whose samples are counted in each batch; None: it has no mixture.

    Such a source is a dataset. It has the method ``num_by_part(names, indices, seed, epoch, without)``, or its lanes
    have ``num_by_part(names)``, which counts the samples of the last element.
    """
    make = getattr(type(source), "make_part_names", None)
    return None if make is None else make(source)


def with_parts(source: Any, names: Any, batch: Any, seed: int, epoch: int, listed: BatchSamples) -> Any:
    """Return a batch with the numbers of its samples from each part of a mixture.

    Args:
        source: The source.
        names: The result of `part_names_of` for it.
        batch: The batch, or a `Partial`.
        seed: The seed of the run.
        epoch: The epoch.
        listed: The samples of the batch.
    """
    indices, without = list(listed.indices), listed.without
    if type(batch) is Partial:
        if batch.is_empty:
            return batch
        skipped = SkippedSamples.of(batch.skipped)
        for index in skipped.indices:
            indices.remove(index)
        without |= frozenset(skipped.ids)
    return BatchWithState(batch, parts=source.num_by_part(names, indices, seed, epoch, without))


class RunnerArguments(NamedTuple):
    """The arguments of a runner.

    Attributes:
        source: The source.
        info: The worker.
        begin: Called with (seed, epoch, position) before a batch, sample or element.
        batching: How samples or elements become batches; None if items or elements are batches.
        in_slot: Batches are written into a slot.
        seeding: Seeds the global generators once for samples that share them. If None, they are not seeded.
        num_lanes: Number of lanes over all ranks; 0 if the source has an index.
        endless: A finished lane restarts.
        skips: A lane, or a dataset with elements made of several samples, skips samples that raise an error.
        coroutines: How the coroutines of an asynchronous source run; None: it is not asynchronous.
    """

    source: Any
    info: WorkerInfo
    begin: BeginBatch
    batching: Batching | None
    in_slot: bool
    seeding: LazySeeding | None = None
    num_lanes: int = 0
    endless: bool = False
    skips: bool = False
    coroutines: Concurrency | None = None


class SourceRunner:
    """Runs a source for one worker: a class for each `RunnerKind`.

    Args:
        arguments: The source, the worker, and the settings of both.

    Attributes:
        stages: Records the parts of the time; None if it is not timed.
        tell_mark: Reports the present sample of a stream to the trainer; None if samples are not reported.
    """

    stages: Stages | None = None
    tell_mark: Callable[[Name | None], object] | None = None

    def __init__(self, arguments: RunnerArguments) -> None:
        self._arguments = arguments
        self._source, self._info, self._begin_batch = arguments.source, arguments.info, arguments.begin

    def run(self, epoch: int, index: int, argument: Any = None, /) -> Any:
        """Compute a batch.

        Args:
            epoch: The epoch.
            index: The index of the batch, or its position.
            argument: The samples of the batch, or the start of a lane; None: they follow from the index.

        Raises:
            StreamEnd: The lane is exhausted.
            Exception: The error of the source.
        """
        raise NotImplementedError

    def note(self, index: int, epoch: int) -> str:
        """Return the note for an exception of `run`."""
        return note_of(index, epoch, self._info)

    def load(self, source: Any) -> None:
        """Continue with another source, or another state of the same one; an iterator is never sent again."""
        self._source = source

    def end(self) -> None:
        """Release the resources after the last batch."""

    def begin_ahead(self, batch_ahead: BatchAhead | None) -> None:
        """Start samples of the next batches while threads are idle, if there are threads; None: stop that."""

    @property
    def is_shared(self) -> bool:
        """True if the workers, or lanes, divide the elements of the source."""
        return True

    def is_at(self, epoch: int, index: int) -> bool:  # an index has no position
        """Return True if `run` needs no start of a lane."""
        return True

    def reopen(self) -> None:
        """Open all lanes, and read lengths, again: the source in this process has changed; from any thread."""

    def close_lane(self, lane: int) -> None:
        """Release a lane that another worker has now."""


class Runner(SourceRunner):
    """Runs a sequence for one worker; see `SourceRunner` for the argument."""

    def __init__(self, arguments: RunnerArguments) -> None:
        super().__init__(arguments)
        self._seed = arguments.info.seed
        self._part_names = part_names_of(arguments.source)

    def begin_ahead(self, batch_ahead: BatchAhead | None) -> None:
        """Start samples of the next batches while threads of the source are idle."""
        self._source.begin_ahead(batch_ahead)

    def run(self, epoch: int, index: int, listed: BatchSamples | None = None) -> Any:
        """Compute a batch, by its index.

        A source that computes listed samples without a plan has a method ``take`` for them. It calls its second
        argument with (seed, epoch, position) before each sample.

        Raises:
            Exception: The error of the source.
        """
        if listed is not None:
            if listed.is_empty:
                return EMPTY
            return self._source.take(listed, self._begin_batch)
        self._begin_batch(self._seed, epoch, index)
        batch, names = self._source[index], self._part_names
        if names is None:
            return batch
        return with_parts(self._source, names, batch, self._seed, epoch, BatchSamples(index, [index]))


class GroupsRunner(Runner):
    """Runs a dataset with elements made of several samples; see `SourceRunner` for the argument."""

    def run(self, epoch: int, index: int, listed: BatchSamples | None = None) -> Any:
        """Compute an element by its index; a `Partial`, if samples that raise are skipped in it.

        Raises:
            Exception: The error of the dataset.
        """
        if listed is None:
            listed = BatchSamples(index, [index])
        elif listed.is_empty:
            return EMPTY
        self._begin_batch(self._seed, epoch, index)
        (batch,) = self._source.__getitems__([index], listed.without, skips=self._arguments.skips)
        names = self._part_names
        return batch if names is None else with_parts(self._source, names, batch, self._seed, epoch, listed)


def run_timed(source: Any, stages: Stages, run: Callable[..., Any], *arguments: Any) -> Any:
    """Compute a timed batch.

    Args:
        source: The source of the batch. A source with stages has a method ``make_tally``. Its result records the work
            of stages, in this thread and its helpers, and has a method ``rows`` that receives the nanoseconds of
            collation.
        stages: Records the parts of the time.
        run: Computes the batch.
        arguments: Arguments of ``run``.

    Returns:
        The batch; `BatchWithState`, if stages have work to report.

    Raises:
        Exception: The error of the batch.
    """
    if not hasattr(type(source), "make_tally"):
        return run(*arguments)
    tally = source.make_tally()
    context.begin_tally(tally)
    # Ended in any case: the next batch is not timed, and must not add to this tally.
    try:
        batch = run(*arguments)
    finally:
        context.begin_tally(None)
    rows = tally.rows(stages.collate_ns)
    if not rows:
        return batch
    return batch._replace(rows=rows) if type(batch) is BatchWithState else BatchWithState(batch, rows=rows)
