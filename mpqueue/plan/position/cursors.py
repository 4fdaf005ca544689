"""Cursors: the mutable part of an order, which deals work items. Pure: no processes, no clock.

A *work item* is one batch, or one element of a stream, with a unique id. A `Cursor` deals work items and decides
which (epoch, position, index) each one means. The ledger and the pipeline use only the methods of `Cursor`.

`EpochCursor` is for sources with an index: positions 0 to length - 1, epoch after epoch, optionally shuffled by (seed,
epoch). With a *barrier* (the source changes itself at the end of an epoch), it deals no work item of the next epoch
before `open_epoch` is called. It reads the length of the source at the start of every epoch.

The cursor of a sampler is in `mpqueue.plan.position.drawn_cursor`, and the cursor of a stream in
`mpqueue.plan.position.stream_cursor`.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from mpqueue.plan.ids.batch_samples import ENDLESS, BatchSamples
from mpqueue.plan.position.lanes import LaneShare, LaneStart, LaneTable


class WorkItem(NamedTuple):
    """A work item: one batch, or one element of a stream.

    Attributes:
        work_id: Position in the order of delivery, from 0; never reused.
        epoch: The epoch, from 0.
        position: Position in the epoch.
        source_index: The index for the source; for a stream, the number of elements that the lane has returned before.
        lane: The lane; -1 for a source with an index.
        listed: The samples of the batch, if they do not follow from the index.
    """

    work_id: int
    epoch: int
    position: int
    source_index: int
    lane: int = -1
    listed: BatchSamples | None = None


class RankStart(NamedTuple):
    """Where the present ranks began: the beginning of an epoch, or a later point if other ranks began this epoch.

    Their order begins with the first batch that was not returned before. Each rank counts its batches from the
    beginning of the epoch, as if these ranks had returned the earlier ones: ``first`` of them. An *index* counts the
    batches of all ranks in the same way, so that a rank has every ``world``-th index. No batch has an index before
    ``first * world``.

    Attributes:
        position: Global position of the first of these batches.
        world: The number of ranks.
        epoch: The epoch. These ranks begin later epochs at the beginning, and return no earlier ones.
    """

    position: int = 0
    world: int = 1
    epoch: int = 0

    @property
    def first(self) -> int:
        """The position of the first batch of a rank."""
        return -(-self.position // self.world)

    def of(self, epoch: int) -> "RankStart":
        """Return the base of an epoch."""
        return self if epoch == self.epoch else FROM_BEGINNING

    def nth(self, index: int) -> int:
        """Return the global position of a batch, by its index in the order of the present ranks."""
        return index + self._shift

    def index_of(self, position: int) -> int:
        """Return the index of a batch: the inverse of `nth`."""
        return position - self._shift

    def global_positions(self, indices: range) -> range:
        """Return the global positions of batches, by their indices."""
        return range(indices.start + self._shift, indices.stop + self._shift, indices.step)

    @property
    def _shift(self) -> int:
        return self.position - self.first * self.world


FROM_BEGINNING = RankStart()


class DrawnRound(NamedTuple):
    """The drawn batches of all ranks in one round.

    Attributes:
        batches: The index and the samples of each batch.
        first: The same of the first batches of the epoch.
    """

    batches: tuple[tuple[int, BatchSamples | None], ...]
    first: tuple[tuple[int, BatchSamples | None], ...]


# The other ranks' batches at a work item: the base of its epoch, which determines them, or the drawn batches.
Others: TypeAlias = RankStart | DrawnRound
Edit: TypeAlias = Callable[[WorkItem, Others], WorkItem]


class ResumePoint(NamedTuple):
    """A resume point: where a consumer continues in the order of the batches.

    Attributes:
        epoch: The epoch, from 0.
        position: Number of batches of the epoch that were delivered, without a gap. If other ranks began the epoch,
            it is counted from ``base.first``.
        ahead: Later positions that were delivered as well (``ordered=False``).
        counts: For a stream: number of elements taken from each lane. The live lane with the smallest count is next.
        starts: For a stream: the snapshot for resuming each lane; empty: all from their beginning.
        ends: For a stream: number of elements of each lane, -1 if unknown; empty: unknown for all.
        base: Where these ranks began, in this epoch or an earlier one, see `mpqueue.plan.position.ranks`.
        is_own: Batches of the epoch were skipped or raised on this rank alone, so the other ranks may be at other
            points.
    """

    epoch: int = 0
    position: int = 0
    ahead: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    starts: tuple[LaneStart, ...] = ()
    ends: tuple[int, ...] = ()
    base: RankStart = FROM_BEGINNING
    is_own: bool = False

    def is_same_as(self, other: "ResumePoint") -> bool:
        """Return whether both are the same place. At the beginning of a stream, the counts may be missing.

        Workers that are already at a point must not be sent there again: they would lose batches computed ahead.
        """
        # Snapshots and ends are not compared: the same place gets newer ones while the stream continues.
        if self[:3] != other[:3] or self.base != other.base:
            return False
        return self.counts == other.counts or not (any(self.counts) or any(other.counts))

    def as_dict(self) -> dict[str, Any]:
        """Return the part of a saved state that names the point, without the snapshots of lanes."""
        return dict(zip(self._fields[:4], self[:4], strict=True))


class Drawn(NamedTuple):
    """The work of one position: drawn from a sampler, or derived from the order.

    Attributes:
        source_index: The index for the source.
        listed: The samples; None: they follow from the index.
        mark: Fingerprint of all indices that the sampler returned before it in this epoch.
        others: The other ranks' batches, for `Cursor.edit`.
    """

    source_index: int
    listed: BatchSamples | None = None
    mark: int = 0
    others: Others = FROM_BEGINNING


class ConsumerProgress(Protocol):
    """Progress of the consumer: a `mpqueue.engine.progress.progress.Progress`."""

    epoch: int
    position: int

    def kept(self) -> tuple[int, int]:
        """Return the epoch and the position before which the user has got all batches."""


_LEAST_EMPTY = 100_000  # batches without samples in a row, before a search in an endless source is given up


class Cursor:
    """The interface of cursors. The methods here fit an order without epochs to open.

    Attributes:
        num_lanes: Number of lanes; 0: the source has an index.
        lanes: Snapshots and ends of the lanes.
        lane_share: The lanes of this rank among the lanes of all ranks.
        is_drawn: Batches are known only after they are drawn, which happens when their epoch is requested.
        epoch: The epoch that is being dealt.
        next_work_id: Id of the next work item.
        lengths: Number of batches of each epoch that was opened and not yet delivered; None: endless or unknown.
        last_epoch: No work item of a later epoch is dealt; None: no limit.
        edit: Removes excluded samples from a work item; None: no sample is excluded.
    """

    num_lanes = 0
    edit: Edit | None = None
    is_drawn = False

    def __init__(self) -> None:
        self.epoch = self.next_work_id = 0
        self.lanes, self.lane_share = LaneTable(0), LaneShare(0, 0)
        self.lengths: dict[int, int | None] = {}
        self.last_epoch: int | None = None

    def go_to(self, point: ResumePoint) -> None:
        """Continue dealing from a point.

        Raises:
            ValueError: The source has no such point, or an invalid length.
        """
        self.epoch = point.epoch

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return up to ``limit`` of the next work items, all of one epoch; none if no work is available at the moment.

        Raises:
            Exception: The error of the source's length, its order or its sampler. The next call tries again.
        """
        raise NotImplementedError

    def deal_failure(self) -> WorkItem:
        """Return a work item for an error in dealing: it has a point in the order of delivery, but not in an epoch."""
        # With an id of the order: the consumer gets the error after all batches that were dealt before it.
        self.next_work_id += 1
        return WorkItem(self.next_work_id - 1, self.epoch, -1, -1)

    def end_lane(self, lane: int, count: int) -> None:
        """Deal no more work items of a lane, which has only this many elements."""

    def forget_owners(self) -> None:
        """Note that some lanes have other owners now."""

    def element(self, work_item: WorkItem) -> int:
        """Return the index of an element, counted over all lanes of all ranks."""
        raise NotImplementedError

    def stand_before(self, epoch: int) -> None:
        """Go to the barrier before an epoch."""
        self.go_to(ResumePoint(epoch))

    def open_epoch(self) -> None:
        """Lift the barrier before the next epoch."""

    @property
    def is_endless(self) -> bool:
        """True if the epoch that is being dealt has positions without end."""
        return False

    def has_new_length(self) -> bool:
        """Return True if an epoch was opened with a length that differs from the source's present one.

        Raises:
            Exception: The error of the source's length.
        """
        return False

    def follow(self, consumer: ConsumerProgress) -> None:
        """Set the object that reports which batches were delivered, so that they can be dropped here."""

    def room_for(self, num_outstanding: int) -> int:  # an epoch of positions ends by its length
        """Return how many more work items may be dealt, in addition to those in flight."""
        return ENDLESS

    def forget(self, epoch: int) -> None:
        """Drop an epoch after all of it was delivered."""

    def length_of(self, epoch: int) -> int | None:
        """Return the number of batches of an epoch that is open or kept; None: endless or unknown."""
        return self.lengths.get(epoch)

    def mark_at(self, epoch: int, position: int) -> int | None:
        """Return the fingerprint of all indices that a sampler returned before this position; None: unknown."""
        return None


