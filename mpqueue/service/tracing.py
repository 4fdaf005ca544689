"""The rows of consumers in the timeline of a server: from its offer to the word that a batch is taken.

    offer --> [ batch 7 ][ batch 9 ]   [ batch 10 ]
                         ^ASK       ^ASK  idle: it was offered nothing

A consumer has a batch from the moment in which it had nothing else to do. As of workers, those that take longer than
5 ms are all drawn, and of faster ones a sample.
"""

from weakref import WeakKeyDictionary

from mpqueue.service.connections import Peer
from mpqueue.service.routing import SeatBatch
from mpqueue.telemetry.clock import EVERY_NS, clock_ns
from mpqueue.telemetry.timeline import Timeline


class ConsumerRows:
    """A row in the server's timeline for each of its consumers.

    Args:
        timeline: Of the server's engine.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._since: WeakKeyDictionary[Peer, int] = WeakKeyDictionary()  # when it began with what it has
        self._drawn: WeakKeyDictionary[Peer, int] = WeakKeyDictionary()  # when its latest slice ended

    def offer(self, peer: Peer) -> None:
        """A consumer is offered a batch."""
        if peer not in self._drawn:
            self._timeline.add_consumer(peer.number, f"consumer {peer.number} (process {peer.credentials.pid})")
            self._drawn[peer] = 0
        self._since.setdefault(peer, clock_ns())

    def withdraw(self, peer: Peer) -> None:
        """All that a consumer was offered was recalled: it has nothing to work at."""
        self._since.pop(peer, None)

    def take(self, peer: Peer, batch: SeatBatch, *, has_more: bool) -> None:
        """A consumer has taken a batch; ``has_more``: it was offered others."""
        now, began = clock_ns(), self._since.pop(peer, 0)
        if has_more:
            self._since[peer] = now
        if began and now - self._drawn[peer] >= EVERY_NS:
            self._drawn[peer] = now
            self._timeline.use(peer.number, (batch.epoch, batch.position), began, now)
