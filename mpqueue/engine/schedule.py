"""The order of the work. Pure: no processes, no clock.

Order is arithmetic. A *ticket* is the number of a piece of work; a schedule deals tickets one by one and says which
(epoch, position, index) each means. Two kinds:

`EpochSchedule` is for Sequences: positions 0 to length - 1, epoch after epoch, shuffled by (seed, epoch) if wanted.
With a *barrier* (the source changes itself at the end of an epoch) it deals nothing of the next epoch until
`open_epoch` is called. The length is asked for at the start of every epoch.

`StreamSchedule` is for generators: each worker (a *lane*) has a stream of its own, and tickets go round the lanes. A
lane that has ended answers its remaining tickets with "end" and gets no more; as the others keep going round in the
same order, the order of delivery does not depend on when the end was noticed.

An order that a sampler gives is drawn as it is dealt: `DrawnSchedule` has batches of it from a `Draw`, which looks one
batch ahead, so that the last batch of an epoch is known as the last when it is dealt. What was drawn is kept until it
was handed out, because an interrupt may have the work in flight dealt again, and a sampler with random numbers of its
own would give others.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from mpqueue.engine.seeds import permutation


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
        lane: The worker that it belongs to, -1 for any.
        listed: The samples of the batch, if they do not follow from the unit.
    """

    number: int
    epoch: int
    position: int
    unit: int
    lane: int = -1
    listed: Listed | None = None


class EpochSchedule:
    """Positions of a Sequence, epoch after epoch.

    Args:
        length_of: Asked at the start of each epoch: the number of batches, None for endless.
        seed: For the shuffled order.
        shuffle: A new permutation per epoch.
        barrier: Deal nothing of the next epoch before `open_epoch`.
        order_of: Gives the indices of an epoch instead, by (epoch, length of the source); their number is the number
            of its batches. None: ascending.

    Attributes:
        lengths: The number of batches of each epoch that was opened and is not handed out, None if it is endless.
        asked: The length of the source for each of these epochs, as it was when the epoch was opened.
        orders: The indices of each of these epochs, None if they ascend.
        last_epoch: Nothing of later epochs is dealt; None: there is no such bound.
    """

    def __init__(
        self,
        length_of: Callable[[], int | None],
        seed: int,
        *,
        shuffle: bool = False,
        barrier: bool = False,
        order_of: Callable[[int, int], Any] | None = None,
    ) -> None:
        self._length_of, self._seed, self._shuffle, self._barrier = length_of, seed, shuffle, barrier
        self._order_of = order_of
        self.next_number = 0
        self._skip: frozenset[int] = frozenset()
        self.epoch, self._position = 0, 0
        self._length: int | None = None  # of the epoch that is dealt
        self.lengths: dict[int, int | None] = {}  # of the epochs that are not all handed out
        self.asked: dict[int, int | None] = {}
        self.orders: dict[int, Any] = {}
        self._is_open = False
        self.last_epoch: int | None = None
        self._opens_until = -1  # with a barrier: the last epoch that may be dealt

    def start_at(self, epoch: int, position: int = 0, skip: Iterable[int] = ()) -> None:
        """Go to a place in the order; positions in ``skip`` are left out. Opens that epoch, if it is to be dealt.

        Raises:
            ValueError: The source has no such position, or an impossible length.
        """
        self.epoch, self._position, self._skip = epoch, position, frozenset(skip)
        self._opens_until = epoch
        self._forget_all()
        self._is_open = False
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
        """Return True if an epoch was opened with another length than the source has now.

        Raises:
            Exception: What the source's length raised.
        """
        if not self.asked:
            return False
        length = self._length_of()
        return any(asked != length for asked in self.asked.values())

    def forget(self, epoch: int) -> None:
        """An epoch is over and its length will not be asked for again."""
        self.lengths.pop(epoch, None)
        self.asked.pop(epoch, None)
        self.orders.pop(epoch, None)

    def _forget_all(self) -> None:
        self.lengths.clear()
        self.asked.clear()
        self.orders.clear()

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Up to so many of the next tickets, of one epoch; none behind a barrier.

        Raises:
            Exception: What the source's length, or order, raised; the next call asks for it again.
        """
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
        units = positions if order is None else [int(order[position]) for position in positions]
        return list(map(Ticket, itertools.count(number), itertools.repeat(self.epoch), positions, units))

    def _next_positions(self, limit: int) -> Sequence[int]:
        start = self._position
        stop = start + limit if self._length is None else min(start + limit, self._length)
        while stop in self._skip:  # an epoch whose last positions are left out ends with the one before them
            stop += 1
        self._position = stop
        if self._skip:
            return [position for position in range(start, stop) if position not in self._skip]
        return range(start, stop)

    def deal_failure(self) -> Ticket:
        """A ticket for what cannot be dealt: it has a place in the order, and none in an epoch."""
        self.next_number += 1
        return Ticket(self.next_number - 1, self.epoch, -1, -1)

    def _leave_finished_epoch(self) -> bool:
        if not self._is_open or self._length is None or self._position < self._length:
            return False
        self._is_open = False
        self.epoch, self._position, self._skip = self.epoch + 1, 0, frozenset()
        return True

    def _may_open(self) -> bool:
        if self._barrier and self.epoch > self._opens_until:
            return False
        return self.last_epoch is None or self.epoch <= self.last_epoch

    def _open(self) -> None:
        asked = length = self._length_of()
        order = None
        if self._order_of is not None and length is not None:
            order = self._order_of(self.epoch, length)
            length = length if order is None else len(order)
        elif self._shuffle and length is not None:
            order = permutation(self._seed, self.epoch, length)
        self.orders[self.epoch], self.asked[self.epoch] = order, asked
        self._length = self.lengths[self.epoch] = length
        self._is_open = True


class Drawn(NamedTuple):
    """A batch that a sampler gave.

    Attributes:
        unit: Of the ticket.
        listed: Its samples; None: the unit says it.
        mark: Stands for all that the sampler gave before it in this epoch.
    """

    unit: int
    listed: Listed | None = None
    mark: int = 0


class Draw(Protocol):
    """The batches of one epoch, drawn one after the other."""

    def take(self, limit: int) -> list[Drawn]:
        """Return up to so many of the next ones.

        Raises:
            Exception: What the sampler raised.
        """
        ...

    @property
    def has_ended(self) -> bool:
        """True if the last one was taken."""
        ...

    @property
    def mark(self) -> int | None:
        """Stands for all that was taken; None: nobody knows."""
        ...


class Consumer(Protocol):
    """Progress of the consumer: a `mpqueue.engine.progress.Progress`."""

    epoch: int
    position: int


class DrawnSchedule(EpochSchedule):
    """Positions of an order that is drawn as it is dealt, epoch after epoch.

    Args:
        draw: Begins to draw an epoch.
        barrier: Deal nothing of the next epoch before `open_epoch`.

    Attributes:
        consumer: What it has taken is not kept any longer; None: all is kept.
    """

    def __init__(self, draw: Callable[[int], Draw], *, barrier: bool = False) -> None:
        super().__init__(lambda: None, 0, barrier=barrier)
        self.consumer: Consumer | None = None
        self._begin_draw = draw
        self._draw: Draw | None = None  # None: it broke off, or nothing was drawn
        self._drawn_epoch = -1
        self._kept: dict[int, Drawn] = {}  # by position
        self._num_drawn = 0

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
            if self._position == self._num_drawn:
                self._draw_more(limit)
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
        is_kept = self._position in self._kept or self._position == self._num_drawn
        if self._draw is None or self.epoch != self._drawn_epoch or not is_kept:
            self._draw_anew()
        self._is_open = True
        self._length = self.lengths[self.epoch] = None
        self._note_end()

    def _draw_anew(self) -> None:
        self._draw = None
        self._kept.clear()
        draw = self._begin_draw(self.epoch)
        left = self._position
        while left and not draw.has_ended:
            left -= len(draw.take(min(left, 1024)))
        if left:
            raise ValueError(
                f"position {self._position} does not exist: the sampler gave {self._position - left} batches for "
                f"epoch {self.epoch}"
            )
        self._drawn_epoch, self._num_drawn, self._draw = self.epoch, self._position, draw

    def _draw_more(self, limit: int) -> None:
        # An exception, an interrupt too, ends a sampler that is a generator function: then it is begun anew.
        draw, self._draw, self._is_open = self._draw, None, False
        assert draw is not None
        for drawn in draw.take(limit):
            self._kept[self._num_drawn] = drawn
            self._num_drawn += 1
        self._draw, self._is_open = draw, True
        self._note_end()

    def _note_end(self) -> None:
        if self._draw is not None and self._draw.has_ended:
            self._length = self.lengths[self.epoch] = self._num_drawn

    def _forget_handed_out(self) -> None:
        """Drop what was handed out: the positions up to the consumer's are the oldest."""
        if self.consumer is None or self.consumer.epoch != self._drawn_epoch:
            return
        for position in list(itertools.takewhile(self.consumer.position.__gt__, self._kept)):
            del self._kept[position]


