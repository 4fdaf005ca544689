"""The modes of a server: which consumer gets which batch, and everything that follows from that. Pure.

    name of the mode     with `world`     without       each batch goes to
    "split"              Ranked           FirstCome     one consumer
    "broadcast"          Broadcast        Broadcast     all consumers

`check_rules` looks up the mode of a server once, in `MODES`. A consumer does the same with the `Welcome`. The other
modules ask the mode and never compare its name. So a new mode is one subclass of `Mode`, and its row in `MODES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from mpqueue.service.handshake import Join, ModeName, Resume
from mpqueue.service.refusals import Occupied, Refused
from mpqueue.service.routing import (
    BroadcastRouting,
    FirstComeRouting,
    Group,
    Hold,
    RankedRouting,
    Routing,
    Seat,
    Turns,
)


class Arrival(NamedTuple):
    """A consumer that asks for a seat, and the state of the server at that moment.

    Attributes:
        rank: The rank that it asks for, None if it asks for none.
        join: When a consumer that arrives in the middle of an epoch begins.
        resume: Where its earlier attachment was, None if it had none.
        epoch: The epoch of the group.
        frontier: The next position that the stream yields.
        is_midway: A part of the epoch was given already, by this server or by the one before.
        can_replay: The stream can compute a position again.
    """

    rank: int | None
    join: Join
    resume: Resume | None
    epoch: int
    frontier: int
    is_midway: bool
    can_replay: bool


class RoutingTerms(NamedTuple):
    """The parts of a server that a `Routing` can use.

    Attributes:
        hold: Notes that a holder has a batch.
        let_go: Notes that a holder does not have a batch any more.
        slow: What happens to a slow consumer, as in `mpqueue.service.rules.Rules`.
        is_ordered: The stream yields the positions of an epoch in their order.
        epoch: Returns the epoch of the group.
        can_recompute: Returns whether batches of the running epoch can be computed again.
    """

    hold: Hold
    let_go: Hold
    slow: str
    is_ordered: bool
    epoch: Callable[[], int]
    can_recompute: Callable[[], bool]


class Frontier(ABC):
    """The batches of an epoch that were taken, and the first one that is still needed.

    Args:
        start: All positions before this one were taken.
    """

    def __init__(self, start: int) -> None:
        self._start = start

    @abstractmethod
    def add(self, position: int, who: int) -> None:
        """Note that a rank or a consumer has taken a batch."""

    @abstractmethod
    def position(self, present: Iterable[int]) -> int:
        """Return the first position that is needed, given the consumers that are attached or may come back."""

    def ahead(self) -> tuple[int, ...]:
        """Return the positions after the frontier that are not needed any more, in ascending order."""
        return ()


class FirstUntaken(Frontier):
    """The frontier where one consumer takes each batch."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self._ahead: set[int] = set()

    def add(self, position: int, who: int) -> None:  # noqa: ARG002 - any consumer may have taken it
        """Note that a batch was taken."""
        if position < self._start:
            return
        # Consumers differ in speed: some have taken batches that come after the untaken ones of others.
        self._ahead.add(position)
        while self._start in self._ahead:
            self._ahead.remove(self._start)
            self._start += 1

    def position(self, present: Iterable[int]) -> int:  # noqa: ARG002 - consumers that are gone count, too
        """Return the first position that no consumer has taken."""
        return self._start

    def ahead(self) -> tuple[int, ...]:
        """Return the positions after the frontier that were taken."""
        return tuple(sorted(self._ahead))


