"""A `mpqueue.Dataset` that is a stream, as an iterable-style dataset of torch, and its lanes with tensors.

The order depends on the lanes, the seed and the epoch, so it is the same for any ``num_workers``. The loader's
``batch_size`` becomes a last stage ``batch`` in each lane, with ``collate_fn`` as its function. Without ``batch_size``,
``collate_fn`` is applied to each element.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch.utils import data

from mpqueue.dataset.dataset import Dataset
from mpqueue.dataset.running.as_source import DatasetStream, check_functions, dropping_stage
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.frameworks.torch.source.worker import LoaderParts, LoaderSource, StreamSource
from mpqueue.frameworks.torch.tensors.collation import SlotCollation
from mpqueue.frameworks.torch.tensors.tensors import encode
from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.options.backend_kinds import BackendName
from mpqueue.plan.options.options import Options
from mpqueue.plan.options.validation import copies_message
from mpqueue.plan.order.streams import StreamOrder
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.plan.position.lanes import LaneShare
from mpqueue.plan.sources.stream_sources import Function, Lanes
from mpqueue.worker.runners.lanes import Lane, LaneRun


class StreamDataset(data.IterableDataset):  # type: ignore[misc]  # torch is not type-checked
    """A stream in the form that torch's loaders accept.

    Args:
        dataset: The stream.

    Attributes:
        shown_as: The name in messages.
    """

    shown_as = "Dataset"

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __setattr__(self, name: str, value: Any) -> None:
        """Raise the error of a `Dataset`, which the user has passed and which cannot be changed."""
        if name == "dataset":
            super().__setattr__(name, value)
        else:
            setattr(self.dataset, name, value)

    def __iter__(self) -> Iterator[Any]:
        """Compute the elements of the first epoch here, as ``iter(dataset)`` does."""
        return iter(self.dataset)

    def __repr__(self) -> str:
        return f"StreamDataset({self.dataset!r})"


def as_torch_dataset(dataset: Any) -> Any:
    """Return a stream as an iterable-style dataset; other datasets are returned unchanged."""
    # A dataset with an index is a map-style dataset already, and works with samplers and shuffle=True.
    is_stream = isinstance(dataset, Dataset) and not dataset.root.is_indexed
    return StreamDataset(dataset) if is_stream else dataset


class LanedSource(LoaderSource):
    """Computes the batches of a stream in lanes.

    Args:
        parts: The parts of the loader, with a `StreamDataset`.
    """

    def __init__(self, parts: LoaderParts) -> None:
        super().__init__(parts)
        dataset = parts.dataset.dataset
        self._convert: Callable[[Any], Any] | None = parts.collate_fn
        if parts.batch_size is not None:
            dataset = dataset.batch(parts.batch_size, drop_last=bool(parts.drop_last), collate=parts.collate_fn)
            self._convert = None
        self.lanes = DatasetLanes(dataset.root)

    def __reduce__(self) -> Any:
        return LanedSource, (self.parts,)

    def open_lane(self, run: LaneRun) -> Lane:
        """Open a lane.

        Raises:
            ValueError: The state was saved for another dataset.
        """
        lane = self.lanes.open_lane(run)
        return _TensorLane(lane, self._convert, self._collation if run.in_slot else None)

    def shape(self) -> list[str]:
        """Return a description of each stage."""
        return self.lanes.shape()


class LoaderStream(Lanes):
    """The source of a stream, including the stages that torch's loader adds."""

    runs: LanedSource

    def check_portable(self, workers: int, backend: BackendName, start_method: str) -> None:
        """Raise a `TypeError` for a function that cannot be sent to worker processes."""
        check_functions(self.runs.lanes.root, workers, backend, start_method)

    def dropping(self, options: Options) -> str:
        """Return the stage that drops short batches, for messages; empty if none does."""
        return dropping_stage(self.runs.lanes.root)

    def copies_warning(self, count: int, parts: str) -> str:
        """Return the warning for a stream that returned all of its elements in each worker or lane."""
        return copies_message(self.runs.lanes.streams[0], count, parts)

    def identified(self) -> DatasetStream:
        """Return a source that yields the ids of the samples of each batch; see `AnyStream.identified`."""
        return DatasetStream(self.runs.parts.dataset.dataset, self.runs.lanes.root).identified()


class IterableOrder(StreamOrder):
    """The order of an iterable-style dataset of torch. Its batches are made in its iterators.

    The id of a sample is ``(worker, index)``, where each batch of a worker counts ``batch_size`` samples.
    """

    parts = "workers"

    def identified(self) -> StreamOrder:
        """Return the order of a stream that yields the number of samples in each batch."""
        parts = self.source.runs.parts
        # A copy: a dataset may count its epochs.
        parts = parts._replace(dataset=copy.deepcopy(parts.dataset), collate_fn=len, num_workers=0, returned=(-1, ()))
        return replace(self, source=Function(StreamSource(parts)))

    def ids_of(self, work_item: WorkItem, element: int | None, share: LaneShare) -> SampleIds:
        """Return the ids of the samples of a batch.

        Args:
            work_item: Its work item.
            element: The number of its samples; None: the maximum of a batch.
            share: The streams of the workers.
        """
        return iterable_ids(
            share.lane(work_item.lane), work_item.source_index, self.source.runs.parts.batch_size, element
        )


def iterable_ids(worker: int, index: int, batch_size: int | None, count: int | None = None) -> SampleIds:
    """Return the ids of the samples of a batch of an iterable-style dataset.

    Args:
        worker: The worker.
        index: The position of the batch among the batches of the worker.
        batch_size: The loader's ``batch_size``; None: an element is a batch.
        count: The number of samples in the batch; None: ``batch_size``.
    """
    size = batch_size or 1
    first = index * size
    return tuple((worker, each) for each in range(first, first + (size if count is None else count)))


class _TensorLane:
    """A lane with elements in the form of the batches of torch's loaders.

    Args:
        lane: The lane.
        convert: The ``collate_fn`` of a loader without ``batch_size``.
        collation: Finds the arrays of a batch that are in its slot; None: no slot, and elements are returned
            unchanged.
    """

    def __init__(self, lane: Any, convert: Callable[[Any], Any] | None, collation: SlotCollation | None) -> None:
        self._lane, self._convert, self._collation = lane, convert, collation
        self.save, self.counts = lane.save, lane.counts

    def next(self) -> Any:
        """Return the next element; see `mpqueue.worker.runners.lanes.Lane`."""
        try:
            value = self._lane.next()
            if self._convert is not None:
                value = self._convert(value)
            # Without a slot, the trainer computes the element itself and needs no encoding.
            return value if self._collation is None else encode(value, self._collation.find)
        finally:
            if self._collation is not None:
                self._collation.forget()