class StreamSchedule:
    """Elements of one stream per worker, round the workers."""

    def __init__(self, num_lanes: int) -> None:
        self.num_lanes = num_lanes
        self.next_number = 0
        self._next = 0
        self.epoch = 0
        self.lengths: dict[int, int | None] = {}  # streams have none
        self._live: set[int] = set()
        self._counts: list[int] = []

    def start_at(self, epoch: int, counts: Iterable[int] | None = None, lane: int = 0) -> None:
        """Begin an epoch; ``counts`` says how many elements of each lane were delivered, ``lane`` whose turn it is."""
        self.epoch, self._next = epoch, lane
        self._live = set(range(self.num_lanes))
        self._counts = list(counts or [0] * self.num_lanes)

    def end_lane(self, lane: int) -> None:
        """A lane's stream has ended: no more tickets for it."""
        self._live.discard(lane)

    def deal(self, limit: int = 1) -> list[Ticket]:
        """Up to so many of the next tickets, none if all lanes have ended."""
        dealt: list[Ticket] = []
        while self._live and len(dealt) < limit:
            while self._next not in self._live:
                self._next = (self._next + 1) % self.num_lanes
            lane = self._next
            self._next = (lane + 1) % self.num_lanes
            dealt.append(Ticket(self.next_number, self.epoch, self._counts[lane], self._counts[lane], lane))
            self._counts[lane] += 1
            self.next_number += 1
        return dealt
