"""Statistics of a server: the counters of its engine and of each consumer."""

import time
from dataclasses import dataclass, fields

from mpqueue.service.routing.core import Core
from mpqueue.service.serving.connections import Peer
from mpqueue.telemetry import verdict
from mpqueue.telemetry.counted import Rated
from mpqueue.telemetry.stats import Statistics


@dataclass(frozen=True)
class ServedConsumer(Rated):
    """The counters of a consumer, as seen by its server.

    Attributes:
        number: Id of the consumer, from 1; never reused.
        pid: Its process id.
        rank: Its rank; None without ranks.
        epoch: Its epoch.
        batches: Number of batches that it has taken since it attached.
        bytes: Bytes of the batches offered to it.
        wait_s: Total wait for offers, in seconds.
        behind: Number of batches assigned to it and not taken.
        leases: Number of slots that it may have views of.
        skipped: Number of batches that it missed because it was slow.
        recalled: Number of offers recalled for other consumers because it did not request them.
        holds_up: Whether other consumers wait for it.
        elapsed_s: Seconds since it attached.
    """

    number: int
    pid: int
    rank: int | None
    epoch: int
    batches: int
    bytes: int
    wait_s: float
    behind: int
    leases: int
    skipped: int
    recalled: int
    holds_up: bool
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class ServerStatistics(Statistics):
    """The counters of a server's engine, see `mpqueue.Statistics`, and of its consumers.

    Attributes:
        consumers: The attached consumers.
    """

    consumers: tuple[ServedConsumer, ...] = ()

    def __str__(self) -> str:
        return verdict.sentence(self, verdict.of_server)


def statistics_of(engine: Statistics, core: Core, peers: dict[int, Peer]) -> ServerStatistics:
    """Return the statistics of a server; from any thread."""
    # Take no lock, so that a monitoring thread never delays the server's loop. `list` copies the dict in one step.
    now = time.monotonic()
    holding_up = core.group.holding_up(core.epoch)
    consumers = []
    for consumer, seat in list(core.group.by_consumer.items()):
        peer = peers.get(consumer)
        if peer is None:  # the loop has removed it during this call
            continue
        # It may have taken batches that the core does not know about yet.
        new = min(max(0, peer.taken[0] - seat.num_taken), len(seat.untaken))
        consumers.append(
            ServedConsumer(
                consumer, peer.credentials.pid, seat.rank, seat.epoch, seat.num_taken + new, peer.num_bytes,
                peer.wait_s, seat.load - new, core.holders.count(consumer), seat.num_skipped, seat.num_recalled,
                seat in holding_up, now - peer.since,
            )
        )  # fmt: skip
    return ServerStatistics(
        **{field.name: getattr(engine, field.name) for field in fields(engine)}, consumers=tuple(consumers)
    )
