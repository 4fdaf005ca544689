"""Exclusions: the samples that a history excludes from the batches of a source with an index.

All ranks return the same number of batches, whichever rank loses a whole batch. A *round* has one batch of each rank.
If exclusions empty some of its batches, all ranks decide alike:

    all batches are empty, or any batch with `drop_last`      the round is dropped on all ranks
    otherwise                                                 the empty batches are filled with other samples

The empty batch of rank r is filled with batch r of the epoch, as the end of an epoch is; if that one is empty, too,
with the next one that is not. `Ranks.leaves_out` has the rule.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

from mpqueue.plan.ids.batch_info import SampleIds
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.ids.history import History
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.position.cursors import Edit, Others, WorkItem
from mpqueue.plan.position.ranks import Ranks

Without: TypeAlias = Callable[[WorkItem], WorkItem]  # removes samples from a work item

_NOTHING = BatchSamples(0, [], [])


class Round(NamedTuple):
    """The batches of a round, with all of their samples.

    Attributes:
        batches: The batches of all ranks.
        at: The position among them of the batch that is edited.
        first: Returns the first batches of the epoch, one for each rank.
    """

    batches: Sequence[WorkItem]
    at: int
    first: Callable[[], Sequence[WorkItem]]


class Excludable(Protocol):
    """The order of the batches: a `mpqueue.plan.order.orders.IndexOrder`."""

    @property
    def ranks(self) -> Ranks:
        """The batches that are dealt here, out of all ranks' batches."""

    def round(self, work_item: WorkItem, others: Others) -> Round:
        """Return the round of a work item."""

    def listed(self, work_item: WorkItem) -> BatchSamples:
        """Return the samples of a work item."""

    def filled(self, work_item: WorkItem, other: WorkItem) -> WorkItem:
        """Return a work item with the samples of ``other``."""


class EqualRanks:
    """Removes excluded samples from the work items of a rank; it is an `Edit`.

    Args:
        order: The order of the batches.
        without: Removes the samples that are excluded at a work item.
        without_at_start: Removes the samples that are excluded at the start of its round. Later exclusions do not leave
            out the round, because some ranks have returned their batches. None: no sample is excluded there.
    """

    def __init__(self, order: Excludable, without: Without, without_at_start: Without | None) -> None:
        self._order, self._without, self._without_at_start = order, without, without_at_start

    def __call__(self, work_item: WorkItem, others: Others) -> WorkItem:
        """Return a work item without excluded samples; an empty one if its round is dropped."""
        order, without, at_start = self._order, self._without, self._without_at_start
        own = without(work_item)
        if not (_is_empty(own) or order.ranks.drops_rounds):
            return own
        whole = order.round(work_item, others)
        if at_start is not None and order.ranks.drops_emptied(self._are_emptied(whole.batches, at_start)):
            return work_item._replace(listed=_NOTHING)
        if not _is_empty(own):
            return own
        for other in (*_rotated(whole.first(), whole.at), *_rotated(whole.batches, whole.at)):
            filling = without(other)
            if not _is_empty(filling):
                return order.filled(work_item, filling)
        return own

    def _are_emptied(self, batches: Sequence[WorkItem], without: Without) -> Iterable[bool]:
        # Most batches keep their first sample. Then one call is enough for all ranks.
        first = [index for batch in batches for index in self._order.listed(batch).indices[:1]]
        probe = batches[0]._replace(listed=BatchSamples(0, first))
        if without(probe) is probe:
            return itertools.repeat(False, len(batches))
        return (_is_empty(without(batch)) for batch in batches)


def _rotated(batches: Sequence[WorkItem], at: int) -> Sequence[WorkItem]:
    return [*batches[at:], *batches[:at]]


def _is_empty(work_item: WorkItem) -> bool:
    return work_item.listed is not None and work_item.listed.is_empty


class Exclusions:
    """Removes the samples that a history excludes from the work items of an order.

    Args:
        order: The order.
        ids_of: Returns the ids of the samples of each index, of an epoch, without some.
        history: The history.
    """

    def __init__(self, order: Excludable, ids_of: Callable[..., list[SampleIds]], history: History) -> None:
        excluded = history.excluded
        assert excluded is not None
        self._order, self._ids_of, self._history = order, ids_of, history
        self._world = order.ranks.shard.world
        self._edit_all = self._removing(excluded, excluded)
        self._latest = history.latest_exclusion(self._world)

    def edit(self, work_item: WorkItem, others: Others) -> WorkItem:
        """Return a work item without its excluded samples; ``others`` describes the other ranks' batches.

        A server that is restarted begins before the exclusions that it adds, so that all consumers have the same.
        """
        epoch, position = work_item.epoch, work_item.position
        is_late = (epoch, self._order.ranks.start_of_turn(position)) >= self._latest
        edit = self._edit_all if is_late else self._edit_at(epoch, position)
        return work_item if edit is None else edit(work_item, others)

    def _edit_at(self, epoch: int, batch: int) -> Edit | None:
        """Return the function that removes the samples that are excluded at a position; None: none are."""
        excluded = self._history.excluded_at(epoch, batch, self._world)
        if excluded is None:
            return None
        start = self._order.ranks.start_of_turn(batch)
        return self._removing(excluded, self._history.excluded_at(epoch, start, self._world))

    def _removing(self, excluded: SampleSet, at_start: SampleSet | None) -> Edit:
        """Return the function that removes samples from a work item.

        Args:
            excluded: The samples.
            at_start: The samples that are excluded at the start of its round; None: none are.
        """
        without = self._without(excluded)
        if self._world == 1:  # an empty batch is dropped
            return lambda work_item, _others: without(work_item)
        without_at_start = without if excluded == at_start else None if at_start is None else self._without(at_start)
        return EqualRanks(self._order, without, without_at_start)

    def _without(self, excluded: SampleSet) -> Without:
        order = self._order

        def without(work_item: WorkItem) -> WorkItem:
            first, indices, *_ = listed = order.listed(work_item)
            find = partial(self._ids_of, epoch=work_item.epoch)
            found = [[sample for sample in ids if sample in excluded] for ids in find(indices)]
            excluded_here = frozenset(sample for samples in found for sample in samples)
            if not excluded_here:
                return work_item
            # An element that is made of several samples, such as a batch, may keep the others.
            keeps = list(map(bool, find(indices, without=excluded_here)))
            inside = frozenset(sample for samples in itertools.compress(found, keeps) for sample in samples)
            kept = list(itertools.compress(listed.positions, keeps))
            return work_item._replace(
                listed=BatchSamples(first, list(itertools.compress(indices, keeps)), kept, inside)
            )

        return without
