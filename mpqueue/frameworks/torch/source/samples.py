"""The samples of a batch of a map-style dataset: their ids, and the batch without some of them."""

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch

from mpqueue.plan.ids.batch_info import SampleId, SampleIds
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.position.cursors import Edit, Others, WorkItem


@dataclass(frozen=True)
class StepIndices:
    """The indices of a rank's part of a step, with ``max_cost``, as the batch sampler returns them.

    It is not a list: the workers of other loaders would join the micro-batches.

    Attributes:
        parts: The indices of each micro-batch.
    """

    parts: list[list[int]]

    def __len__(self) -> int:
        """Return the number of samples."""
        return sum(map(len, self.parts))

    def __iter__(self) -> NoReturn:
        """Raise a `TypeError` for the user of a different loader."""
        raise TypeError(
            "with Balance(max_cost=...), a step is a list of micro-batches, which only a mpqueue.torch.DataLoader "
            "returns, and another loader has its batch sampler: pass Balance(accumulate=n) to libraries that make "
            "loaders, such as Accelerate"
        )


def index_of(listed: BatchSamples) -> Any:
    """Return the index or indices that the sampler returned; the inverse of `worker.listed_of`."""
    # A batch sampler may return any object instead of a list of indices.
    return listed.indices if type(listed.indices) is list else listed.indices[1]


def num_positions(index: Any, *, is_batched: bool) -> int:
    """Return how many places in the order of a pass a batch takes.

    Args:
        index: The index or indices that the sampler returned.
        is_batched: The sampler returns the indices of a batch.
    """
    return len(index) if is_batched and hasattr(index, "__len__") else 1


def ids_of(listed: BatchSamples, *, is_batched: bool) -> SampleIds:
    """Return the ids of the samples of a batch; ``is_batched`` is as for `num_positions`."""
    return tuple(map(_id_of, keys_of(index_of(listed), is_batched=is_batched)))


def without(listed: BatchSamples, excluded: SampleSet, *, is_batched: bool) -> BatchSamples:
    """Return the samples of a batch that are not excluded, at their positions.

    Args:
        listed: The whole batch.
        excluded: The excluded samples.
        is_batched: As for `num_positions`.
    """
    keys = keys_of(index_of(listed), is_batched=is_batched)
    keeps = [_id_of(key) not in excluded for key in keys]
    if all(keeps):
        return listed
    positions = range(listed.first, listed.first + len(keys))
    return BatchSamples(listed.first, list(itertools.compress(keys, keeps)), list(itertools.compress(positions, keeps)))


def editor(excluded: SampleSet, fill: Callable[[], BatchSamples | None], *, is_batched: bool) -> Edit:
    """Return the function that removes excluded samples from a work item.

    Args:
        excluded: The samples.
        fill: Returns the batch that supplies samples for an empty batch; None: it is dropped.
        is_batched: As for `num_positions`.
    """

    def edit(work_item: WorkItem, _others: Others) -> WorkItem:
        assert work_item.listed is not None
        kept = without(work_item.listed, excluded, is_batched=is_batched)
        return work_item._replace(listed=filled(kept, fill))

    return edit


def filled(kept: BatchSamples, fill: Callable[[], BatchSamples | None]) -> BatchSamples:
    """Return a batch; if it is empty, filled with other samples, which draw the random numbers of its positions."""
    other = fill() if kept.is_empty else None
    return kept if other is None else other._replace(first=kept.first, kept=None)


def keys_of(index: Any, *, is_batched: bool) -> list[Any]:
    """Return the keys of the samples of a batch; arguments as for `num_positions`."""
    if type(index) is list:
        return index
    if type(index) is StepIndices:
        return list(itertools.chain.from_iterable(index.parts))
    # An iterator would be exhausted.
    is_several = isinstance(index, Iterable) and not isinstance(index, str | bytes | Mapping | Iterator)
    return list(index) if is_several and is_batched else [index]


def _id_of(key: Any) -> SampleId:
    """Return the key of a sample with Python's integers, and with tuples instead of lists."""
    if isinstance(key, list | tuple):
        return tuple(map(_id_of, key))
    is_integer = isinstance(key, np.integer) or (
        isinstance(key, torch.Tensor) and key.ndim == 0 and not key.is_floating_point()
    )
    return operator.index(key) if is_integer else key
