"""Runs a source of samples for one worker: computes the samples of a batch, and joins them.

Before each sample its random numbers are set from (seed, epoch, position in the order of all samples). So its numbers
do not depend on the batch size, or on the number of workers and ranks. Code that computes a whole batch, the source's
``__getitems__`` or the user's ``collate``, gets separate numbers, derived from the first sample's position.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from mpqueue.engine.outcomes import Partial
from mpqueue.engine.skips import Skipped
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.options.batching import Choice
from mpqueue.plan.order.epoch_samples import EpochSamples
from mpqueue.samples.collate import Collation
from mpqueue.samples.leaves import no_sample
from mpqueue.system.signals.exceptions import add_note
from mpqueue.telemetry.stages import Stages
from mpqueue.worker import context
from mpqueue.worker.failures import never_an_end, note_of, skips_sample
from mpqueue.worker.runners.runner import EMPTY, BeginBatch, RunnerArguments, SourceRunner, part_names_of, with_parts


class ClockedCollation:
    """A timed collation.

    Args:
        collation: The collation.
        stages: Records its time.
    """

    def __init__(self, collation: Collation, stages: Stages) -> None:
        self._collation, self._stages = collation, stages
        self.add, self.add_all = stages.collating(collation.add), stages.collating(collation.add_all)
        self.finish: Callable[[Sequence[Any]], Any] = stages.collating(collation.finish)

    def adder(self) -> Callable[[Any], object]:
        """Return the fastest way to add the samples after the first one."""
        return self._stages.collating(self._collation.adder())


AnyCollation: TypeAlias = Collation | ClockedCollation
# The indices of the samples without an error, these samples, and the errors of the others.
TriedSamples: TypeAlias = tuple[list[Any], list[Any], list[Skipped]]


class Joiner:
    """Joins the samples of a batch: with the default collation, or with the user's ``collate``.

    Args:
        arguments: The settings of the runner.
    """

    def __init__(self, arguments: RunnerArguments) -> None:
        assert arguments.batching is not None
        self._collate, self._ragged = arguments.batching.collate, arguments.batching.ragged
        self._in_slot, self._begin_batch, self._seed = arguments.in_slot, arguments.begin, arguments.info.seed

    def is_missing(self, sample: Any) -> bool:
        """Return whether a sample is None; a user's ``collate`` may accept None."""
        return sample is None and self._collate is None

    def collation(
        self, count: int, refuse_none: Callable[[Any], Exception], stages: Stages | None
    ) -> AnyCollation | None:
        """Return the default collation of this number of samples, or None if the user has one."""
        if self._collate is not None:
            return None
        return default_collation(count, self._in_slot, refuse_none, stages, self._ragged)

    def join(
        self,
        epoch: int,
        first: int,
        indices: Sequence[Any],
        collation: AnyCollation | None,
        samples: list[Any],
        stages: Stages | None,
    ) -> Any:
        """Return the batch of a collation that has the samples, or of a list of them for the user's ``collate``."""
        if collation is not None:
            return collation.finish(indices)
        assert self._collate is not None
        # After the samples: `collate` must not continue with the numbers of the last sample.
        self._begin_batch(self._seed, epoch, ~first)
        return collating(self._collate, stages)(samples)


