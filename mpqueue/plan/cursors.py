"""The order of the work. Pure: no processes, no clock.

Order is arithmetic. A *ticket* is the number of a piece of work; a `Cursor` deals tickets one by one and says which
(epoch, position, index) each means. The ledger and the pipeline know the `Cursor` only; there are three:

`EpochCursor` is for Sequences: positions 0 to length - 1, epoch after epoch, shuffled by (seed, epoch) if wanted.
With a *barrier* (the source changes itself at the end of an epoch) it deals nothing of the next epoch until
`open_epoch` is called. The length is asked for at the start of every epoch.

`DrawnCursor` has its batches from a `Draw`, an order that a sampler gives, and draws as it deals. What was drawn is
kept in one place until it was handed out, because an interrupt may have the work in flight dealt again, and a sampler
with random numbers of its own would give others; and as long as the epoch is open, where positions are to be computed
again (`keep`).

`StreamCursor` is for generators: elements come from *lanes*, each a stream with an order of its own, and tickets go
round the lanes: element 0 of each, then element 1 of each, and so on. A lane that has ended answers its remaining
tickets with "end" and gets no more; as the others keep going round in the same order, the order of delivery does not
depend on when the end was noticed. Whose turn it is follows from how many each has given. A ticket names its lane and
says nothing of workers: which one runs a lane is the backends' business.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mpqueue.plan.lanes import LaneShare, LaneStart, LaneTable
from mpqueue.seeding.seeds import permutation


class Listed(NamedTuple):
    """The samples of a batch, where the trainer has drawn them.

    Attributes:
        first: The place of the first one in the order of the epoch.
        indices: What the source is asked for.
    """

    first: int
    indices: Sequence[Any]


class Ticket(NamedTuple):
    """One piece of work.

    Attributes:
        number: Its place in the order in which batches are handed out, from 0; never used again.
        epoch: From 0.
        position: Place in its epoch.
        unit: What the source is asked for: an index, or the number of elements that its lane gave before.
        lane: The one that it belongs to, -1 without lanes.
        listed: The samples of the batch, if they do not follow from the unit.
    """

    number: int
    epoch: int
    position: int
    unit: int
    lane: int = -1
    listed: Listed | None = None


class Place(NamedTuple):
    """A place in the order of a source's batches.

    Attributes:
        epoch: From 0.
        position: Batches of it that were taken, all those before this one.
        ahead: Positions beyond that were taken, too (unordered).
        counts: With lanes: elements taken of each. The next is of the live lane that gave the fewest;
        starts: where each can begin to get there, empty: all at their beginning;
        ends: how many elements each has, -1 where that is not known, empty: of none.
        base: Global number of the batch with which these ranks began the epoch: above 0 where another number of ranks
            had begun it, see `mpqueue.plan.ranks`.
    """

    epoch: int = 0
    position: int = 0
    ahead: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    starts: tuple[LaneStart, ...] = ()
    ends: tuple[int, ...] = ()
    base: int = 0

    def is_same_as(self, other: "Place") -> bool:
        """Return whether it is the same place; one in a stream of which nothing was taken may leave out the counts.

        Workers that are there already must not be sent there again: in the middle of a stream's epoch they go on with
        what they have not computed yet, and what they had computed ahead would be lost.
        """
        # Without the snapshots and the ends: the same place is told with newer ones as the stream goes on.
        if self[:3] != other[:3]:
            return False
        if self.base != other.base:
            return False
        return self.counts == other.counts or not (any(self.counts) or any(other.counts))

    def as_dict(self) -> dict[str, Any]:
        """Return what a state says of it, but where its lanes can begin."""
        return dict(zip(self._fields[:4], self[:4], strict=True))


class Drawn(NamedTuple):
    """The work of a position: what a sampler gave for it, or what follows from the order.

    Attributes:
        unit: Of the ticket.
        listed: Its samples; None: the unit says it.
        mark: Stands for all that the sampler gave before it in this epoch.
    """

    unit: int
    listed: Listed | None = None
    mark: int = 0


class ConsumerProgress(Protocol):
    """Progress of the consumer: a `mpqueue.engine.ledger.Progress`."""

    epoch: int
    position: int


ENDLESS = 1 << 62


class Cursor:
    """An order, as the ledger and the pipeline ask it; the methods here are those of one without epochs to open.

    Attributes:
        num_lanes: How many streams give the elements; 0: batches have positions instead.
        lanes: What is known of these streams,
        lane_share: and which they are among those of all ranks.
        is_drawn: The next batches are known only when they are drawn: no sooner than somebody asks for their epoch.
        epoch: The epoch that is dealt now.
        next_number: Of the next ticket.
        lengths: The number of batches of each epoch that was opened and is not handed out, None if it is endless or
            not known yet.
        last_epoch: Nothing of later epochs is dealt; None: there is no such bound.
    """

    num_lanes = 0
    is_drawn = False

    def __init__(self) -> None:
        self.epoch = self.next_number = 0
        self.lanes, self.lane_share = LaneTable(0), LaneShare(0, 0)
        self.lengths: dict[int, int | None] = {}
        self.last_epoch: int | None = None

    def go_to(self, place: Place) -> None:
        """Deal from a place on.

        Raises:
            ValueError: The source has no such place, or an impossible length.
        """
        raise NotImplementedError

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Up to so many of the next tickets, of one epoch; none if there is no work for now.

        Raises:
            Exception: What the source's length, its order or its sampler raised; the next call asks for it again.
        """
        raise NotImplementedError

    def deal_failure(self) -> Ticket:
        """A ticket for what cannot be dealt: it has a place in the order, and none in an epoch."""
        self.next_number += 1
        return Ticket(self.next_number - 1, self.epoch, -1, -1)

    def end_lane(self, lane: int, number: int) -> None:
        """A lane has been found to have no element of this number: no more tickets for it."""

    def element(self, ticket: Ticket) -> int:
        """Return the number of an element of a lane among those of all lanes of all ranks."""
        raise NotImplementedError

    def stand_before(self, epoch: int) -> None:
        """Go to the barrier before an epoch."""
        self.go_to(Place(epoch))

    def open_epoch(self) -> None:
        """Lift the barrier before the next epoch."""

    @property
    def is_endless(self) -> bool:
        """True if the epoch that is dealt now is one of positions without an end."""
        return False

    def has_new_length(self) -> bool:
        """Return True if an epoch was opened with another length than the source has now.

        Raises:
            Exception: What the source's length raised.
        """
        return False

    def follow(self, consumer: ConsumerProgress) -> None:
        """Note who tells what was handed out, and is not kept any longer."""

    def room_for(self, num_outstanding: int) -> int:  # noqa: ARG002 - epochs of positions end by themselves
        """Return how many more tickets may be dealt, beside those of the order that were and are not taken."""
        return ENDLESS

    def forget(self, epoch: int) -> None:
        """All of an epoch was handed out."""

    def length_of(self, epoch: int) -> int | None:
        """Return the number of batches of the epoch that is open, or that is kept; None: no end, or nobody knows."""
        return self.lengths.get(epoch)

    def mark_at(self, epoch: int, position: int) -> int | None:  # noqa: ARG002 - of those that are drawn
        """Return what stands for all that a sampler gave before this position; None: nobody knows."""
        return None

    def keep(self, num_indices: int) -> None:
        """Keep what `unit_at` needs; of what cannot be drawn again, up to so many indices."""

    def unit_at(self, epoch: int, position: int) -> Drawn:
        """Return the work of a position of the epoch that is open or was handed out last, for `Ledger.want`.

        Raises:
            LookupError: There is no such position, or it cannot be drawn again and is not kept.
        """
        raise LookupError(f"batch {position} of epoch {epoch} comes from a lane, and cannot be asked for")


