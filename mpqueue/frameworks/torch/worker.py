"""The source of torch's workers: it computes batches for a `DataLoader` in a worker process.

It is sent to the workers once, and corresponds to torch's own ``_worker_loop``: one thread for torch's operations,
``get_worker_info()``, ``worker_init_fn``, then the items and ``collate_fn``. For a map-style dataset, the trainer sends
the indices of each batch. An iterable-style dataset is iterated in each worker.

*Random numbers.* A map-style sample's numbers depend on (base seed, epoch, place in the order), a stream's
batch on (base seed, epoch, number of the batch, worker). The worker process seeds all generators, as for any source;
see `mpqueue.seeding.lazy_seeding`.
"""

import copy
import copyreg
import io
import itertools
import operator
import pickle
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.utils.data._utils import worker as torch_worker

from mpqueue.frameworks.torch.collation import SlotCollation
from mpqueue.frameworks.torch.samples import index_of
from mpqueue.frameworks.torch.tensors import encode
from mpqueue.plan.cursors import Listed
from mpqueue.system.exceptions import add_note
from mpqueue.worker import context
from mpqueue.worker.generator_lanes import has_state
from mpqueue.worker.runner import BatchAhead

Begin: TypeAlias = Callable[[int, int, int], None]

INIT_NOTE = "raised by worker_init_fn"
_EPOCH_SHIFT = 44  # bits for places in an epoch: no dataset has 2**44 samples


