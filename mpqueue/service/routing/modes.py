"""The modes of a server: which consumer gets which batch, and the behavior that follows from it. Pure.

    name of the mode     with `world`     without       each batch goes to
    "split"              Ranked           FirstCome     one consumer
    "broadcast"          Broadcast        Broadcast     all consumers

`mode_of` looks up the mode, once for a server, and for a consumer from the `Welcome`. The other modules call methods of
the mode and never compare its name. So a new mode is a subclass of `Mode` and a row in `MODES`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from mpqueue.service.protocol.handshake import Join, Resume
from mpqueue.service.protocol.refusals import Occupied, Refused
from mpqueue.service.routing.routing import (
    BroadcastRouting,
    FirstComeRouting,
    Group,
    Hold,
    RankedRouting,
    Routing,
    Seat,
    Turns,
)
from mpqueue.transport.records import ProtocolError


class Arrival(NamedTuple):
    """A consumer that requests a seat, and the state of the server at that moment.

    Attributes:
        rank: The requested rank; None if it requests none.
        join: When a consumer that arrives in the middle of an epoch starts.
        resume: The state of its earlier attachment; None if it had none.
        epoch: The epoch of the group.
        frontier: The next position that the stream yields.
        is_midway: A part of the epoch was delivered already, by this server or by the previous one.
        pid: Its process.
    """

    rank: int | None
    join: Join
    resume: Resume | None
    epoch: int
    frontier: int
    is_midway: bool
    pid: int


class Frontier:
    """The taken batches of an epoch, and the first position that is still needed, if one consumer takes each batch.

    Args:
        start: All positions before this one were taken.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self._ahead: set[int] = set()

    def add(self, position: int, who: int) -> None:  # any consumer may have taken it
        """Add a batch that a rank or a consumer has taken."""
        if position < self._start:
            return
        # Consumers differ in speed: some have taken batches after the untaken ones of slower consumers.
        self._ahead.add(position)
        # Move the frontier past all consecutive taken positions, so that the set contains only the gaps between
        # consumers.
        while self._start in self._ahead:
            self._ahead.remove(self._start)
            self._start += 1

    def position(self, present: Iterable[int]) -> int:  # consumers that have left count, too
        """Return the first needed position, for the consumers that are attached or may attach again."""
        return self._start

    def ahead(self) -> tuple[int, ...]:
        """Return the positions after the frontier that are not needed anymore, in ascending order."""
        return tuple(sorted(self._ahead))