class SampleRunner(SourceRunner):
    """Runs a source of samples for one worker; see `SourceRunner` for the argument.

    The source has ``__getitem__`` or ``__getitems__``, and a length, unless a sampler provides the indices.
    """

    def __init__(self, arguments: RunnerArguments) -> None:
        super().__init__(arguments)
        assert arguments.batching is not None
        self._batching, self._joiner = arguments.batching, Joiner(arguments)
        # The samples of a dataset may be made of several samples, which it skips one by one.
        self._skips_inside = arguments.batching.skips and getattr(type(arguments.source), "skips_inside", False)
        self._samples = self._read_samples()
        self._part_names = part_names_of(arguments.source)

    def _read_samples(self) -> EpochSamples:
        return EpochSamples(self._info.seed, self._batching, self._info.world, self._length_in)

    def _length_in(self, epoch: int) -> int | None:
        # The length of a dataset with changing weights differs between epochs.
        length_in: Callable[[int, int], int | None] | None = getattr(self._source, "length_in", None)
        return len(self._source) if length_in is None else length_in(epoch, self._info.seed)

    def load(self, source: Any) -> None:
        """Continue with another state of the source."""
        self._source = source
        self._samples.forget_length()

    def reopen(self) -> None:
        """Read the number of samples again: the caller's own source may have changed in the middle of an epoch."""
        # A new object: a thread that computes a discarded batch may still write the old length into the old one.
        self._samples = self._read_samples()

    def run(self, epoch: int, index: int, listed: BatchSamples | None = None) -> Any:
        """Compute a batch, by its position in the order of the epoch or by its samples.

        Raises:
            Exception: The error of the source, or of the collation.
        """
        listed = listed or self._listed(epoch, index)
        if listed.cuts:
            batch: Any = [self._computed(epoch, part) for part in self._parts_of(listed)]
        else:
            batch = self._computed(epoch, listed)
        names = self._part_names
        return batch if names is None else with_parts(self._source, names, batch, self._info.seed, epoch, listed)

    def _listed(self, epoch: int, index: int) -> BatchSamples:
        """Return the samples of a batch, by its position."""
        return self._samples.of(epoch, index)

    def _parts_of(self, listed: BatchSamples) -> Iterable[BatchSamples]:
        """Return the samples of each micro-batch of a step."""
        return listed.parts()

    def _computed(self, epoch: int, listed: BatchSamples) -> Any:
        """Return a batch of these samples."""
        return self._run(epoch, listed)

    def _run(self, epoch: int, listed: BatchSamples) -> Any:
        if listed.is_empty:
            return EMPTY
        # As in torch, a source with `__getitems__` gets one call for the whole batch.
        getitems: Any = getattr(self._source, "__getitems__", None)
        if listed.without:  # only for a dataset
            getitems = partial(getitems, without=listed.without)
        try:
            if self._batching.skips:
                return self._run_skipping(epoch, listed, getitems)
            if getitems is not None:
                return self._run_at_once(epoch, listed, getitems)
            collation, samples = self._add_each(epoch, listed, self._source, self._begin_batch)
            return self._joiner.join(epoch, listed.first, listed.indices, collation, samples, self.stages)
        except StopIteration as error:
            raise never_an_end(error) from error

    def note(self, index: int, epoch: int) -> str:
        """Return the note for an exception of `run`."""
        return note_of(index, epoch, self._info, "batch")

    def _add_each(
        self, epoch: int, listed: BatchSamples, source: Any, begin: BeginBatch
    ) -> tuple[AnyCollation | None, list[Any]]:
        """Compute the samples; return the collation that has them, or None and a list of them."""
        seed = self._info.seed  # bound to a local name: this loop runs once per sample
        samples: list[Any] = []
        collation = self._joiner.collation(len(listed.indices), self._refuse_none, self.stages)
        add: Callable[[Any], object] = samples.append if collation is None else collation.add
        position, index = listed.first, None
        positions = zip(listed.positions, listed.indices, strict=True)
        try:
            for position, index in positions:  # the first sample determines how the others are added
                begin(seed, epoch, position)
                add(source[index])
                if collation is not None:
                    add = collation.adder()
                break
            for position, index in positions:
                begin(seed, epoch, position)
                add(source[index])
        except BaseException as error:
            add_note(error, _note_of_sample(index, position))
            raise
        return collation, samples

    def _run_skipping(self, epoch: int, listed: BatchSamples, getitems: Any) -> Any:
        """Compute a batch without the samples that raise an error."""
        if getitems is not None:
            try:
                return self._run_at_once(epoch, listed, getitems)
            except BaseException as error:  # it is raised again for the sample that causes it
                if not skips_sample(error):
                    raise
        if self._skips_inside:
            getitems = partial(getitems, skips=True)
        kept, samples, skipped = self._try_each(epoch, listed, self._asks_one(getitems))
        return joined_or_skipped(kept, skipped, lambda: self._join_all(epoch, listed.first, kept, samples))

    def _asks_one(self, getitems: Any) -> Callable[[Any], Any]:
        """Return a function that computes the sample of an index."""
        return partial(operator.getitem, self._source) if getitems is None else lambda index: getitems([index])[0]

    def _try_each(self, epoch: int, listed: BatchSamples, ask: Callable[[Any], Any]) -> TriedSamples:
        """Compute the samples, and continue after errors."""

        def take(position: int, index: Any) -> Callable[[], Any]:
            self._begin_batch(self._info.seed, epoch, position)
            return partial(ask, index)

        return self._sorted_out(listed, take)

    def _sorted_out(self, listed: BatchSamples, take: Callable[[int, Any], Callable[[], Any]]) -> TriedSamples:
        """Call the functions that ``take`` returns for position and index of each sample."""
        skipped: list[Skipped] = []
        kept: list[Any] = []
        samples: list[Any] = []
        for position, index in zip(listed.positions, listed.indices, strict=True):
            ask = take(position, index)  # its errors do not belong to a sample
            try:
                sample = ask()
            except BaseException as error:
                add_note(error, _note_of_sample(index, position))
                if not skips_sample(error):
                    raise
                skipped.append(Skipped.because_of(error, index))
                continue
            if type(sample) is Partial:
                sample, inside, is_empty = sample
                skipped += [Skipped(*entry) for entry in inside]
                if is_empty:
                    continue
            if self._joiner.is_missing(sample):
                skipped.append(Skipped.because_of(self._refuse_none(index), index))
                continue
            kept.append(index)
            samples.append(sample)
        return kept, samples, skipped

    def _join_all(self, epoch: int, first: int, indices: Sequence[Any], samples: list[Any]) -> Any:
        collation = self._joiner.collation(len(samples), self._refuse_none, self.stages)
        if collation is not None:
            collation.add_all(samples)
        return self._joiner.join(epoch, first, indices, collation, samples, self.stages)

    def _run_at_once(self, epoch: int, listed: BatchSamples, getitems: Callable[[Any], Any]) -> Any:
        first, indices = listed.first, listed.indices
        # `~first` is negative, so it never equals a sample's position, which has its own numbers.
        self._begin_batch(self._info.seed, epoch, ~first)
        return self._join_all(epoch, first, indices, all_of(self._source, getitems, list(indices)))

    def _refuse_none(self, index: Any) -> Exception:
        """Return the error for a sample that is None."""
        # A dataset names the source that it has read.
        refuse = getattr(type(self._source), "refuse_none", None)
        if refuse is not None:
            error: Exception = refuse(self._source, index)
            return error
        called = "__getitem__" if getattr(self._source, "__getitems__", None) is None else "__getitems__"
        return no_sample(
            f"the sample of index {index!r} of {type(self._source).__name__}", f"did `{called}` forget to return?"
        )