class LoaderParts(NamedTuple):
    """The parts of a `DataLoader` that its workers need.

    Attributes:
        dataset: The dataset.
        collate_fn: The loader's function.
        worker_init_fn: Called first in each worker, with the worker's number.
        base_seed: The seed that was drawn from the loader's generator.
        num_workers: Number of workers; 0: the trainer computes.
        batch_size: Number of elements of a stream per batch; None: each element is a batch. Not used for map-style
            datasets.
        drop_last: Drop a stream's last batch if it is short.
        is_batched: The trainer sends a list of indices for each batch, not one index.
        threads: Number of threads in which a worker computes the samples of a batch.
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


def listed_of(index: Any, epoch: int, place: int) -> Listed:
    """Return the message that requests a batch from a worker, for the index or indices that a sampler returned."""
    first = (epoch << _EPOCH_SHIFT) + place
    return Listed(first, index if type(index) is list else ("", index))


def _epoch_of(listed: Listed) -> tuple[int, Listed]:
    """Return the epoch of a batch, and its samples with their places in the epoch."""
    epoch, first = divmod(listed.first, 1 << _EPOCH_SHIFT)
    kept = None if listed.kept is None else [place & ((1 << _EPOCH_SHIFT) - 1) for place in listed.kept]
    return epoch, Listed(first, index_of(listed), kept)


class LoaderSource:
    """The source of a loader's workers.

    Args:
        parts: The parts of the loader.
    """

    def __init__(self, parts: LoaderParts) -> None:
        self.parts = parts
        self._collation = SlotCollation()

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
                add_note(error, INIT_NOTE)  # the trainer checks it: see `Iterator.raise_init_error`
                raise


def _seed_for_init(base_seed: int, number: int) -> None:
    """Seed the global generators like torch's worker, so that ``worker_init_fn`` draws the same numbers.

    Follows: ``torch.utils.data._utils.worker._worker_loop``.
    """
    seed = base_seed + number
    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(torch_worker._generate_state(base_seed, number))  # noqa: NPY002


class MapSource(LoaderSource):
    """Computes the batches of a map-style dataset.

    Args:
        parts: The parts of the loader.
    """

    def __init__(self, parts: LoaderParts) -> None:
        super().__init__(parts)
        self._threads: Any = None  # `SampleThreads`, created with the first batch
        self._batch_ahead: BatchAhead | None = None

    def begin_ahead(self, batch_ahead: BatchAhead | None) -> None:
        """Allow threads to begin samples of later batches while they are idle; None: stop doing so."""
        self._batch_ahead = batch_ahead

    def take(self, listed: Listed, begin: Begin) -> Any:
        """Compute a batch that the trainer requested; ``begin`` is called with (seed, epoch, place) per sample."""
        epoch, batch = _epoch_of(listed)
        try:
            data = self._items(batch, epoch, begin)
            # Seed for collate_fn: its random numbers must not depend on how many the last sample has drawn.
            begin(self.parts.base_seed, epoch, ~batch.first)
            batch = self.parts.collate_fn(data)
            # Without workers, the trainer computes the batch itself and needs no encoding.
            return encode(batch, self._collation.find) if self.parts.num_workers else batch
        finally:
            # Also after an error: a kept array would keep its slot.
            self._collation.forget()

    def end(self) -> None:
        """End the threads; a later batch starts new ones."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.end()

    def _items(self, batch: Listed, epoch: int, begin: Begin) -> Any:
        dataset, seed, first, index = self.parts.dataset, self.parts.base_seed, batch.first, batch.indices
        if not self.parts.is_batched:
            begin(seed, epoch, first)
            return dataset[index]
        if self.parts.threads > 1:
            return self._in_threads(batch, epoch, begin)
        if getattr(dataset, "__getitems__", None):
            # One call computes all samples. No sample uses the complement of a place, so its numbers differ from
            # theirs.
            begin(seed, epoch, ~first)
            return dataset.__getitems__(index)
        items = []
        places = itertools.count(first) if batch.kept is None else batch.kept
        for place, each in zip(places, index, strict=False):
            begin(seed, epoch, place)
            items.append(dataset[each])
        return items

    def _in_threads(self, batch: Listed, epoch: int, begin: Begin) -> list[Any]:
        from mpqueue.worker.threaded_samples import BatchIndices, SampleThreads

        def find_ahead(place: int) -> BatchIndices | None:
            ahead = None if self._batch_ahead is None else self._batch_ahead(place)
            if ahead is None or ahead[2] is None or type(ahead[2].indices) is not list:
                return None
            its_epoch, its_batch = _epoch_of(ahead[2])
            return BatchIndices(epoch, its_batch) if its_epoch == epoch else None

        dataset, seed, first, index = self.parts.dataset, self.parts.base_seed, batch.first, batch.indices
        threads = self._threads
        if threads is None:
            info = context.worker_info()
            is_first = info is not None and info.id == 0 and self.parts.num_workers > 0
            threads = self._threads = SampleThreads(self.parts.threads, tells=is_first)
        # Threads share the global generators, which are seeded once per batch. `mpqueue.rng` is separate per sample.
        begin(seed, epoch, ~first)
        if getattr(dataset, "__getitems__", None):
            items: list[Any] = threads.in_parts(dataset.__getitems__, seed, epoch, first, index)
        else:
            samples = BatchIndices(epoch, batch)
            with threads.each(partial(operator.getitem, dataset), seed, samples, find_ahead) as calls:
                items = [calls.next() for _ in index]
        threads.look()
        return items


class StreamSource(LoaderSource):
    """Iterates over an iterable-style dataset, a new iterator for each epoch.

    The first iterator of an epoch is made from the dataset itself, as in torch's workers: a dataset may count its
    epochs. A dataset with a state is copied before, because the epoch may be started again here, or from a state. If a
    copy was iterated to the end, the dataset loads the copy's state before the next epoch, so that it counts on.

    Args:
        parts: The parts of the loader.
    """

    def __init__(self, parts: LoaderParts) -> None:
        super().__init__(parts)
        self._epoch, self._is_first = -1, True  # the present epoch; whether it is this process's first one
        self._before: Any = None  # a copy of the dataset before the first iterator of this epoch
        self._latest: _StreamBatches | None = None  # the latest iterator of a dataset with a state

    def __call__(self) -> Iterator[Any]:
        """Begin an epoch.

        Raises:
            Exception: The error of the dataset's ``__iter__``.
        """
        dataset = self.parts.dataset
        info = context.worker_info_unasked()
        if info is not None and info.num_lanes > info.num_workers:
            # This process has several streams. As in torch's workers, each iterator has a separate dataset.
            return _StreamBatches(self.parts, self._collation, copy.deepcopy(dataset), dataset)
        if not has_state(dataset):
            return _StreamBatches(self.parts, self._collation, dataset, None)
        current = context.current_batch()
        epoch = -1 if current is None else current[0][1]
        if epoch == self._epoch:
            dataset = copy.deepcopy(self._before)
        else:
            after = None if self._latest is None else self._latest.state_after()
            if after is not None:
                dataset.load_state_dict(after)
            self._is_first = self._before is None
            self._epoch, self._before = epoch, copy.deepcopy(dataset)
        self._latest = _StreamBatches(
            self.parts, self._collation, dataset, self._before, saves_first=not self._is_first
        )
        return self._latest


