"""The source of torch's workers: it computes batches for a `DataLoader` in a worker process.

It is sent to the workers once, and corresponds to torch's own ``_worker_loop``: one thread for torch's operations,
``get_worker_info()``, ``worker_init_fn``, then the items and ``collate_fn``. For a map-style dataset, the trainer sends
the indices of each batch. An iterable-style dataset is iterated in each worker.

*Random numbers.* A map-style sample's numbers depend on (base seed, epoch, position in the order), a stream's
batch on (base seed, epoch, position of the batch, worker). The worker process seeds all generators, as for any source;
see `mpqueue.seeding.lazy_seeding`.
"""

import itertools
import operator
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.utils.data._utils import worker as torch_worker

from mpqueue.frameworks.torch.source.iterated import IteratedDataset, copy_before, ended_early, is_of_earlier, state_of
from mpqueue.frameworks.torch.source.loaded_positions import copied
from mpqueue.frameworks.torch.source.samples import StepIndices, index_of, keys_of
from mpqueue.frameworks.torch.tensors.collation import SlotCollation, collated
from mpqueue.frameworks.torch.tensors.tensors import encode
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.options.batching import Concurrency
from mpqueue.seeding.global_rng import GlobalState
from mpqueue.system.signals.exceptions import add_note
from mpqueue.system.user_code.iterators import rest_of
from mpqueue.worker import context
from mpqueue.worker.concurrency.helper_threads import Helpers
from mpqueue.worker.runners.generator_lanes import has_state
from mpqueue.worker.runners.runner import BatchAhead

Begin: TypeAlias = Callable[[int, int, int], None]

INIT_NOTE = "raised by worker_init_fn"
_EPOCH_SHIFT = 44  # bits for positions in an epoch: no dataset has 2**44 samples


class LoaderParts(NamedTuple):
    """The parts of a `DataLoader` that its workers need.

    Attributes:
        dataset: The dataset.
        collate_fn: The loader's function.
        worker_init_fn: Called first in each worker, with the worker's index.
        base_seed: The seed that was drawn from the loader's generator.
        num_workers: Number of workers; 0: the trainer computes.
        batch_size: Number of elements of a stream per batch; None: each element is a batch. Not used for map-style
            datasets.
        drop_last: Drop a stream's last batch if it is short.
        is_batched: The trainer sends a list of indices for each batch, not one index.
        threads: Number of threads that compute the samples of a batch in a worker.
        coroutines: How the coroutines of an asynchronous dataset run; None: it is not asynchronous.
        returned: The epoch that a state resumes, and the number of batches that each stream had returned.
    """

    dataset: Any
    collate_fn: Callable[[Any], Any]
    worker_init_fn: Callable[[int], Any] | None
    base_seed: int
    num_workers: int
    batch_size: int | None
    drop_last: bool
    is_batched: bool
    threads: int = 1
    coroutines: Concurrency | None = None
    returned: tuple[int, tuple[int, ...]] = (-1, ())


def listed_of(index: Any, epoch: int, position: int) -> BatchSamples:
    """Return the message that requests a batch from a worker, for the index or indices that a sampler returned."""
    first = (epoch << _EPOCH_SHIFT) + position
    if type(index) is StepIndices:
        return BatchSamples(first, keys_of(index, is_batched=True), cuts=tuple(map(len, index.parts)))
    return BatchSamples(first, index if type(index) is list else ("", index))


def getitems_of(dataset: Any) -> Any:
    """Return a dataset's method that computes all samples of a batch in one call; None if it lacks such a method."""
    return getattr(dataset, "__getitems__", None)


def _epoch_of(listed: BatchSamples) -> tuple[int, BatchSamples]:
    """Return the epoch of a batch, and its samples with their positions in the epoch."""
    epoch, first = divmod(listed.first, 1 << _EPOCH_SHIFT)
    kept = None if listed.kept is None else [position & ((1 << _EPOCH_SHIFT) - 1) for position in listed.kept]
    return epoch, BatchSamples(first, index_of(listed), kept, cuts=listed.cuts)