class EpochCursor(Cursor):
    """Positions of a Sequence, epoch after epoch.

    Args:
        length_of: Asked at the start of each epoch: the number of batches, None for endless.
        seed: For the shuffled order.
        shuffle: A new permutation per epoch.
        barrier: Deal nothing of the next epoch before `open_epoch`.
        order_of: Returns the indices of an epoch, by (epoch, length of the source, base of these ranks, see `Place`);
            their number is the number of its batches. None: ascending.

    Attributes:
        asked: The length of the source for each epoch of `lengths`, as it was when the epoch was opened.
        orders: The indices of each of these epochs, None if they ascend.
    """

    def __init__(
        self,
        length_of: Callable[[], int | None],
        seed: int,
        *,
        shuffle: bool = False,
        barrier: bool = False,
        order_of: Callable[[int, int, int], Any] | None = None,
    ) -> None:
        super().__init__()
        self._length_of, self._seed, self._shuffle, self._barrier = length_of, seed, shuffle, barrier
        self._order_of = order_of
        self._skip: frozenset[int] = frozenset()
        self._position = 0
        self._length: int | None = None  # of the epoch that is dealt
        self.asked: dict[int, int | None] = {}
        self.orders: dict[int, Any] = {}
        self._is_open = self._keeps = False
        self._base_epoch, self._first = -1, 0
        self._opens_until = -1  # with a barrier: the last epoch that may be dealt
        self._over: tuple[int, Any, int | None] = (-1, None, 0)  # the epoch that was handed out last, if it is kept

    def go_to(self, place: Place) -> None:
        """Deal from a place on; see `start_at`."""
        self.start_at(place.epoch, place.position, place.ahead, place.base)

    def start_at(self, epoch: int, position: int = 0, skip: Iterable[int] = (), base: int = 0) -> None:
        """Go to a place in the order; positions in ``skip`` are left out. Opens that epoch, if it is to be dealt.

        Raises:
            ValueError: The source has no such position, or an impossible length.
        """
        self.epoch, self._position, self._skip = epoch, position, frozenset(skip)
        self._base_epoch, self._first = epoch, base
        self._opens_until = epoch
        self._forget_all()
        self._is_open = False
        # An epoch behind the bound is not to be dealt: its source is asked for nothing yet.
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
        """True if the epoch that is dealt now never ends."""
        return self._length is None

    def has_new_length(self) -> bool:
        """Return True if an epoch was opened with another length than the source has now."""
        if not self.asked:
            return False
        length = self._length_of()
        return any(asked != length for asked in self.asked.values())

    def forget(self, epoch: int) -> None:
        """All of an epoch was handed out, and its length will not be asked for again."""
        # A server computes batches of this epoch again, for late consumers, while the next one runs.
        if self._keeps and epoch in self.lengths:
            self._over = epoch, self.orders.get(epoch), self.lengths[epoch]
        self.lengths.pop(epoch, None)
        self.asked.pop(epoch, None)
        self.orders.pop(epoch, None)

    def keep(self, num_indices: int) -> None:  # noqa: ARG002 - there is one order, whatever its length
        """Keep the order of the epoch that was handed out last."""
        self._keeps = True

    def length_of(self, epoch: int) -> int | None:
        """Return the number of batches of the epoch that is open, or that is kept; None: no end, or nobody knows."""
        return self._order_at(epoch)[2]

    def _order_at(self, epoch: int) -> tuple[int, Any, int | None]:
        if epoch in self.lengths:
            return epoch, self.orders.get(epoch), self.lengths[epoch]
        return self._over if epoch == self._over[0] else (-1, None, None)

    def unit_at(self, epoch: int, position: int) -> Drawn:
        """Return the work of a position: its index follows from the order of the epoch."""
        known, order, length = self._order_at(epoch)
        if epoch != known or position < 0 or (length is not None and position >= length):
            raise LookupError(f"there is no batch {position} in epoch {epoch}: it has {length} batches")
        return Drawn(position if order is None else int(order[position]))

    def _forget_all(self) -> None:
        self.lengths.clear()
        self.asked.clear()
        self.orders.clear()

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Up to so many of the next tickets, of one epoch; none behind a barrier."""
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
        return list(map(Ticket, itertools.count(number), itertools.repeat(self.epoch), positions, units))

    def _next_positions(self, limit: int) -> Sequence[int]:
        start = self._position
        stop = start + limit if self._length is None else min(start + limit, self._length)
        while stop in self._skip:  # an epoch whose last positions are left out ends with the one before them
            stop += 1
        self._position = stop
        # A range costs no memory, however many are dealt.
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
    def _base(self) -> int:
        """The base of the epoch that is dealt, see `Place`."""
        return self._first if self.epoch == self._base_epoch else 0

    def _may_open(self) -> bool:
        if self._barrier and self.epoch > self._opens_until:
            return False
        return self.last_epoch is None or self.epoch <= self.last_epoch

    def _open(self) -> None:
        # Both are kept: an order may have another length, and what the source says later is compared with what it said.
        asked = length = self._length_of()
        order = None
        if self._order_of is not None and length is not None:
            order = self._order_of(self.epoch, length, self._base)
            length = length if order is None else len(order)
        elif self._shuffle and length is not None:
            order = permutation(self._seed, self.epoch, length)
        self.orders[self.epoch], self.asked[self.epoch] = order, asked
        self._length = self.lengths[self.epoch] = length
        # The last line: where the source raises, the epoch stays closed, and the next `deal` asks again.
        self._is_open = True


def _units(order: Any, positions: Sequence[int]) -> Sequence[int]:
    """Return the indices of these positions, as Python's integers."""
    if not isinstance(positions, range):
        return [int(order[position]) for position in positions]
    # A slice costs a third of the time that single items take, and one of a range costs nothing.
    found = order[positions.start : positions.stop]
    return found if isinstance(found, range) else [int(index) for index in found]