class SlowestConsumer(Frontier):
    """The frontier if all consumers take each batch. The core drops those a consumer had already."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self._latest: dict[int, int] = {}

    def add(self, position: int, who: int) -> None:
        """Add a batch that a consumer has taken."""
        self._latest[who] = max(position, self._latest.get(who, -1))

    def position(self, present: Iterable[int]) -> int:
        """Return the first position that one of these consumers has not taken."""
        # Only consumers that are attached or may attach again count: one that left would hold the frontier back
        # forever.
        return max(self._start, min((self._latest.get(who, -1) + 1 for who in present), default=0))


@dataclass(frozen=True)
class Mode(ABC):
    """The behavior of a server that follows from its options ``mode`` and ``world``.

    The defaults suit a mode without ranks where a batch belongs to its consumers when it is routed.

    Attributes:
        name: Name of the mode, as in the options and on the wire.
        world: Number of ranks or consumers, as in the options; None if it was not given.
        routing: The class that chooses the seat or seats of each batch.
        allows_slow: A slow consumer may miss batches or be detached, because the others have its batches.
        epochs_behind: How many epochs a consumer that resumes may lag the group.
        opens_without: A restarted server opens an epoch before the consumers of the previous one are attached again.
    """

    name: str
    world: int | None = None

    routing: ClassVar[type[Routing]]
    allows_slow: ClassVar[bool] = False
    # An epoch that is over was taken completely, though some consumers may not have been notified.
    epochs_behind: ClassVar[float] = 1
    # Only the survivors know the batches that they took last. Another consumer could be offered one of those, and it
    # would be taken twice.
    opens_without: ClassVar[bool] = False

    # -- The stream

    @property
    def num_ranks(self) -> int:
        """Number of ranks, with seats that outlive their consumers; 0 if each consumer gets a new seat."""
        return 0

    @property
    def num_shares(self) -> int:
        """Number of equal shares of an epoch, which is the distance between two positions of one share."""
        return self.num_ranks or 1

    def length(self, total: int) -> int | None:
        """Return the number of batches per epoch for each consumer, out of this total; None if it is unknown."""
        # All ranks must run the same number of steps: in distributed training, a rank with an additional step would
        # wait for the others forever.
        return total // self.num_shares

    # -- The group

    def make_group(self, window: int, epoch: int, had: Iterable[int]) -> Group:
        """Return a new group for this epoch; `had` counts the batches that each rank has taken of it."""
        return Group(window, epoch, num_ranks=self.num_ranks, had=had)

    @abstractmethod
    def seat_for(self, arrival: Arrival, group: Group) -> Seat:
        """Return the seat of a consumer that arrives.

        Raises:
            Refused: The group has no seat for it.
            Occupied: Its rank has a consumer.
        """

    def may_open(self, group: Group, *, has_opened: bool) -> bool:  # only a broadcast waits
        """Return whether the next epoch may open once a consumer has started its loop.

        Args:
            group: The consumers that are attached.
            has_opened: An epoch was open before.
        """
        return True

    def is_abandoned(self, group: Group, epoch: int) -> bool:  # the next consumer takes the rest
        """Return whether the running epoch has no consumers left, after one without a rank has left."""
        return False

    # -- After a restart of the server

    def count_at(self, position: int) -> int:
        """Return how many batches of an epoch a consumer has had if this position was its latest one."""
        return position // self.num_shares + 1

    def _drop_taken(self, seat: Seat, resume: Resume, let_go: Hold) -> None:
        """Continue the seat after the batches that its consumer has taken."""
        seat.resume_at(resume.count)
        # These were routed to the seat while it had no consumer.
        while seat.queue and self.count_at(seat.queue[0].position) <= resume.count:
            let_go(seat.queue.popleft(), seat.holder)

    @abstractmethod
    def resume(self, seat: Seat, resume: Resume, frontier: int, let_go: Hold) -> Collection[int]:
        """Continue a consumer in the running epoch after the batches that it has taken.

        Args:
            seat: Its new seat.
            resume: The state of its earlier attachment.
            frontier: The next position that the stream yields.
            let_go: Removes a holder of a batch.

        Returns: Positions that the stream may still yield and that must not be offered.
        """

    def await_back(self, group: Group, pid: int, epoch: int, taken: Iterable[Collection[int]]) -> None:  # noqa: B027
        """Keep what consumers of the previous server need until they are back.

        Args:
            group: The consumers.
            pid: Their process.
            epoch: The epoch.
            taken: For each of them, the positions that it has taken at least.
        """

    def make_frontier(self, start: int) -> Frontier:
        """Return a new frontier: a journal resumes there, and a checkpoint must not be after it."""
        return Frontier(start)


class Ranked(Mode):
    """Batch i goes to rank i mod world, and all ranks get the same number of batches."""

    world: int
    routing: ClassVar[type[Routing]] = RankedRouting
    opens_without: ClassVar[bool] = True  # no other consumer can get the batches of a rank, or end its epoch

    @property
    def num_ranks(self) -> int:
        """The number of ranks."""
        return self.world

    def seat_for(self, arrival: Arrival, group: Group) -> Seat:
        """Return the seat of the rank."""
        rank = arrival.rank
        if rank is None or not 0 <= rank < self.world:
            raise Refused(f"rank must be 0 to {self.world - 1}, got {rank}: this server splits batches among ranks")
        # Two consumers of one rank would each get only a part of its batches, and their training would diverge.
        if group.seats[rank].consumer:
            raise Occupied
        return group.seats[rank]

    def resume(self, seat: Seat, resume: Resume, frontier: int, let_go: Hold) -> Collection[int]:
        """Drop the batches of the rank that its consumer has taken."""
        self._drop_taken(seat, resume, let_go)
        return ()


class FirstCome(Mode):
    """Each batch goes to one consumer: the first one that requests it."""

    routing: ClassVar[type[Routing]] = FirstComeRouting

    def length(self, total: int) -> int | None:
        """Return None: how many batches a consumer gets depends on the others."""
        return None

    def make_group(self, window: int, epoch: int, had: Iterable[int]) -> Group:
        """Return a group with seats that take turns."""
        # All batches are shared until a consumer requests one, so the turns decide who gets the next one.
        return Group(window, epoch, turns=Turns(window))

    def seat_for(self, arrival: Arrival, group: Group) -> Seat:
        """Return a new seat, which takes part in the running epoch."""
        if arrival.rank is not None:
            raise Refused(
                f"rank must be None for a server without ranks, got {arrival.rank}: leave it out, or start the "
                "server with world=N"
            )
        # Earlier batches were taken by other consumers, so the new one has missed none.
        return group.add(arrival.epoch)

    def resume(self, seat: Seat, resume: Resume, frontier: int, let_go: Hold) -> Collection[int]:
        """Return the positions that the consumer has taken."""
        # A batch belongs to no seat before it is offered, so compare the next batches of the stream with these.
        return resume.taken


class Broadcast(Mode):
    """Each batch goes to all consumers."""

    routing: ClassVar[type[Routing]] = BroadcastRouting
    allows_slow: ClassVar[bool] = True
    epochs_behind: ClassVar[float] = math.inf  # a consumer that has missed batches begins with the next epoch
    opens_without: ClassVar[bool] = True  # the seats of survivors are kept

    def await_back(self, group: Group, pid: int, epoch: int, taken: Iterable[Collection[int]]) -> None:
        """Keep a seat for each of these consumers, which gets their batches."""
        # The others may need a batch that a survivor has, and it may wait for them, in an all-reduce: then it is not
        # back before they have got the batch.
        group.awaited[pid] = [group.add(epoch, had=max(positions, default=-1) + 1) for positions in taken]

    def seat_for(self, arrival: Arrival, group: Group) -> Seat:
        """Return the seat that was kept for it, or a new one.

        `join` decides with which batch a new one begins in the middle of an epoch.
        """
        join, resume, epoch = arrival.join, arrival.resume, arrival.epoch
        if resume is not None:
            # A consumer that lags has missed only the end of the epoch before, and no batch of this one.
            seat = group.take_awaited(arrival.pid, max((resume.epoch, resume.count), (epoch, 0)))
            if seat is not None:
                return seat
        # The others have the batches in between, and a server computes each batch once.
        has_missed = resume is not None and (resume.epoch, resume.count) < (epoch, arrival.frontier)
        # The running epoch does not wait for this seat, which takes part from the next one.
        takes_next = arrival.is_midway and (join == "next" or has_missed)
        return group.add(epoch + takes_next)

    def may_open(self, group: Group, *, has_opened: bool) -> bool:
        """Return whether the first group is complete."""
        # Only the first epoch waits: a later one would wait forever for a consumer that has left.
        return has_opened or len(group.by_consumer) >= (self.world or 1)

    def is_abandoned(self, group: Group, epoch: int) -> bool:
        """Return whether no consumer takes part in the epoch."""
        # Computing the rest of an epoch without consumers would only delay the next one.
        return not any(seat.epoch == epoch for seat in group.seats)

    def resume(self, seat: Seat, resume: Resume, frontier: int, let_go: Hold) -> Collection[int]:
        """Continue after the batches that it has taken, unless it begins with the next epoch."""
        if seat.epoch == resume.epoch:
            self._drop_taken(seat, resume, let_go)
        return ()

    def make_frontier(self, start: int) -> Frontier:
        """Return the frontier of the slowest consumer."""
        return SlowestConsumer(start)


# For each name of the option `mode`: the class with `world`, and the class without.
MODES: dict[str, tuple[type[Mode], type[Mode]]] = {
    "split": (Ranked, FirstCome),
    "broadcast": (Broadcast, Broadcast),
}


def mode_of(name: str, world: int | None) -> Mode:
    """Return the mode of these options."""
    # For a split, `world` means ranks with equal shares. Without it, consumers may attach and leave at any time.
    if name not in MODES:  # a consumer receives it from the server
        raise ProtocolError(f"expected one of {', '.join(map(repr, MODES))}, got {name!r}")
    with_world, without = MODES[name]
    return without(name) if world is None else with_world(name, int(world))