def all_of(source: Any, getitems: Callable[[Any], Any], indices: list[Any]) -> list[Any]:
    """Return the samples of these indices, computed by one call of the source's ``__getitems__``."""
    return one_for_each(source, indices, getitems(indices))


def one_for_each(source: Any, indices: list[Any], made: Iterable[Any]) -> list[Any]:
    """Return the result of a source's ``__getitems__`` as a list.

    Raises:
        ValueError: There are too many samples, or too few.
    """
    samples = list(made)
    if len(samples) != len(indices):
        name = type(source).__name__
        raise ValueError(f"{name}.__getitems__ must return one sample per index ({len(indices)}), got {len(samples)}")
    return samples


def _note_of_sample(index: Any, position: int) -> str:
    return f"the sample of index {index!r}, at place {position} of the epoch"


def default_collation(
    count: int, in_slot: bool, refuse_none: Callable[[Any], Exception], stages: Stages | None, ragged: Choice | None
) -> AnyCollation:
    """Return the collation of this number of samples, timed if ``stages`` is not None."""
    collation = Collation(count, context.empty, keeps_records=in_slot, refuse_none=refuse_none, ragged=ragged)
    return collation if stages is None else ClockedCollation(collation, stages)


def collating(collate: Callable[[list[Any]], Any], stages: Stages | None) -> Callable[[list[Any]], Any]:
    """Return the user's function, timed if ``stages`` is not None."""
    return collate if stages is None else stages.collating(collate)


def joined_or_skipped(kept: Sequence[Any], skipped: list[Skipped], join: Callable[[], Any]) -> Any:
    """Return the batch of the kept samples; a batch that cannot be joined is skipped as a whole."""
    batch, is_empty = None, not kept
    if not is_empty:
        try:
            batch = join()
        except BaseException as error:
            if not skips_sample(error):
                raise
            skipped.append(Skipped.because_of(error, *kept))
            is_empty = True
    return Partial(batch, [tuple(entry) for entry in skipped], is_empty) if skipped else batch
