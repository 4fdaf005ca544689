"""A server without sockets and processes: the real core with a scripted stream and scripted consumers."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from mpqueue.service.protocol.handshake import Hello
from mpqueue.service.protocol.records import DETACHED
from mpqueue.service.protocol.refusals import Occupied, Refused
from mpqueue.service.routing.core import Core
from mpqueue.service.routing.modes import mode_of
from mpqueue.service.routing.rules import Rules


def rules_of(*, mode: Any = "split", world: int | None = None, **others: Any) -> Rules:
    """Return the rules of a server with these options."""
    return Rules(mode=mode_of(mode, world), **others)


@dataclass(frozen=True)
class BatchHandle:
    """A batch of the scripted stream."""

    epoch: int
    position: int
    turn: int


@dataclass
class Consumer:
    """A consumer that takes its offers in order.

    Attributes:
        inbox: Offers and ends that it has not processed.
        current: The batch that was returned last, while the next one has not been requested.
        views: Turns of batches that it still uses.
        taken: Batches that it has taken, as (epoch, position).
    """

    id: int
    rank: int | None
    epoch: int
    inbox: deque[Any] = field(default_factory=deque)
    current: BatchHandle | None = None
    views: set[int] = field(default_factory=set)
    taken: list[tuple[int, int]] = field(default_factory=list)
    num_taken: int = 0
    num_missed: int = 0
    is_looping: bool = False
    cut: tuple[int, str] | None = None
    counts: list[int] = field(default_factory=list)


class Simulation:
    """The environment of the core, with all consumers."""

    def __init__(
        self, rules: Rules, lengths: list[int], *, known: bool = True, order: list[int] | None = None, **kwargs: Any
    ) -> None:
        self.lengths, self.known = lengths, known
        self.order = order  # order of arrival of the positions of an epoch; None: ascending
        self.now = 0.0
        self.consumers: dict[int, Consumer] = {}
        self.freed: set[int] = set()
        self.opened: int | None = None
        self.position = 0
        self.finished: list[int] = []
        self.abandoned: list[int] = []
        self.noted: dict[int, Counter[int]] = defaultdict(Counter)
        self.num_turns = 0
        self.core = Core(rules, self, **kwargs)

    # Requests of the core.

    def offer(self, consumer: int, offer_id: int, batch: Any) -> None:
        it = self.consumers[consumer]
        assert offer_id == it.num_taken + (it.current is not None) + sum(isinstance(x, tuple) for x in it.inbox) + 1
        it.inbox.append((batch,))

    def withdraw(self, consumer: int, batch: Any, *, has_more: bool) -> None:
        """Ignore the request, because no progress is drawn or counted here."""

    def miss(self, consumer: int, count: int) -> None:
        assert count != self.consumers[consumer].num_missed
        self.consumers[consumer].num_missed = count

    def end(self, consumer: int, epoch: int, count: int) -> None:
        self.consumers[consumer].inbox.append([epoch, count])

    def cut(self, consumer: int, flag: int, text: str) -> None:
        self.consumers[consumer].cut = flag, text

    def detach(self, consumers: dict[int, str]) -> None:
        """Disconnect consumers as the event loop does."""
        for consumer, why in consumers.items():
            self.cut(consumer, DETACHED, why)
            self.core.leave(consumer, self.now, died=True)

    @property
    def holders(self) -> dict[int, set[int]]:
        """Return the holders of each turn."""
        return self.core.holders.by_turn

    def share(self, batch: Any) -> None:
        assert batch.turn not in self.freed

    def free(self, batch: Any) -> None:
        self.freed.add(batch.turn)
        for it in self.consumers.values():
            assert batch.turn not in it.views, "a slot that a consumer still uses was freed"

    def open_epoch(self, epoch: int) -> int | None:
        assert self.opened is None
        self.opened, self.position = epoch, self.core.frontier
        return self.length(epoch) if self.known else None

    def finish_epoch(self, epoch: int) -> None:
        assert self.opened == epoch
        self.opened = None
        self.finished.append(epoch)

    def abandon(self, epoch: int) -> None:
        assert self.opened == epoch
        self.opened = None
        self.abandoned.append(epoch)

    def note_taken(self, seat: Any, batch: Any) -> None:
        self.noted[batch.epoch][batch.position] += 1

    # Events.

    def length(self, epoch: int) -> int:
        return self.lengths[epoch % len(self.lengths)]

    def attach(self, consumer: int, rank: int | None = None, join: Any = "next") -> bool:
        it = Consumer(consumer, rank, 0)
        self.consumers[consumer] = it
        try:
            seat = self.core.attach(consumer, Hello(rank=rank, join=join), now=self.now)
        except (Occupied, Refused):
            del self.consumers[consumer]
            return False
        it.epoch = seat.epoch
        return True

    def give(self) -> bool:
        """Deliver one batch of the stream, or the end; return False if neither is ready."""
        if not self.core.wants_batch():
            return False
        assert self.opened is not None
        if self.position == self.length(self.opened):
            self.core.ended()
            return True
        self.num_turns += 1
        position = self.position if self.order is None else self.order[self.position]
        handle = BatchHandle(self.opened, position, self.num_turns)
        self.position += 1
        self.core.arrived(handle)
        if self.opened is not None and self.opened == handle.epoch and self.position == self.length(handle.epoch):
            self.core.ended()
        return True

    def next(self, consumer: int) -> bool:
        """Make a consumer request its next batch; return False if no batch is ready."""
        it = self.consumers[consumer]
        if it.cut:
            return False
        if not it.is_looping:
            it.is_looping = True
            self.core.begin(consumer, it.epoch, self.now)
        if it.current is not None:
            it.num_taken += 1
            it.taken.append((it.current.epoch, it.current.position))
            it.current = None
        self.core.ask(consumer, it.num_taken, (), self.now)
        if not it.inbox or it.cut:
            return False
        got = it.inbox.popleft()
        if isinstance(got, list):
            it.is_looping, it.epoch = False, got[0] + 1
            it.counts.append(got[1])
            return True
        (it.current,) = got
        it.views.add(it.current.turn)
        assert it.current.turn not in self.freed
        return True

    def release(self, consumer: int, turn: int) -> None:
        it = self.consumers[consumer]
        it.views.remove(turn)
        self.core.ask(consumer, it.num_taken, (turn,), self.now)

    def leave(self, consumer: int, *, died: bool) -> Consumer:
        it = self.consumers[consumer]
        self.core.leave(consumer, self.now, died=died)
        it.views.clear()
        del self.consumers[consumer]
        self.core.holders.close(consumer)
        return it

    def begin(self, *consumers: int) -> None:
        """Begin the loops of these consumers, which take all batches that they can."""
        for consumer in consumers:
            self.next(consumer)
        self.settle(*consumers)

    def settle(self, *consumers: int) -> None:
        """Make these consumers take all batches that they can in their current loops."""
        moves = True
        while moves:
            moves = self.give()
            for consumer in consumers:
                while self.consumers[consumer].is_looping and self.next(consumer):
                    moves = True