class LoaderSource:
    """The source of a loader's workers.

    Args:
        parts: The parts of the loader.
    """

    def __init__(self, parts: LoaderParts) -> None:
        self.parts = parts
        self._collation = SlotCollation()

    def parts_to_close(self) -> list[Any]:
        """Return the dataset, if its coroutines compute samples in the event loop."""
        return [] if self.parts.coroutines is None else [self.parts.dataset]

    def prepare(self) -> None:
        """Prepare this process like one of torch's workers; called once, before the first batch."""
        worker = context.worker_info()
        assert worker is not None
        # As in torch's own workers: with a thread for each CPU, several processes would slow each other down.
        torch.set_num_threads(1)
        _seed_for_init(self.parts.base_seed, worker.id)
        self._collation.install()
        if self.parts.worker_init_fn is not None:
            try:
                self.parts.worker_init_fn(worker.id)
            except BaseException as error:
                add_note(error, INIT_NOTE)  # the trainer checks it: see `PassReader.raise_init_error`
                raise


def _seed_for_init(base_seed: int, worker_index: int) -> None:
    """Seed the global generators like torch's worker, so that ``worker_init_fn`` draws the same numbers.

    Follows: ``torch.utils.data._utils.worker._worker_loop``.
    """
    seed = base_seed + worker_index
    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(torch_worker._generate_state(base_seed, worker_index))  # noqa: NPY002