class _StreamBatches(Iterator[Any]):
    """The batches of one worker's stream. After an error of the dataset, its iterator is called again.

    It has a state if the iterator or the dataset has one.

    Args:
        parts: The parts of the loader.
        collation: Finds the tensors in the slot.
        dataset: The dataset to iterate.
        before: The dataset before its iteration, for loading states into a copy of it. Many datasets also begin all
            later epochs where a state was loaded, so the worker's dataset must not load it. None: the dataset has no
            state.
        saves_first: As for `GeneratorLane`. The dataset was iterated before, in contrast to a new worker's.
    """

    def __init__(
        self, parts: LoaderParts, collation: SlotCollation, dataset: Any, before: Any, *, saves_first: bool = False
    ) -> None:
        self._parts, self._collation, self._dataset, self._before = parts, collation, dataset, before
        self.saves_first = saves_first
        self._has_ended = False
        self._loaded: Any = None  # the state of the dataset from which it was iterated
        self._iterator = iter(dataset)

    def state_dict(self) -> Any:
        """Return the state of the iterator or the dataset; None: neither has one."""
        holder = self._iterator if has_state(self._iterator) else self._dataset
        return holder.state_dict() if has_state(holder) and not self._has_ended else None

    def load_state_dict(self, state: Any) -> None:
        """Continue from a state."""
        if has_state(self._iterator):
            self._iterator.load_state_dict(state)
        else:
            self._dataset, self._loaded = copy.deepcopy(self._before), state
            self._dataset.load_state_dict(state)
            self._iterator = iter(self._dataset)

    def state_after(self) -> Any:
        """Return the state of a copy of the dataset at the end of the epoch.

        None: the worker's dataset was iterated itself, or the end was not reached, or the copy does not follow from its
        state. Many datasets begin all later epochs where a state was loaded, so they still contain that place.
        """
        if self._dataset is self._parts.dataset or not self._has_ended:
            return None
        try:
            state, again = self._dataset.state_dict(), copy.deepcopy(self._before)
            if _pickled(state) == _pickled(self._loaded):
                return None  # loaded at the end, so that equal datasets would contain that place
            again.load_state_dict(state)
            # Without their class, which may be one of the program's main module.
            return state if _pickled(vars(again)) == _pickled(vars(self._dataset)) else None
        except Exception:  # for example, an attribute cannot be pickled
            return None

    def __next__(self) -> Any:
        if self._has_ended:
            raise StopIteration
        try:
            batch = self._parts.collate_fn(self._elements())
            return encode(batch, self._collation.find) if self._parts.num_workers else batch
        finally:
            self._collation.forget()

    def _elements(self) -> Any:
        parts = self._parts
        if parts.batch_size is None:
            try:
                return next(self._iterator)
            except StopIteration:
                self._has_ended = True
                raise
        elements = list(itertools.islice(self._iterator, parts.batch_size))
        # The elements are returned as a batch first; the next call ends.
        self._has_ended = len(elements) < parts.batch_size
        if not elements or (parts.drop_last and self._has_ended):
            raise StopIteration
        return elements


def _pickled(value: Any) -> bytes:
    """Return a pickle that is equal for equal contents.

    Raises:
        Exception: The value cannot be pickled.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5)
    pickler.fast = True  # otherwise equal strings would be pickled differently if they are one object or two
    # The pickle of a tensor contains the address of its storage.
    pickler.dispatch_table = {**copyreg.dispatch_table, torch.Tensor: _bytes_of}
    pickler.dump(value)
    return file.getvalue()


def _bytes_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    return bytes, (tensor.numpy(force=True).tobytes(),)