class EpochCursor(Cursor):
    """Positions of a source with an index, epoch after epoch.

    Args:
        length_of: Returns the number of batches, at the start of each epoch; None: endless.
        seed: Seed of the shuffled order.
        shuffle: Use a new permutation for each epoch.
        barrier: Deal no work item of the next epoch before `open_epoch` is called.
        order_of: Returns the indices of an epoch, by (epoch, length of the source, base of these ranks).
            Their number is the number of batches, if the source has a length. None: ascending indices.
        edit: Removes excluded samples from a work item; None: no sample is excluded.
        length_in: Returns the number of batches of one epoch, if epochs may have different lengths.
        most_empty: Returns the number of batches without samples in a row after which an endless epoch has no others.

    Attributes:
        source_lengths: Length of the source for each epoch in `lengths`, when the epoch was opened.
        orders: Indices of each of these epochs; None: ascending.
    """

    def __init__(
        self,
        length_of: Callable[[], int | None],
        seed: int,
        *,
        shuffle: bool = False,
        barrier: bool = False,
        order_of: Callable[[int, int | None, RankStart], Any] | None = None,
        edit: Edit | None = None,
        length_in: Callable[[int], int | None] | None = None,
        most_empty: Callable[[], int] = lambda: ENDLESS,
    ) -> None:
        super().__init__()
        self.edit = edit
        self._most_empty, self._num_empty = most_empty, 0
        self._length_in = length_in or (lambda _: length_of())
        self._seed, self._shuffle, self._barrier = seed, shuffle, barrier
        self._order_of = order_of
        self._skip: frozenset[int] = frozenset()
        self._position = 0
        self._length: int | None = None  # of the epoch that is being dealt
        self.source_lengths: dict[int, int | None] = {}
        self.orders: dict[int, Any] = {}
        self._is_open = False
        self._began = FROM_BEGINNING  # in one epoch, see `RankStart`
        self._opens_until = -1  # with a barrier: the last epoch that may be dealt

    def go_to(self, point: ResumePoint) -> None:
        """Continue dealing from a point; see `start_at`."""
        self.start_at(point.epoch, point.position, point.ahead, point.base)

    def start_at(
        self, epoch: int, position: int = 0, skip: Iterable[int] = (), base: RankStart = FROM_BEGINNING
    ) -> None:
        """Go to a point in the order, and skip the positions in ``skip``. Open its epoch, if it may be dealt.

        Raises:
            ValueError: The source has no such position, or an invalid length.
        """
        self.epoch, self._position, self._skip = epoch, position, frozenset(skip)
        self._began = base
        self._opens_until, self._num_empty = epoch, 0
        self._forget_all()
        self._is_open = False
        # An epoch after the last one is not dealt, so the length of the source is not read yet.
        if not self._may_open():
            return
        self._open()
        length = self._length
        if length is not None and position > length:
            raise ValueError(f"position {position} does not exist: epoch {epoch} has {length} batches")

    def stand_before(self, epoch: int) -> None:
        """Go to the barrier before an epoch."""
        self.epoch, self._position, self._skip = epoch, 0, frozenset()
        self._is_open, self._opens_until = False, epoch - 1
        self._forget_all()

    def open_epoch(self) -> None:
        """Lift the barrier before the next epoch."""
        self._leave_finished_epoch()
        self._opens_until = self.epoch
        if not self._is_open and self._may_open():
            self._open()

    @property
    def is_endless(self) -> bool:
        """True if the epoch that is being dealt never ends."""
        return self._length is None

    def has_new_length(self) -> bool:
        """Return True if an epoch was opened with a length that differs from the source's present one."""
        return any(length != self._length_in(epoch) for epoch, length in self.source_lengths.items())

    def forget(self, epoch: int) -> None:
        """Drop an epoch after all of it was delivered."""
        self.lengths.pop(epoch, None)
        self.source_lengths.pop(epoch, None)
        self.orders.pop(epoch, None)

    def _forget_all(self) -> None:
        self.lengths.clear()
        self.source_lengths.clear()
        self.orders.clear()

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return up to ``limit`` of the next work items, all of one epoch; none at a closed barrier.

        Raises:
            RuntimeError: All samples of an endless epoch are excluded.
        """
        if self._num_empty >= _LEAST_EMPTY and self._num_empty >= self._most_empty():
            raise RuntimeError(
                f"the last {self._num_empty:,} batches had no samples, because all are excluded: the source is "
                "endless, so the search for the next batch would not end"
            )
        while True:
            if not self._is_open:
                if not self._may_open():
                    return []
                self._open()
            if self._leave_finished_epoch():
                continue
            positions = self._next_positions(limit)
            if positions:
                break
        work_id, order = self.next_work_id, self.orders.get(self.epoch)
        self.next_work_id = work_id + len(positions)
        indices = positions if order is None else _indices(order, positions)
        dealt = list(map(WorkItem, itertools.count(work_id), itertools.repeat(self.epoch), positions, indices))
        if self.edit is None:
            return dealt
        dealt = self._edited(dealt, self.edit)
        if self._length is None:
            for work_item in dealt:
                is_empty = work_item.listed is not None and work_item.listed.is_empty
                self._num_empty = self._num_empty + 1 if is_empty else 0
        return dealt

    def _edited(self, dealt: list[WorkItem], edit: Edit) -> list[WorkItem]:
        """Return edited work items, up to one that cannot be edited: the next call tries that one again."""
        edited: list[WorkItem] = []
        try:
            for work_item in dealt:
                edited.append(edit(work_item, self._base))  # noqa: PERF401 - those before an error are kept
        except Exception:  # such as an error of a cost
            if not edited:
                raise
        except BaseException:  # the caller gets none of them
            edited.clear()
            raise
        finally:
            if len(edited) < len(dealt):
                first = dealt[len(edited)]
                self._position, self.next_work_id = first.position, first.work_id
        return edited

    def _next_positions(self, limit: int) -> Sequence[int]:
        start = self._position
        stop = start + limit if self._length is None else min(start + limit, self._length)
        while stop in self._skip:  # the end of the epoch may be skipped
            stop += 1
        self._position = stop
        # A range uses no memory, whatever its length.
        if self._skip:
            return [position for position in range(start, stop) if position not in self._skip]
        return range(start, stop)

    def _leave_finished_epoch(self) -> bool:
        if not self._is_open or self._length is None or self._position < self._length:
            return False
        self._is_open = False
        self.epoch, self._position, self._skip = self.epoch + 1, 0, frozenset()
        return True

    @property
    def _base(self) -> RankStart:
        """The base of the epoch that is being dealt."""
        return self._began.of(self.epoch)

    def _may_open(self) -> bool:
        if self._barrier and self.epoch > self._opens_until:
            return False
        return self.last_epoch is None or self.epoch <= self.last_epoch

    def _open(self) -> None:
        # Both lengths are kept: the order may have another length than the source, and `has_new_length` compares a
        # later length of the source with this one.
        source_length = length = self._length_in(self.epoch)
        order = None
        if self._order_of is not None:
            order = self._order_of(self.epoch, length, self._base)
            length = length if length is None or order is None else len(order)
        elif self._shuffle and length is not None:
            from mpqueue.seeding.seeds import permutation

            order = permutation(self._seed, self.epoch, length)
        self.orders[self.epoch], self.source_lengths[self.epoch] = order, source_length
        self._length = self.lengths[self.epoch] = length
        # The last step: if the source raises above, the epoch remains closed, and the next `deal` tries again.
        self._is_open = True


def _indices(order: Any, positions: Sequence[int]) -> Sequence[int]:
    """Return the indices of these positions as Python integers."""
    if not isinstance(positions, range):
        return [int(order[position]) for position in positions]
    # A slice takes a third of the time of single items, and a slice of a range takes none.
    indices = order[positions.start : positions.stop]
    return indices if isinstance(indices, range) else [int(index) for index in indices]