class SlowestConsumer(Frontier):
    """The frontier where each consumer takes each batch. The core drops the batches that the other consumers had."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self._latest: dict[int, int] = {}

    def add(self, position: int, who: int) -> None:
        """Note that a consumer has taken a batch."""
        self._latest[who] = max(position, self._latest.get(who, -1))

    def position(self, present: Iterable[int]) -> int:
        """Return the first position that one of these consumers has not taken."""
        return max(self._start, min((self._latest.get(who, -1) + 1 for who in present), default=0))


@dataclass(frozen=True)
class Mode(ABC):
    """The behaviour of a server that follows from its options ``mode`` and ``world``.

    The defaults suit a mode without ranks that gives each batch to one consumer, or to several when it is dealt.

    Attributes:
        name: The name of the mode, as in the options and on the wire.
        world: The number of ranks or of consumers, as in the options; None if it was not given.
        refused_slow: The values of the option ``slow`` that the mode refuses, each with its error message.
        epochs_behind: The number of epochs that a consumer that resumes may be behind the group.
        replays_missed: Batches that a consumer missed are computed again for it.
        can_join_late: A consumer may arrive late and get all batches of the running epoch (``join="replay"``).
    """

    name: ModeName
    world: int | None = None

    refused_slow: ClassVar[Mapping[str, str]] = {}
    epochs_behind: ClassVar[int] = 0
    replays_missed: ClassVar[bool] = False
    can_join_late: ClassVar[bool] = False

    # -- The stream

    @property
    def num_ranks(self) -> int:
        """The number of ranks, whose seats outlive their consumers; 0 if each consumer brings its own seat."""
        return 0

    @property
    def num_shares(self) -> int:
        """The number of equal shares of an epoch; the positions of one share have this distance."""
        return self.num_ranks or 1

    @abstractmethod
    def length(self, total: int) -> int | None:
        """Return the number of batches per epoch for each consumer, of this total; None if it is unknown."""

    # -- The group

    def make_group(self, window: int, epoch: int, had: Iterable[int]) -> Group:
        """Return a new group, which begins in this epoch; `had` counts the batches that each rank took of it."""
        return Group(window, epoch, num_ranks=self.num_ranks, had=had)

    @abstractmethod
    def make_routing(self, group: Group, terms: RoutingTerms) -> Routing:
        """Return the object that chooses the seat, or seats, of each batch."""

    @abstractmethod
    def seat_for(self, arrival: Arrival, group: Group) -> Seat:
        """Return the seat of a consumer that arrives.

        Raises:
            Refused: It has no place in this group.
            Occupied: Its rank has a consumer.
        """

    def may_open(self, group: Group, *, has_opened: bool) -> bool:  # noqa: ARG002 - only a broadcast waits
        """Return whether the next epoch may open once a consumer has begun its loop.

        Args:
            group: The consumers that are attached.
            has_opened: An epoch was open before.
        """
        return True

    def is_abandoned(self, group: Group, epoch: int) -> bool:  # noqa: ARG002 - the next consumer takes the rest
        """Return whether the rest of the running epoch is for no consumer, now that one without a rank has left."""
        return False

    # -- After a restart of the server

    @abstractmethod
    def count_at(self, position: int) -> int:
        """Return how many batches of an epoch a consumer has had if this position was its latest one."""

    @abstractmethod
    def resume(self, seat: Seat, resume: Resume, frontier: int, let_go: Hold) -> Collection[int]:
        """Have a consumer continue in the running epoch after the batches that it has taken.

        Args:
            seat: Its new seat.
            resume: Where its earlier attachment was.
            frontier: The next position that the stream yields.
            let_go: Notes that a holder does not have a batch any more.

        Returns: Positions that the stream may still yield, and that no consumer is to get.
        """

    def make_frontier(self, start: int) -> Frontier:
        """Return a new frontier: a journal resumes there, and a checkpoint may not lie after it."""
        return FirstUntaken(start)

    @abstractmethod
    def awaits_survivors(self, *, is_stream: bool, can_replay: bool) -> bool:
        """Return whether a restarted server waits for the consumers of the one before.

        Args:
            is_stream: The source is a stream, not a sequence.
            can_replay: The stream can compute a position again.
        """


_SLOW_ONLY_FOR_BROADCAST = {
    "skip": 'slow="skip" leaves out what others have: it is for mode="broadcast"',
    "detach": (
        'slow="detach" is for mode="broadcast". With "split" nobody waits for a slow consumer: without ranks the '
        "others get what it does not ask for, and each rank has batches that nobody else gets. One that says "
        "nothing is detached by lease_timeout=SECONDS"
    ),
}


class Ranked(Mode):
    """Batch i goes to rank i mod world, and all ranks get equally many."""

    world: int
    refused_slow: ClassVar[Mapping[str, str]] = _SLOW_ONLY_FOR_BROADCAST
    # An epoch that is over was taken completely, though some consumers may not have been notified.
    epochs_behind: ClassVar[int] = 1
    replays_missed: ClassVar[bool] = True

    @property
    def num_ranks(self) -> int:
        """The number of ranks."""
        return self.world

    def length(self, total: int) -> int | None:
        """Return the equal share of a rank."""
        return total // self.world

    def make_routing(self, group: Group, terms: RoutingTerms) -> Routing:
        """Return a routing with one seat for each rank."""
        return RankedRouting(
            group.seats, group.window, terms.hold, terms.let_go,
            is_ordered=terms.is_ordered, can_recompute=terms.can_recompute,
        )  # fmt: skip

    def seat_for(self, arrival: Arrival, group: Group) -> Seat:
        """Return the seat of the rank."""
        rank = arrival.rank
        if rank is None or not 0 <= rank < self.world:
            raise Refused(f"its batches are split among {self.world} ranks: attach with rank=0 to {self.world - 1}")
        if group.seats[rank].consumer:
            raise Occupied
        return group.seats[rank]

    def count_at(self, position: int) -> int:
        """Return the number of batches of a rank up to this position."""
        return position // self.world + 1

    def resume(self, seat: Seat, resume: Resume, frontier: int, let_go: Hold) -> Collection[int]:  # noqa: ARG002 - the routing knows it
        """Drop the batches of the rank that its consumer has taken."""
        seat.resume_at(resume.count)
        # These were dealt to the rank while it was away.
        while seat.queue and self.count_at(seat.queue[0].position) <= resume.count:
            let_go(seat.queue.popleft(), seat.number)
        if seat.replay_at is not None:
            assert seat.rank is not None
            seat.replay_at = max(seat.replay_at, resume.count * self.world + seat.rank)
        return ()

    def awaits_survivors(self, *, is_stream: bool, can_replay: bool) -> bool:  # noqa: ARG002 - holds for any source
        """Return False: each rank has its own batches, so no other consumer can get them."""
        return False


class FirstCome(Mode):
    """Each batch goes to one consumer: the one that comes first."""

    refused_slow: ClassVar[Mapping[str, str]] = _SLOW_ONLY_FOR_BROADCAST
    # An epoch that is over was taken completely, though some consumers may not have been notified.
    epochs_behind: ClassVar[int] = 1

    def length(self, total: int) -> int | None:  # noqa: ARG002 - how many of them a consumer gets is open
        """Return None: how many batches a consumer gets depends on the others."""
        return None

    def make_group(self, window: int, epoch: int, had: Iterable[int]) -> Group:  # noqa: ARG002 - there are no ranks
        """Return a group whose seats take turns."""
        return Group(window, epoch, turns=Turns(window))

    def make_routing(self, group: Group, terms: RoutingTerms) -> Routing:
        """Return a routing from a pool that all seats share."""
        assert group.turns is not None
        return FirstComeRouting(group.seats, group.window, terms.hold, terms.let_go, turns=group.turns)

    def seat_for(self, arrival: Arrival, group: Group) -> Seat:
        """Return a new seat, which takes part in the running epoch."""
        if arrival.rank is not None:
            raise Refused(
                f"it has no ranks, and you have rank={arrival.rank}: attach without, or start the server with world=N"
            )
        if arrival.join == "replay":
            raise Refused('join="replay" is for servers with mode="broadcast": here each batch goes to one consumer')
        # It takes part at once. The batches before were taken by others, so it has missed none.
        return group.add(arrival.epoch)

    def count_at(self, position: int) -> int:
        """Return the number of batches up to this position."""
        return position + 1

    def resume(self, seat: Seat, resume: Resume, frontier: int, let_go: Hold) -> Collection[int]:  # noqa: ARG002 - all share them
        """Return the positions that the consumer has taken."""
        # A batch belongs to no seat before it is offered: the next ones of the stream are compared with these.
        return resume.taken

    def awaits_survivors(self, *, is_stream: bool, can_replay: bool) -> bool:  # noqa: ARG002 - holds for any source
        """Return True: other consumers could be given the batches that a survivor has taken."""
        return True


class Broadcast(Mode):
    """Each batch goes to all consumers."""

    replays_missed: ClassVar[bool] = True
    can_join_late: ClassVar[bool] = True

    def length(self, total: int) -> int | None:
        """Return all batches of the epoch."""
        return total

    def make_routing(self, group: Group, terms: RoutingTerms) -> Routing:
        """Return a routing to all seats of the epoch."""
        return BroadcastRouting(
            group.seats, group.window, terms.hold, terms.let_go, skips=terms.slow == "skip", epoch=terms.epoch
        )

    def seat_for(self, arrival: Arrival, group: Group) -> Seat:
        """Return a new seat; `join` decides with which batch it begins in the middle of an epoch."""
        join, resume, epoch = arrival.join, arrival.resume, arrival.epoch
        if join == "replay" and not arrival.can_replay:
            raise Refused(
                'join="replay" computes again what you have missed, which its stream cannot: use "now" or "next"; or '
                "start the server with a source with an index or a stream in lanes (lanes=n), without ordered=False"
            )
        if resume is not None and not arrival.can_replay and resume.epoch == epoch and resume.count < arrival.frontier:
            raise Refused(
                f"you have had {resume.count} batches of epoch {resume.epoch} and the others {arrival.frontier}, and "
                'its stream cannot compute again what lies between: attach anew, with join="now" or "next"'
            )
        seat = group.add(epoch)
        if arrival.is_midway:
            if join == "next":
                seat.epoch = epoch + 1
            seat.replay_at = 0 if join == "replay" else None
        return seat

    def may_open(self, group: Group, *, has_opened: bool) -> bool:
        """Return whether the first group is complete."""
        # Only the first epoch waits: a later one would wait forever for a consumer that has left.
        return has_opened or len(group.by_consumer) >= (self.world or 1)

    def is_abandoned(self, group: Group, epoch: int) -> bool:
        """Return whether no consumer takes part in the epoch."""
        return not any(seat.epoch == epoch for seat in group.seats)

    def count_at(self, position: int) -> int:
        """Return the number of batches up to this position."""
        return position + 1

    def resume(self, seat: Seat, resume: Resume, frontier: int, let_go: Hold) -> Collection[int]:  # noqa: ARG002 - its seat is new
        """Have the batches computed again that the other consumers got in the meantime."""
        seat.resume_at(resume.count)
        if resume.count < frontier:
            seat.replay_at = resume.count
        return ()

    def make_frontier(self, start: int) -> Frontier:
        """Return the frontier of the slowest consumer."""
        return SlowestConsumer(start)

    def awaits_survivors(self, *, is_stream: bool, can_replay: bool) -> bool:
        """Return whether a survivor that comes later could not get what the others have taken, or only at a cost.

        An index is computed again for a late consumer. A replay of a stream takes a process: survivors that arrive in
        time share the server's own stream.
        """
        return is_stream or not can_replay


# For each name of the option `mode`: the class with `world`, and the class without.
MODES: dict[str, tuple[type[Mode], type[Mode]]] = {
    "split": (Ranked, FirstCome),
    "broadcast": (Broadcast, Broadcast),
}


def mode_of(name: ModeName, world: int | None) -> Mode:
    """Return the mode of these options.

    Raises:
        KeyError: There is no mode of this name.
    """
    with_world, without = MODES[name]
    return (without if world is None else with_world)(name, world)
