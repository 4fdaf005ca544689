"""Consumers in a server's timeline: how long each batch took, from its offer until it was taken.

    offer --> [ batch 7 ][ batch 9 ]   [ batch 10 ]
                         ^`ASK`       ^`ASK`  idle: it has no offers

A batch starts when the consumer has finished the previous one, or at its offer if the consumer was idle. As for
workers, batches that take longer than 5 ms are all drawn, and shorter ones are sampled.
"""

from weakref import WeakKeyDictionary

from mpqueue.service.routing.seat_batches import SeatBatch
from mpqueue.service.serving.connections import Peer
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.timeline import Timeline


class ConsumerRows:
    """The rows of consumers in the timeline of their server.

    Args:
        timeline: The timeline of the server's engine.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._since: WeakKeyDictionary[Peer, int] = WeakKeyDictionary()  # start of the current batch
        self._drawn: WeakKeyDictionary[Peer, int] = WeakKeyDictionary()  # end of the latest drawn batch

    def offer(self, peer: Peer) -> None:
        """Record that a consumer is offered a batch."""
        if peer not in self._drawn:
            # A row per consumer, added with its first batch.
            self._timeline.add_consumer(peer.id, f"consumer {peer.id} (process {peer.credentials.pid})")
            self._drawn[peer] = 0
        # A consumer with earlier offers is still busy with those.
        self._since.setdefault(peer, clock_ns())

    def withdraw(self, peer: Peer) -> None:
        """Record that all offers of a consumer were recalled."""
        self._since.pop(peer, None)

    def take(self, peer: Peer, batch: SeatBatch, *, has_more: bool) -> None:
        """Record that a consumer has taken a batch; ``has_more``: it has other offers."""
        now, began = clock_ns(), self._since.pop(peer, 0)
        if has_more:
            self._since[peer] = now
        # A fast consumer would fill the trace, so at most one batch per interval is drawn.
        if began and now - self._drawn[peer] >= EVERY_NS:
            self._drawn[peer] = now
            self._timeline.use(peer.id, (batch.epoch, batch.position), began, now)