class Draw(Protocol):
    """The batches of one epoch, drawn one after the other.

    Attributes:
        is_once: What has raised cannot be drawn again from its beginning: it is asked for what comes behind the error.
    """

    is_once: bool

    def take(self, limit: int) -> list[Drawn]:
        """Return up to so many of the next ones; none: there are no more.

        Raises:
            Exception: What the sampler raised.
        """
        ...

    @property
    def has_ended(self) -> bool:
        """True if the last one was taken, and it is known before somebody asks in vain."""
        ...

    @property
    def mark(self) -> int | None:
        """Stands for all that was taken; None: nobody knows."""
        ...


class DrawsEpochs(Protocol):
    """The draws of a run, one for each epoch: a `mpqueue.plan.draws.Draws`, or those of a frontend."""

    def draw(self, epoch: int, base: int) -> Draw:
        """Begin an epoch, at the batch of the number ``base`` over all ranks.

        Raises:
            Exception: What the sampler raised.
        """
        ...


class DrawnCursor(EpochCursor):
    """Positions of an order that is drawn as it is dealt, epoch after epoch.

    Args:
        draw: Begins to draw an epoch, by (epoch, base of these ranks, see `Place`).
        barrier: Deal nothing of the next epoch before `open_epoch`.
    """

    is_drawn = True

    def __init__(self, draw: Callable[[int, int], Draw], *, barrier: bool = False) -> None:
        super().__init__(lambda: None, 0, barrier=barrier)
        self._consumer: ConsumerProgress | None = None
        self._begin_draw = draw
        self._draw: Draw | None = None  # None: it broke off, or nothing was drawn
        self._drawn_epoch = -1
        self._taken: list[Drawn] = []  # drawn, and not entered yet
        self._kept: dict[int, Drawn] = {}  # by position: the first ones for good, the others until handed out
        self._num_drawn = self._num_lasting = self._forget_at = 0
        self._num_indices = self._room = 0  # indices that may be kept for good, of an epoch and of the present one

    def follow(self, consumer: ConsumerProgress) -> None:
        """Keep until it is handed out what `deal` has drawn; without a consumer all is kept."""
        self._consumer = consumer

    def keep(self, num_indices: int) -> None:
        """Keep of each epoch that is opened from now on so many indices until the next one is."""
        super().keep(num_indices)
        self._num_indices = num_indices

    def unit_at(self, epoch: int, position: int) -> Drawn:
        """Return what was drawn for a position."""
        # A sampler that is asked again may give other indices: what is not kept is gone.
        if epoch == self._drawn_epoch and position in self._kept:
            return self._kept[position]
        num_kept = self._num_lasting if epoch == self._drawn_epoch else 0
        raise LookupError(
            f"batch {position} of epoch {epoch} cannot be computed again: the sampler's indices are kept up to "
            f"{self._num_indices:,} of an epoch, {num_kept:,} batches here"
        )

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Up to so many of the next tickets, of one epoch; none behind a barrier.

        Raises:
            Exception: What the sampler raised; the next call iterates it anew, and comes back to this place.
        """
        dealt: list[Ticket] = []
        while not dealt:
            if not self._is_open:
                if not self._may_open():
                    break
                self._open()
            if self._leave_finished_epoch():
                continue
            # No further than is dealt: a sampler may have no end.
            if self._position == self._num_drawn and not self._draw_more(limit):
                break
            start, self._position = self._position, min(self._position + limit, self._num_drawn)
            for position in range(start, self._position):
                if position not in self._skip:
                    unit, listed, _ = self._kept[position]
                    dealt.append(Ticket(self.next_number, self.epoch, position, unit, -1, listed))
                    self.next_number += 1
        self._forget_handed_out()
        return dealt

    def mark_at(self, epoch: int, position: int) -> int | None:
        """Return what stands for all that the sampler gave before this position; None: nobody knows."""
        if epoch != self._drawn_epoch:
            return None
        if position in self._kept:
            return self._kept[position].mark
        return self._draw.mark if self._draw is not None and position == self._num_drawn else None

    def _open(self) -> None:
        """Go on with what was drawn of this epoch, or begin to draw it, and leave out what was handed out before."""
        at = self._position
        # What was drawn serves once more if nothing behind this place was dropped.
        is_kept = at >= self._num_drawn or at >= self._forget_at or self._forget_at == self._num_lasting
        if self._draw is None or self.epoch != self._drawn_epoch or not is_kept:
            self._begin()
        # By pieces, each of which is dropped: a state may be a billion samples from the beginning.
        while (left := at - self._num_drawn) > 0 and self._draw_more(min(left, 1024)):
            self._forget_before(self._num_drawn)
        if left > 0:
            raise ValueError(
                f"position {at} does not exist: the sampler gave {self._num_drawn} batches for epoch {self.epoch}"
            )
        self._is_open = True
        self._length = self.lengths[self.epoch] = None
        self._note_end()

    def _begin(self) -> None:
        # First of all nothing is drawn: a sampler that raises as it begins is begun anew by the next call.
        self._draw, self._taken, self._drawn_epoch = None, [], self.epoch
        self._num_drawn = self._num_lasting = self._forget_at = 0
        self._room = self._num_indices
        self._kept.clear()
        self._draw = self._begin_draw(self.epoch, self._base)

    def _draw_more(self, limit: int) -> bool:
        """Draw up to so many; return whether there were any."""
        draw = self._draw
        assert draw is not None
        if not self._taken:
            # An exception, an interrupt too, ends a sampler that is a generator function: then it is begun anew.
            self._draw, self._is_open = draw if draw.is_once else None, False
            self._taken = draw.take(limit)
        is_any = bool(self._taken)
        while self._taken:  # an interrupt at the jump backward leaves the others for the next call
            drawn = self._taken[0]
            self._room -= 1 if drawn.listed is None else len(drawn.listed.indices)
            self._kept[self._num_drawn], self._taken = drawn, self._taken[1:]
            self._num_drawn += 1
            if self._room >= 0:
                self._num_lasting = self._forget_at = self._num_drawn
        self._draw, self._is_open = draw, True
        self._note_end()
        return is_any

    def _note_end(self) -> None:
        # A draw that looks one batch ahead ends its epoch with the last one, and not with a ticket in vain.
        if self._draw is not None and self._draw.has_ended:
            self._length = self.lengths[self.epoch] = self._num_drawn

    def _forget_handed_out(self) -> None:
        # Not what was dealt, but what has come: after an interrupt the work in flight is dealt once more.
        if self._consumer is not None and self._consumer.epoch == self._drawn_epoch:
            self._forget_before(self._consumer.position)

    def _forget_before(self, position: int) -> None:
        """Drop what was drawn before this position, but what is kept for good."""
        while self._forget_at < position:
            self._kept.pop(self._forget_at, None)
            self._forget_at += 1


class StreamCursor(Cursor):
    """Elements of so many lanes, round the lanes: the next is of the live lane that gave the fewest.

    With ``epoch_batches`` the lanes go on for ever, and an epoch is so many elements in a row, so that tickets know of
    no epochs: theirs is 0, and which one a batch belongs to is known when it is handed out. Then `length_of` is the
    same for all epochs, and what was dealt ahead stays across their ends.

    Args:
        share: The lanes of this process; or how many there are, if it is the only one.
        epoch_batches: An epoch is so many elements; None: it ends with the last of the lanes.
    """

    def __init__(self, share: LaneShare | int, *, epoch_batches: int | None = None) -> None:
        super().__init__()
        if isinstance(share, int):
            share = LaneShare(share, share)
        self.lane_share = share._replace(is_endless=epoch_batches is not None)
        self.num_lanes, self.lanes = share.num_lanes, LaneTable(share.num_lanes)
        self._epoch_batches = epoch_batches
        self._consumer: ConsumerProgress | None = None
        self._turns: list[tuple[int, int]] = []  # a heap of (next element, lane), of lanes that may have it
        if epoch_batches is not None:
            self.lengths[0] = epoch_batches

    def follow(self, consumer: ConsumerProgress) -> None:
        """Note who tells in which epoch, and how far in it, batches are handed out."""
        self._consumer = consumer

    def go_to(self, place: Place) -> None:
        """Deal from a place on."""
        self.epoch = place.epoch if self._epoch_batches is None else 0
        self.lanes.go_to(place.starts, place.ends)
        # Whose turn it is follows from the counts alone, so that any number of workers gives the same order.
        counts, ends = place.counts or [0] * self.num_lanes, self.lanes.ends
        turns = [(count, lane) for lane, count in enumerate(counts) if count < ends.get(lane, count + 1)]
        heapq.heapify(turns)
        self._turns = turns

    def end_lane(self, lane: int, number: int) -> None:
        """A lane has been found to have no element of this number: no more tickets for it."""
        self.lanes.end(lane, number)
        self._turns = [turn for turn in self._turns if turn[1] != lane]
        # A list out of whose middle something was taken is no heap any more.
        heapq.heapify(self._turns)

    def element(self, ticket: Ticket) -> int:
        """Return the number of an element of a lane among those of all lanes of all ranks."""
        return ticket.unit * self.lane_share.total + self.lane_share.lane(ticket.lane)

    def room_for(self, num_outstanding: int) -> int:
        """Return how many more tickets may be dealt before the end of the last epoch that was asked for.

        A ticket that brings the end of a lane is no batch: there is room for another one when it was taken.
        """
        length, consumer = self._epoch_batches, self._consumer
        if length is None or self.last_epoch is None or consumer is None:
            return ENDLESS
        return (self.last_epoch + 1 - consumer.epoch) * length - consumer.position - num_outstanding

    def length_of(self, epoch: int) -> int | None:  # noqa: ARG002 - all have the same
        """Return the number of batches of an epoch; None: nobody knows."""
        return self._epoch_batches

    def deal_fairly(
        self, limit: int, credit: int, held: Mapping[int, int], owner: Callable[[int], int]
    ) -> list[Ticket]:
        """Deal up to ``limit`` of the next tickets, so that no owner of lanes holds more than its share of the credit.

        Without this, the tickets of a slow owner would use up the credit, and the others would have nothing to do.

        Args:
            limit: As of `deal`.
            credit: Of all owners together.
            held: By owner: how many tickets are outstanding.
            owner: Returns the owner of a lane.
        """
        most = -(-credit // max(1, len({owner(lane) for _, lane in self._turns})))
        room = {number: most - count for number, count in held.items()}
        dealt: list[Ticket] = []
        waiting: list[tuple[int, int]] = []
        while self._turns and len(dealt) < limit:
            lane = self._turns[0][1]
            left = room.get(owner(lane), most)
            if left <= 0:
                waiting.append(heapq.heappop(self._turns))
                continue
            room[owner(lane)] = left - 1
            dealt += self.deal()
        for turn in waiting:
            heapq.heappush(self._turns, turn)
        return dealt

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Up to so many of the next tickets, none if all lanes have ended."""
        dealt: list[Ticket] = []
        while self._turns and len(dealt) < limit:
            count, lane = self._turns[0]
            # Before it is known whether the lane has this element: who waited for that would compute nothing ahead.
            heapq.heapreplace(self._turns, (count + 1, lane))
            dealt.append(Ticket(self.next_number, self.epoch, count, count, lane))
            self.next_number += 1
        return dealt
