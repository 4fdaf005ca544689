"""Cursors: the mutable part of an order, which deals work items. Pure: no processes, no clock.

A *work item* is one batch, or one element of a stream, with a unique number. A `Cursor` deals work items and decides
which (epoch, position, index) each one means. There are three classes; the ledger and the pipeline use only the methods
of `Cursor`.

`EpochCursor` is for sources with an index: positions 0 to length - 1, epoch after epoch, optionally shuffled by (seed,
epoch). With a *barrier* (the source changes itself at the end of an epoch), it deals no work item of the next epoch
before `open_epoch` is called. It reads the length of the source at the start of every epoch.

`DrawnCursor` draws batches from a sampler while it deals. It keeps each batch until the consumer gets it: after an
interrupt, the work in flight is dealt again, and a sampler that draws random numbers would return other indices.

`StreamCursor` is for streams. Elements are read from virtual shards (lanes), each with its own order. Work items
alternate between the lanes: element 0 of each lane, then element 1 of each, and so on. A lane after its end answers
its remaining work items with "end" and gets no more. The others continue in the same order, so the order of delivery
does not depend on when the end was noticed. The next lane follows from the number of elements that each lane has
returned. A work item names its lane, not a worker: the backend decides which worker runs a lane.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from mpqueue.plan.ids.batch_info import SampleId
from mpqueue.plan.position.lanes import LaneShare, LaneStart, LaneTable
from mpqueue.seeding.seeds import permutation


class BatchSamples(NamedTuple):
    """The samples of a batch.

    Attributes:
        first: Place of the first sample in the order of the epoch.
        indices: Keys that the source is called with.
        kept: Places of these samples, if some samples of the batch are excluded; None: consecutive places.
        without: Ids of samples that are excluded, if an index means an element that is made of several samples.
        cuts: The number of samples of each micro-batch, if the batch is a list of these.
    """

    first: int
    indices: Sequence[Any]
    kept: Sequence[int] | None = None
    without: frozenset[SampleId] = frozenset()
    cuts: Sequence[int] = ()

    def parts(self) -> "list[BatchSamples]":
        """Return the samples of each micro-batch; those of the batch, if it has none."""
        if not self.cuts:
            return [self]
        places, ends = self.places, list(itertools.accumulate(self.cuts))
        ranges = [slice(end - count, end) for end, count in zip(ends, self.cuts, strict=True)]
        return [BatchSamples(places[at][0], self.indices[at], places[at], self.without) for at in ranges]

    @property
    def places(self) -> Sequence[int]:
        """The place of each sample in the order of the epoch; its random numbers depend on it."""
        return range(self.first, self.first + len(self.indices)) if self.kept is None else self.kept

    @property
    def is_empty(self) -> bool:
        """True if all samples of the batch are excluded."""
        return self.kept is not None and not self.kept


class WorkItem(NamedTuple):
    """A work item: one batch, or one element of a stream.

    Attributes:
        number: Place in the order of delivery, from 0; never reused.
        epoch: Number of the epoch, from 0.
        position: Place in the epoch.
        unit: The index for the source; for a stream, the number of elements that the lane has returned before.
        lane: The lane; -1 for a source with an index.
        listed: The samples of the batch, if they do not follow from the unit.
    """

    number: int
    epoch: int
    position: int
    unit: int
    lane: int = -1
    listed: BatchSamples | None = None


class RankStart(NamedTuple):
    """Where the present ranks began: the beginning of an epoch, or a later place if other ranks began this epoch.

    Their order begins with the first batch that was not returned before. Each rank counts its batches from the
    beginning of the epoch, as if these ranks had returned the earlier ones: ``first`` of them. An *index* counts those
    of all ranks in the same way, so that a rank has every ``world``-th index. No batch has an index before
    ``first * world``.

    Attributes:
        number: Global number of the first of these batches.
        world: The number of ranks.
        epoch: The epoch. These ranks begin later epochs at the beginning, and return no earlier ones.
    """

    number: int = 0
    world: int = 1
    epoch: int = 0

    @property
    def first(self) -> int:
        """The number of the first batch of a rank."""
        return -(-self.number // self.world)

    def of(self, epoch: int) -> "RankStart":
        """Return the base of an epoch."""
        return self if epoch == self.epoch else FROM_BEGINNING

    def nth(self, index: int) -> int:
        """Return the global number of a batch, by its index in the order of the present ranks."""
        return index + self._shift

    def index_of(self, number: int) -> int:
        """Return the index of a batch: the inverse of `nth`."""
        return number - self._shift

    def numbers(self, indices: range) -> range:
        """Return the global numbers of batches, by their indices."""
        return range(indices.start + self._shift, indices.stop + self._shift, indices.step)

    @property
    def _shift(self) -> int:
        return self.number - self.first * self.world


FROM_BEGINNING = RankStart()


class DrawnRound(NamedTuple):
    """The drawn batches of all ranks in one round.

    Attributes:
        batches: The unit and the samples of each batch.
        first: The same of the first batches of the epoch.
    """

    batches: tuple[tuple[int, BatchSamples | None], ...]
    first: tuple[tuple[int, BatchSamples | None], ...]


# What the other ranks have at a work item: the base of its epoch, from which that follows, or the drawn batches.
Others: TypeAlias = RankStart | DrawnRound
Edit: TypeAlias = Callable[[WorkItem, Others], WorkItem]


class Place(NamedTuple):
    """A place in the order of the batches.

    Attributes:
        epoch: Number of the epoch, from 0.
        position: Number of batches of the epoch that were delivered, without a gap. If other ranks began the epoch,
            it is counted from ``base.first``.
        ahead: Later positions that were delivered as well (``ordered=False``).
        counts: For a stream: number of elements taken from each lane. The live lane with the smallest count is next.
        starts: For a stream: the snapshot for resuming each lane; empty: all from their beginning.
        ends: For a stream: number of elements of each lane, -1 if unknown; empty: unknown for all.
        base: Where these ranks began, in this epoch or an earlier one, see `mpqueue.plan.position.ranks`.
        is_own: Batches of the epoch were left out or raised on this rank alone, so the other ranks may be at other
            places.
    """

    epoch: int = 0
    position: int = 0
    ahead: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    starts: tuple[LaneStart, ...] = ()
    ends: tuple[int, ...] = ()
    base: RankStart = FROM_BEGINNING
    is_own: bool = False

    def is_same_as(self, other: "Place") -> bool:
        """Return whether both are the same place. At the beginning of a stream, the counts may be missing.

        Workers that are already at a place must not be sent there again: they would lose batches computed ahead.
        """
        # Snapshots and ends are not compared: the same place gets newer ones while the stream continues.
        if self[:3] != other[:3] or self.base != other.base:
            return False
        return self.counts == other.counts or not (any(self.counts) or any(other.counts))

    def as_dict(self) -> dict[str, Any]:
        """Return the part of a saved state that names the place, without the snapshots of lanes."""
        return dict(zip(self._fields[:4], self[:4], strict=True))


class Drawn(NamedTuple):
    """The work of one position: drawn from a sampler, or derived from the order.

    Attributes:
        unit: The unit of the work item.
        listed: The samples; None: they follow from the unit.
        mark: Fingerprint of all indices that the sampler returned before it in this epoch.
        others: What the other ranks have, for `Cursor.edit`.
    """

    unit: int
    listed: BatchSamples | None = None
    mark: int = 0
    others: Others = FROM_BEGINNING


class ConsumerProgress(Protocol):
    """Progress of the consumer: a `mpqueue.engine.progress.Progress`."""

    epoch: int
    position: int

    def kept(self) -> tuple[int, int]:
        """Return the epoch and the position before which the user has got all batches."""


# The number of batches of an endless source: no rank reaches it, and it fits into an index.
ENDLESS = 1 << 62
_LEAST_EMPTY = 100_000  # batches without samples in a row, before a search in an endless source is given up


class Cursor:
    """The interface of cursors. The methods here fit an order without epochs to open.

    Attributes:
        num_lanes: Number of lanes; 0: the source has an index.
        lanes: Snapshots and ends of the lanes.
        lane_share: The lanes of this rank among those of all ranks.
        is_drawn: Batches are known only after they are drawn, which happens when their epoch is requested.
        epoch: The epoch that is being dealt.
        next_number: Number of the next work item.
        lengths: Number of batches of each epoch that was opened and not yet delivered; None: endless or unknown.
        last_epoch: No work item of a later epoch is dealt; None: no limit.
        edit: Removes excluded samples from a work item; None: no sample is excluded.
    """

    num_lanes = 0
    edit: Edit | None = None
    is_drawn = False

    def __init__(self) -> None:
        self.epoch = self.next_number = 0
        self.lanes, self.lane_share = LaneTable(0), LaneShare(0, 0)
        self.lengths: dict[int, int | None] = {}
        self.last_epoch: int | None = None

    def go_to(self, place: Place) -> None:
        """Continue dealing from a place.

        Raises:
            ValueError: The source has no such place, or an invalid length.
        """
        self.epoch = place.epoch

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return up to ``limit`` of the next work items, all of one epoch; none if no work is available at the moment.

        Raises:
            Exception: The error of the source's length, its order or its sampler. The next call tries again.
        """
        raise NotImplementedError

    def deal_failure(self) -> WorkItem:
        """Return a work item for an error in dealing: it has a place in the order of delivery, but not in an epoch."""
        # With a number of the order: the consumer gets the error after all batches that were dealt before it.
        self.next_number += 1
        return WorkItem(self.next_number - 1, self.epoch, -1, -1)

    def end_lane(self, lane: int, number: int) -> None:
        """Deal no more work items of a lane, which has no element of this number."""

    def forget_owners(self) -> None:
        """Note that some lanes have other owners now."""

    def element(self, work_item: WorkItem) -> int:
        """Return the number of an element among those of all lanes of all ranks."""
        raise NotImplementedError

    def stand_before(self, epoch: int) -> None:
        """Go to the barrier before an epoch."""
        self.go_to(Place(epoch))

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

    def room_for(self, num_outstanding: int) -> int:  # noqa: ARG002 - an epoch of positions ends by its length
        """Return how many more work items may be dealt, in addition to those in flight."""
        return ENDLESS

    def forget(self, epoch: int) -> None:
        """Drop an epoch after all of it was delivered."""

    def length_of(self, epoch: int) -> int | None:
        """Return the number of batches of an epoch that is open or kept; None: endless or unknown."""
        return self.lengths.get(epoch)

    def mark_at(self, epoch: int, position: int) -> int | None:  # noqa: ARG002 - for cursors with a sampler
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

    def go_to(self, place: Place) -> None:
        """Continue dealing from a place; see `start_at`."""
        self.start_at(place.epoch, place.position, place.ahead, place.base)

    def start_at(
        self, epoch: int, position: int = 0, skip: Iterable[int] = (), base: RankStart = FROM_BEGINNING
    ) -> None:
        """Go to a place in the order, and leave out the positions in ``skip``. Open its epoch, if it may be dealt.

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
        number, order = self.next_number, self.orders.get(self.epoch)
        self.next_number = number + len(positions)
        units = positions if order is None else _units(order, positions)
        dealt = list(map(WorkItem, itertools.count(number), itertools.repeat(self.epoch), positions, units))
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
        except Exception:  # such as that of a cost
            if not edited:
                raise
        except BaseException:  # an interrupt: the caller gets none of them
            edited.clear()
            raise
        finally:
            if len(edited) < len(dealt):
                first = dealt[len(edited)]
                self._position, self.next_number = first.position, first.number
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
            order = permutation(self._seed, self.epoch, length)
        self.orders[self.epoch], self.source_lengths[self.epoch] = order, source_length
        self._length = self.lengths[self.epoch] = length
        # The last step: if the source raises above, the epoch remains closed, and the next `deal` tries again.
        self._is_open = True


def _units(order: Any, positions: Sequence[int]) -> Sequence[int]:
    """Return the indices of these positions as Python integers."""
    if not isinstance(positions, range):
        return [int(order[position]) for position in positions]
    # A slice takes a third of the time of single items, and a slice of a range takes none.
    indices = order[positions.start : positions.stop]
    return indices if isinstance(indices, range) else [int(index) for index in indices]


class Draw(Protocol):
    """The batches of one epoch, drawn one after the other.

    Attributes:
        is_once: After an error, the epoch cannot be drawn again from its beginning; drawing continues from there.
    """

    is_once: bool

    def take(self, limit: int) -> list[Drawn]:
        """Return up to ``limit`` of the next batches; an empty list at the end.

        Raises:
            Exception: The error that the sampler raised.
        """

    @property
    def has_ended(self) -> bool:
        """True if the last batch was taken, and the draw knows it without another call of `take`."""

    @property
    def mark(self) -> int | None:
        """Fingerprint of all indices that were taken; None: unknown."""


class DrawsEpochs(Protocol):
    """The draws of a run, one per epoch: a `mpqueue.plan.position.draws.Draws`, or those of a frontend."""

    def draw(self, epoch: int, base: RankStart) -> Draw:
        """Begin an epoch at a base.

        Raises:
            Exception: The error that the sampler raised.
        """


class DrawnCursor(EpochCursor):
    """Positions of an order that is drawn while it is dealt, epoch after epoch.

    Args:
        draw: Begins to draw an epoch, by (epoch, base of these ranks).
        barrier: Deal no work item of the next epoch before `open_epoch` is called.
        edit: As for an `EpochCursor`.
    """

    is_drawn = True

    def __init__(
        self, draw: Callable[[int, RankStart], Draw], *, barrier: bool = False, edit: Edit | None = None
    ) -> None:  # fmt: skip
        super().__init__(lambda: None, 0, barrier=barrier, edit=edit)
        self._consumer: ConsumerProgress | None = None
        self._begin_draw = draw
        self._draw: Draw | None = None  # None: not started, or ended by an error
        self._drawn_epoch = -1
        self._taken: list[Drawn] = []  # drawn, but not in `_kept` yet
        self._kept: dict[int, Drawn] = {}  # by position, until delivered
        self._num_drawn = self._forget_at = 0

    def follow(self, consumer: ConsumerProgress) -> None:
        """Keep each drawn batch until the consumer gets it; without a consumer, keep all."""
        self._consumer = consumer

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return up to ``limit`` of the next work items, all of one epoch; none at a closed barrier.

        Raises:
            Exception: The error that the sampler raised. The next call iterates the sampler again, up to this place.
        """
        dealt: list[WorkItem] = []
        while not dealt:
            if not self._is_open:
                if not self._may_open():
                    break
                self._open()
            if self._leave_finished_epoch():
                continue
            # Draw only as many batches as are dealt: a sampler may be endless.
            if self._position == self._num_drawn and not self._draw_more(limit):
                break
            start, self._position = self._position, min(self._position + limit, self._num_drawn)
            for position in range(start, self._position):
                if position not in self._skip:
                    unit, listed, _, others = self._kept[position]
                    work_item = WorkItem(self.next_number, self.epoch, position, unit, -1, listed)
                    dealt.append(work_item if self.edit is None else self.edit(work_item, others))
                    self.next_number += 1
        self._forget_delivered()
        return dealt

    def mark_at(self, epoch: int, position: int) -> int | None:
        """Return the fingerprint of all indices that the sampler returned before this position; None: unknown."""
        if epoch != self._drawn_epoch:
            return None
        if position in self._kept:
            return self._kept[position].mark
        if self._draw is None or position != self._num_drawn:
            return None
        return self._taken[0].mark if self._taken else self._draw.mark

    def _open(self) -> None:
        """Open the epoch: continue the present draw or begin one, and skip batches that were delivered before."""
        at = self._position
        # The present draw can be used if no batch after this place was dropped.
        is_kept = at >= self._forget_at or self._forget_at == self._base.first
        if self._draw is None or self.epoch != self._drawn_epoch or not is_kept:
            self._begin()
        # Draw and drop in blocks: a saved place may be a billion samples from the beginning.
        while (left := at - self._num_drawn) > 0 and self._draw_more(min(left, 1024)):
            self._forget_before(self._num_drawn)
        if left > 0:
            raise ValueError(
                f"position {at} does not exist: the sampler returned {self._num_drawn} batches for epoch {self.epoch}"
            )
        self._is_open = True
        self._length = self.lengths[self.epoch] = None
        self._note_end()

    def _begin(self) -> None:
        # Drop the old draw first: if the sampler raises at its beginning, the next call begins again.
        self._draw, self._taken, self._drawn_epoch = None, [], self.epoch
        # No batch before the base is drawn for these ranks.
        self._num_drawn = self._forget_at = self._base.first
        self._kept.clear()
        self._draw = self._begin_draw(self.epoch, self._base)

    def _draw_more(self, limit: int) -> bool:
        """Draw up to ``limit`` batches; return whether there were any."""
        draw = self._draw
        assert draw is not None
        if not self._taken:
            # An exception, including an interrupt, ends a generator. Unless the draw finishes below, begin again.
            self._draw, self._is_open = draw if draw.is_once else None, False
            self._taken = draw.take(limit)
        is_any = bool(self._taken)
        while self._taken:  # an interrupt before the next step leaves the rest of `_taken` for the next call
            drawn = self._taken[0]
            self._kept[self._num_drawn], self._taken = drawn, self._taken[1:]
            self._num_drawn += 1
        self._draw, self._is_open = draw, True
        self._note_end()
        return is_any

    def _note_end(self) -> None:
        # A draw that looks one batch ahead knows the end with its last batch, so no surplus work item is dealt.
        if self._draw is not None and self._draw.has_ended:
            self._length = self.lengths[self.epoch] = self._num_drawn

    def _forget_delivered(self) -> None:
        # Only delivered batches, not those in flight: after an interrupt, the work in flight is dealt again.
        epoch, position = (-1, 0) if self._consumer is None else self._consumer.kept()
        if epoch == self._drawn_epoch:
            self._forget_before(position)

    def _forget_before(self, position: int) -> None:
        """Drop batches that were drawn before this position."""
        while self._forget_at < position:
            self._kept.pop(self._forget_at, None)
            self._forget_at += 1


