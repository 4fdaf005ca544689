"""The places of a group, one for each of its consumers, and the batches that belong to each. Pure.

    queue --offer--> untaken --ASK--> taken
      ^                 |
      +---- its consumer is gone, or does not ask while another one waits

A *seat* is what a batch is dealt to: a rank, or one consumer of a group without ranks. A rank's seat outlives its
consumer: what that had not taken waits for the one that comes in its place.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol


class SeatBatch(Protocol):
    """A batch in a slot, or the exception in the place of one, as the core deals it."""

    @property
    def epoch(self) -> int:
        """Return its epoch, from 0."""
        ...

    @property
    def position(self) -> int:
        """Return its place in the epoch, over all consumers; below 0: it has none, and is for everybody."""
        ...

    @property
    def turn(self) -> int:
        """Return the turn of its slot; 0: it has none."""
        ...

    @property
    def is_extra(self) -> bool:
        """Return True if it was computed again, for one late consumer alone."""
        ...

    @property
    def is_left_out(self) -> bool:
        """Return True if it was computed again, and is to be left out: nobody is to hear of it."""
        ...


@dataclass
class Had:
    """Counts of the batches of an epoch that a seat has taken.

    Attributes:
        num: All of them.
        before: Of these, those that another server of this stream has given it: its first ones.
    """

    num: int = 0
    before: int = 0


class Seat:
    """One place of a group.

    Args:
        number: By which it holds the slots of what was not taken; below 0, not to be taken for a consumer. Seats that
            have nothing of their own share one.
        rank: Its rank, None in a group without ranks.
        epoch: The epoch that its consumer's next loop is.

    Attributes:
        number, rank, epoch: As given; the epoch advances when all of it was taken.
        consumer: Who sits here; 0: nobody.
        has_begun: The consumer's loop over the epoch has begun.
        has_asked: It has asked for a batch since: the first untaken one may be open.
        is_idle: What it had not asked for was recalled: it is offered nothing before it asks.
        has_all: No more of the epoch will be dealt to it.
        has_end: Its consumer was told so, behind the last batch.
        queue: Its batches that were not offered to its consumer.
        untaken: Those that were, in this order.
        num_taken: Offers that this consumer has taken, since it came.
        had: Counts the batches of the epoch that this seat has taken.
        num_recalled: Offers that were recalled from it since it came.
        num_skipped: Batches that it did not get because it was slow,
        num_told: and how many of them its consumer was told of.
        replay_at: The next position that is to be computed again for it; None: it has caught up.
        num_replaying: Positions that are being computed again.
        overdue_at: When the others are told that nobody has come in its consumer's place; None: nobody was lost.
    """

    def __init__(self, number: int, rank: int | None, epoch: int) -> None:
        self.number, self.rank, self.epoch = number, rank, epoch
        self.consumer = 0
        self.has_begun = self.has_all = self.has_end = self.has_asked = self.is_idle = False
        self.queue: deque[SeatBatch] = deque()
        self.untaken: deque[SeatBatch] = deque()
        self.had = Had()
        self.num_taken = self.num_recalled = self.num_skipped = self.num_told = self.num_replaying = 0
        self.replay_at: int | None = None
        self.overdue_at: float | None = None

    @property
    def load(self) -> int:
        """Batches that it has and has not taken."""
        return len(self.queue) + len(self.untaken)

    def sit(self, consumer: int) -> None:
        """A consumer comes."""
        self.consumer, self.num_taken, self.num_recalled, self.overdue_at = consumer, 0, 0, None
        self.has_begun = self.has_end = self.has_asked = self.is_idle = False

    def be_left(self) -> None:
        """Its consumer is gone: what that had not taken is to be offered again."""
        self.queue.extendleft(reversed(self.untaken))
        self.untaken.clear()
        self.consumer = 0
        self.has_begun = self.has_end = self.has_asked = self.is_idle = False

    def enter(self, epoch: int) -> None:
        """All of the epoch before was taken."""
        self.epoch, self.had, self.replay_at = epoch, Had(), None
        self.has_begun = self.has_all = self.has_end = self.has_asked = self.is_idle = False

    def __repr__(self) -> str:
        who = f"rank {self.rank}" if self.rank is not None else f"seat {-self.number}"
        return f"<{who}, consumer {self.consumer}, epoch {self.epoch}, {self.had.num} taken, {self.load} waiting>"