class MapSource(LoaderSource):
    """Computes the batches of a map-style dataset.

    Args:
        parts: The parts of the loader.
    """

    def __init__(self, parts: LoaderParts) -> None:
        super().__init__(parts)
        self._in_flight: Any = None  # `SamplesInFlight`, created with the first batch
        self._batch_ahead: BatchAhead | None = None

    def begin_ahead(self, batch_ahead: BatchAhead | None) -> None:
        """Allow samples of later batches to begin before their turn; None: stop doing so."""
        self._batch_ahead = batch_ahead

    def take(self, listed: BatchSamples, begin: Begin) -> Any:
        """Compute a batch that the trainer requested; ``begin`` is called with (seed, epoch, position) per sample."""
        epoch, batch = _epoch_of(listed)
        try:
            data = self._items(batch, epoch, begin)
            # Seed for collate_fn: its random numbers must not depend on how many the last sample has drawn.
            begin(self.parts.base_seed, epoch, ~batch.first)
            value = collated(self.parts.collate_fn, data, self.parts.dataset, batch.indices, batch.cuts)
            # Without workers, the trainer computes the batch itself and needs no encoding.
            return encode(value, self._collation.find) if self.parts.num_workers else value
        finally:
            # Also after an error: a kept array would keep its slot.
            self._collation.forget()

    def end(self) -> None:
        """End the threads; a later batch starts new ones."""
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            in_flight.end()

    def _items(self, batch: BatchSamples, epoch: int, begin: Begin) -> Any:
        dataset, seed, first, index = self.parts.dataset, self.parts.base_seed, batch.first, batch.indices
        if not self.parts.is_batched:
            if self.parts.coroutines is not None:
                return self._at_once(BatchSamples(first, [index]), epoch, begin)[0]
            begin(seed, epoch, first)
            return dataset[index]
        if self.parts.threads > 1 or self.parts.coroutines is not None:
            return self._at_once(batch, epoch, begin)
        if getitems_of(dataset):
            # One call computes all samples. No sample uses the complement of a position, so its numbers differ from
            # theirs.
            begin(seed, epoch, ~first)
            return dataset.__getitems__(index)
        items = []
        positions = itertools.count(first) if batch.kept is None else batch.kept
        for position, each in zip(positions, index, strict=False):
            begin(seed, epoch, position)
            items.append(dataset[each])
        return items

    def _at_once(self, batch: BatchSamples, epoch: int, begin: Begin) -> list[Any]:
        """Return the samples of a batch, several computed at once."""
        from mpqueue.worker.runners.in_flight import BatchIndices, whole

        parts, dataset = self.parts, self.parts.dataset
        getitems = getitems_of(dataset) if parts.is_batched else None
        is_whole = bool(getitems) and parts.coroutines is not None  # one coroutine computes a whole batch

        def find_ahead(position: int) -> BatchIndices | None:
            ahead = None if self._batch_ahead is None else self._batch_ahead(position)
            if ahead is None or ahead[2] is None:
                return None
            its_epoch, its_batch = _epoch_of(ahead[2])
            if not parts.is_batched:
                its_batch = BatchSamples(its_batch.first, [its_batch.indices])
            elif type(its_batch.indices) is not list:
                return None
            return BatchIndices(epoch, whole(its_batch) if is_whole else its_batch) if its_epoch == epoch else None

        seed, first, index, in_flight = parts.base_seed, batch.first, batch.indices, self._samples_in_flight(is_whole)
        # Samples share the global generators, which are seeded once per batch. `mpqueue.rng` is separate per sample.
        begin(seed, epoch, ~first if parts.is_batched else first)
        if getitems and not is_whole:
            items: list[Any] = in_flight.in_parts(getitems, seed, epoch, first, index)
        else:
            ask = getitems if is_whole else partial(operator.getitem, dataset)
            samples = BatchIndices(epoch, whole(batch) if is_whole else batch)
            with in_flight.each(ask, seed, samples, find_ahead) as calls:
                items = calls.next() if is_whole else [calls.next() for _ in index]
        in_flight.look()
        return items

    def _samples_in_flight(self, is_whole: bool) -> Any:
        from mpqueue.worker.runners.in_flight import SamplesInFlight

        parts = self.parts
        if self._in_flight is None:
            if parts.coroutines is None:
                make: Any = partial(Helpers, parts.threads)
                option = f"threads={parts.threads}"
            else:
                from mpqueue.worker.concurrency.coroutines import Coroutines

                width = parts.coroutines.width
                make = partial(Coroutines, max(1, width // (parts.batch_size or 1)) if is_whole else width)
                option = f"concurrency={width}"
            info = context.worker_info()
            is_first = info is not None and info.id == 0 and parts.num_workers > 0
            self._in_flight = SamplesInFlight(make, option if is_first else None)
        return self._in_flight


class StreamSource(LoaderSource):
    """Iterates over an iterable-style dataset, a new iterator for each epoch.

    As in torch's workers, a stream iterates over one dataset in all epochs, and the dataset may count them. A dataset
    with a state is copied before each epoch, because the epoch may be started again here, or from a state. The copy is
    then the dataset of the stream.

    Args:
        parts: The parts of the loader.
    """

    def __init__(self, parts: LoaderParts) -> None:
        super().__init__(parts)
        self._streams: dict[int, _Stream] = {}  # by lane
        self._original: Any = None  # the dataset, or a copy, which is not iterated; None: see `copy_before`

    def __call__(self) -> Iterator[Any]:
        """Begin an epoch.

        Raises:
            Exception: The error of the dataset's ``__iter__``.
        """
        info, current = context.worker_info_unasked(), context.current_batch()
        has_several = info is not None and info.num_lanes > info.num_workers
        if has_several and not has_state(self.parts.dataset):
            # A copy for each iteration: the same stream may be restarted, and the dataset has no state to begin from.
            return self._checked(_StreamBatches(self.parts, self._collation, copied(self.parts.dataset), None, None))
        lane, epoch = 0 if info is None else info.lane, -1 if current is None else current[0][1]
        if lane not in self._streams:
            dataset = self.parts.dataset
            # Several streams of this process have separate datasets, as in torch's workers.
            if has_several:
                self._original, dataset = dataset, copied(dataset)
            elif self._streams:  # moved here from another worker
                dataset = next(iter(self._streams.values())).another_dataset()
            else:
                self._original = copy_before(dataset)
            self._streams[lane] = _Stream(self.parts, self._collation, dataset, self._original)
        return self._checked(self._streams[lane].begin(epoch))

    def _checked(self, batches: "_StreamBatches") -> "_StreamBatches":
        """Set the number of batches that a resumed epoch must have."""
        info, current, (epoch, counts) = context.worker_info_unasked(), context.current_batch(), self.parts.returned
        if info is not None and current is not None and current[0][1] == epoch:
            batches.num_returned = counts[info.lane]
        return batches


class _Stream:
    """One stream of an iterable-style dataset.

    Args:
        parts: The parts of the loader.
        collation: Finds the tensors in the slot.
        dataset: The dataset of the stream.
        original: A copy of it from before its first epoch; None: it has no state, or cannot be copied.
    """

    def __init__(self, parts: LoaderParts, collation: SlotCollation, dataset: Any, original: Any) -> None:
        self._parts, self._collation, self._dataset, self._original = parts, collation, dataset, original
        self._epoch: int | None = None  # the present epoch
        self._before: Any = None  # a copy of the dataset from before this epoch
        self._is_next = False  # the dataset has started the epoch before this one
        self._latest: _StreamBatches | None = None

    def another_dataset(self) -> Any:
        """Return the dataset for another stream, which begins the same epoch."""
        return self._dataset if self._before is None else copied(self._before)

    def begin(self, epoch: int) -> "_StreamBatches":
        """Begin an epoch, which may be the present one."""
        dataset, latest = self._dataset, self._latest
        if epoch == self._epoch and self._before is not None:
            dataset = copied(self._before)
        elif latest is not None:
            dataset = latest.next_dataset()
        if epoch != self._epoch:
            self._is_next = self._epoch is not None and epoch == self._epoch + 1
            self._epoch, self._before = epoch, copy_before(dataset)
        self._dataset = dataset
        self._latest = _StreamBatches(
            self._parts, self._collation, dataset, self._before, self._original, is_next=self._is_next
        )
        return self._latest


class _StreamBatches(Iterator[Any]):
    """The batches of one stream. After an error of the dataset, its iterator is called again.

    It has a state if the iterator or the dataset has one.

    Args:
        parts: The parts of the loader.
        collation: Finds the tensors in the slot.
        dataset: The dataset to iterate.
        before: A copy of the dataset from before its iteration; None: it has no state, or cannot be copied.
        original: A copy of it from before its first epoch, or None.
        is_next: The dataset has started the epoch before this one.

    Attributes:
        saves_first: As for `GeneratorLane`. A dataset with a state may count its epochs. Then another worker, or a
            loader that resumes after this epoch, could not begin this epoch again.
        num_returned: The number of batches that the stream had returned when the resumed state was saved.
        is_at_beginning: As for `IteratedDataset`.
    """

    num_returned = 0
    is_at_beginning = False

    def __init__(
        self, parts: LoaderParts, collation: SlotCollation, dataset: Any, before: Any, original: Any, *,
        is_next: bool = False,
    ) -> None:  # fmt: skip
        self._parts, self._collation, self._before, self._is_next = parts, collation, before, is_next
        self._original = original
        self._numbers = GlobalState() if has_state(dataset) else None  # a dataset may draw in its `__iter__`
        state_before = state_of(dataset)
        self._iterated = IteratedDataset(dataset, iter(dataset), before, state_before)
        self.saves_first = has_state(dataset)
        self._has_ended = self._is_read = False
        self._end: int | None = None  # the number of batches, as soon as it is known

    def state_dict(self) -> Any:
        """Return the state of the iterator and the dataset; None: neither has one."""
        return self._iterated.state_dict(is_over=self._has_ended)

    def load_state_dict(self, state: Any) -> None:
        """Continue from a state."""
        if self._is_next and is_of_earlier(state):
            return  # this dataset has counted the earlier epochs itself
        # Without a state of an earlier epoch, all epochs count, also the ones this dataset has started.
        before = self._original if is_of_earlier(state) and state["earlier"] is None else self._before
        # A copy: this dataset may be in the middle of the epoch already.
        dataset = self._iterated.dataset if before is None else copied(before)
        if self._numbers is not None:
            self._numbers.restore()
        if is_of_earlier(state):
            self._iterated.begin_after(state, dataset)
        else:
            self._has_ended = self._iterated.load_state_dict(state, dataset)
            self.is_at_beginning = self._iterated.is_at_beginning

    def next_dataset(self) -> Any:
        """Return the dataset for the next epoch."""
        self._iterated.prepare_next(is_read=self._is_read)
        return self._iterated.dataset

    def __next__(self) -> Any:
        try:
            return self._next()
        except StopIteration:
            self._check_end()
            raise

    def _check_end(self) -> None:
        """Raise a `ValueError` if the stream ended before the position in the resumed state."""
        info, current = context.worker_info_unasked(), context.current_batch()
        if not self.num_returned or info is None or current is None:
            return
        if self._end is None:  # later calls have later numbers
            self._end = current[0][2] // info.num_lanes
        if self._end < self.num_returned:
            raise ended_early(self._parts.dataset, self.num_returned, self._end)

    def _next(self) -> Any:
        if self._has_ended:
            raise StopIteration
        try:
            batch = collated(self._parts.collate_fn, self._elements(), self._parts.dataset)
            return encode(batch, self._collation.find) if self._parts.num_workers else batch
        finally:
            self._collation.forget()

    def _elements(self) -> Any:
        parts = self._parts
        if parts.batch_size is None:
            try:
                element = next(self._iterated.iterator)
            except StopIteration:
                self._has_ended = True
                raise
            self._is_read = True
            return element
        elements = list(itertools.islice(rest_of(self._iterated.iterator), parts.batch_size))
        self._is_read = self._is_read or bool(elements)
        # The elements are returned as a batch first; the next call ends.
        self._has_ended = len(elements) < parts.batch_size
        if not elements or (parts.drop_last and self._has_ended):
            raise StopIteration
        return elements
