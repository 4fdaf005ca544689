"""Statistics of a server: its engine's, and each consumer's."""

import time
from dataclasses import dataclass, fields

from mpqueue.service.connections import Peer
from mpqueue.service.core import Core
from mpqueue.telemetry import verdict
from mpqueue.telemetry.stats import Rated, Statistics


@dataclass(frozen=True)
class ServedConsumer(Rated):
    """A consumer, as its server sees it.

    Attributes:
        number: Of the consumer, from 1; never used again.
        pid: Of its process.
        rank: None without ranks.
        epoch: The one in which it is.
        batches: That it has taken since it came.
        bytes: Of the batches that it was offered.
        wait_s: Seconds for which it has waited for an offer.
        behind: Batches that it was given and has not taken.
        leases: Slots that it may look at.
        skipped: Batches that it did not get because it was slow.
        recalled: Offers that were taken back, for others, because it did not ask for them.
        holds_up: Others wait for it.
        elapsed_s: Seconds since it came.
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
    """The counters of a server's engine, see `mpqueue.Statistics`, and its consumers.

    Attributes:
        consumers: Those that are attached.
    """

    consumers: tuple[ServedConsumer, ...] = ()

    def __str__(self) -> str:
        return verdict.of_server(self)


def statistics_of(engine: Statistics, core: Core, peers: dict[int, Peer]) -> ServerStatistics:
    """Return the statistics of a server; from any thread, without a lock."""
    now = time.monotonic()
    holding_up = core.group.holding_up(core.epoch)
    consumers = [
        ServedConsumer(
            number, peers[number].credentials.pid, seat.rank, seat.epoch, seat.num_taken, peers[number].num_bytes,
            peers[number].wait_s, seat.load, core.holders.count(number), seat.num_skipped, seat.num_recalled,
            seat in holding_up, now - peers[number].since,
        )
        for number, seat in list(core.group.by_consumer.items())
        if number in peers
    ]  # fmt: skip
    return ServerStatistics(
        **{field.name: getattr(engine, field.name) for field in fields(engine)}, consumers=tuple(consumers)
    )