class StreamCursor(Cursor):
    """Elements of virtual shards (lanes) in turn: the live lane that has returned the fewest elements is next.

    With ``epoch_batches``, the lanes never end, and an epoch is a number of successive elements. Then the epoch of all
    work items is 0, and the epoch of a batch is known on delivery. `length_of` is the same for all epochs, and
    work items that were dealt ahead remain valid after the end of an epoch.

    Args:
        share: The lanes of this process, or their number if there is only one process.
        epoch_batches: Number of elements of an epoch; None: it ends when the last lane ends.
    """

    def __init__(self, share: LaneShare | int, *, epoch_batches: int | None = None) -> None:
        super().__init__()
        if isinstance(share, int):
            share = LaneShare(share, share)
        self.lane_share = share._replace(is_endless=epoch_batches is not None)
        self.num_lanes, self.lanes = share.num_lanes, LaneTable(share.num_lanes)
        self._epoch_batches = epoch_batches
        self._consumer: ConsumerProgress | None = None
        # Heaps of (next element, lane) for lanes that may have this element: one for all, or one for each worker while
        # work items are dealt fairly. A lane that has ended leaves its heap when its turn comes: a search for it would
        # take as long as all lanes.
        self._turns: list[tuple[int, int]] = []
        self._shares: dict[int, list[tuple[int, int]]] = {}
        self._ended: set[int] = set()
        if epoch_batches is not None:
            # The work items of an endless stream have epoch 0, and the ledger looks up the length by that epoch.
            self.lengths[0] = epoch_batches

    def follow(self, consumer: ConsumerProgress) -> None:
        """Set the object that reports the epoch and the position of the consumer."""
        self._consumer = consumer

    def go_to(self, place: Place) -> None:
        """Continue dealing from a place."""
        self.epoch = place.epoch if self._epoch_batches is None else 0
        self.lanes.go_to(place.starts, place.ends)
        # The next lane follows from the counts alone, so the order does not depend on the number of workers.
        counts, ends = place.counts or [0] * self.num_lanes, self.lanes.ends
        # A lane with an unknown end takes its turns: its worker answers with the end, which changes no other turn.
        turns = [(count, lane) for lane, count in enumerate(counts) if count < ends.get(lane, count + 1)]
        heapq.heapify(turns)
        self._turns, self._shares, self._ended = turns, {}, set()

    def end_lane(self, lane: int, number: int) -> None:
        """Deal no more work items of a lane, which has no element of this number."""
        self.lanes.end(lane, number)
        self._ended.add(lane)

    def element(self, work_item: WorkItem) -> int:
        """Return the number of an element among those of all lanes of all ranks."""
        return work_item.unit * self.lane_share.total + self.lane_share.lane(work_item.lane)

    def room_for(self, num_outstanding: int) -> int:
        """Return how many more work items may be dealt before the end of the last epoch that was requested.

        A work item that reports the end of a lane is not a batch: after it, another work item may be dealt.
        """
        length, consumer = self._epoch_batches, self._consumer
        if length is None or self.last_epoch is None or consumer is None:
            return ENDLESS
        return (self.last_epoch + 1 - consumer.epoch) * length - consumer.position - num_outstanding

    def length_of(self, epoch: int) -> int | None:  # noqa: ARG002 - all have the same
        """Return the number of batches of an epoch; None: unknown."""
        return self._epoch_batches

    def deal_fairly(
        self, limit: int, credit: int, held: Mapping[int, int], owner: Callable[[int], int]
    ) -> list[WorkItem]:
        """Deal up to ``limit`` work items, so that no worker holds more than its share of the credit.

        Otherwise the work items of a slow worker would use all of the credit, and the others would be idle.

        Args:
            limit: As for `deal`.
            credit: Number of work items that all workers together may hold.
            held: Number of work items in flight, by worker.
            owner: Returns the worker that runs a lane.
        """
        shares = self._shares_of(owner)
        # Divided among the owners of lanes that have not ended: the share of any other worker would never be used.
        most = -(-credit // max(1, len(shares)))
        room = {number: most - held.get(number, 0) for number in shares}
        firsts = [(turns[0], number) for number, turns in shares.items() if room[number] > 0]
        heapq.heapify(firsts)
        dealt: list[WorkItem] = []
        while firsts and len(dealt) < limit:
            _, number = firsts[0]
            turns = shares[number]
            count, lane = turns[0]
            heapq.heapreplace(turns, (count + 1, lane))  # as in `deal`
            dealt.append(WorkItem(self.next_number, self.epoch, count, count, lane))
            self.next_number += 1
            room[number] -= 1
            if room[number] and self._has_turn(turns):
                heapq.heapreplace(firsts, (turns[0], number))
            else:
                heapq.heappop(firsts)
        return dealt

    def _shares_of(self, owner: Callable[[int], int]) -> dict[int, list[tuple[int, int]]]:
        """Return the turns of each worker that owns lanes which have not ended."""
        if self._turns:
            turns, self._turns = self._turns, []
            for turn in turns:
                self._shares.setdefault(owner(turn[1]), []).append(turn)
            for turns in self._shares.values():
                heapq.heapify(turns)
        self._shares = {number: turns for number, turns in self._shares.items() if self._has_turn(turns)}
        return self._shares

    def forget_owners(self) -> None:
        """Divide the lanes among their owners again, because some have changed."""
        for turns in self._shares.values():
            self._turns += turns
        self._shares = {}
        heapq.heapify(self._turns)

    def _has_turn(self, turns: list[tuple[int, int]]) -> bool:
        """Remove ended lanes from the front of a heap; return whether a lane is left."""
        while turns and turns[0][1] in self._ended:
            heapq.heappop(turns)
        return bool(turns)

    def deal(self, limit: int = 1) -> list[WorkItem]:
        """Return up to ``limit`` of the next work items; none after the end of all lanes."""
        if self._shares:
            self.forget_owners()
        dealt: list[WorkItem] = []
        while self._turns and len(dealt) < limit:
            count, lane = self._turns[0]
            if lane in self._ended:
                heapq.heappop(self._turns)
                continue
            # The lane may not have this element. Waiting for that information would prevent computing ahead.
            heapq.heapreplace(self._turns, (count + 1, lane))
            dealt.append(WorkItem(self.next_number, self.epoch, count, count, lane))
            self.next_number += 1
        return dealt
