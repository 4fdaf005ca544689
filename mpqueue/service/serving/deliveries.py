"""Carries out the decisions of a server's core: sends its messages, and journals and draws what consumers take."""

import os
import time
from collections.abc import Callable
from typing import Any

from mpqueue.service.protocol.records import OFFER, PICKLED, Text, ToConsumer
from mpqueue.service.protocol.specs import Specs
from mpqueue.service.routing.routing import Seat
from mpqueue.service.routing.seat_batches import BatchHandle, Failure, SeatBatch
from mpqueue.service.serving.checkpoints import Checkpoints
from mpqueue.service.serving.connections import Peer, Stage
from mpqueue.service.serving.journal import Journal
from mpqueue.service.serving.tracing import ConsumerRows
from mpqueue.service.stream.stream import Stream
from mpqueue.system.user_code.exception_texts import named_text_of
from mpqueue.telemetry.timeline import Timeline
from mpqueue.worker import failures


class Deliveries:
    """The implementation of the core's `mpqueue.service.routing.outside.Outside`.

    Args:
        stream: The stream, which owns the handles.
        journal: The journal; None if absent.
        timeline: The timeline of the server; None if absent.
        checkpoints: Checkpoints of a journaled stream with lanes; None for other streams.

    Attributes:
        stream: The argument.
        peers: All consumers by id, including those with a closed connection and a running process.
        touched: The consumers with messages to send.
    """

    def __init__(
        self,
        stream: Stream,
        journal: Journal | None,
        timeline: Timeline | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.stream, self._journal, self._checkpoints = stream, journal, checkpoints
        self.peers: dict[int, Peer] = {}
        self._rows = None if timeline is None else ConsumerRows(timeline)
        self._specs = Specs()
        # Bound directly to the stream's methods: each batch passes here, and wrapper methods would only add a call.
        self.share: Callable[[Any], None] = stream.slots.share
        self.free: Callable[[Any], None] = stream.slots.release
        self.touched: set[Peer] = set()
        self._changed: list[Peer] = []  # by messages that were sent before `flush`

    def offer(self, consumer: int, offer_id: int, batch: SeatBatch) -> None:
        """Offer a batch, or the exception in place of a batch, to a consumer."""
        peer = self.peers[consumer]
        self.touched.add(peer)
        if peer.waits_since is not None:
            peer.wait_s += time.monotonic() - peer.waits_since
            peer.waits_since = None
        if self._rows is not None:
            self._rows.offer(peer)
        if isinstance(batch, Failure):
            peer.tell(self._raised(peer, offer_id, batch))
            return
        # Send the spec first, over the same socket: a consumer that reads an offer then already has its spec.
        spec = self._specs.ids.get(batch.spec)
        if spec is None or spec not in peer.specs:  # rare
            spec = self._specs.id_of(batch.spec)
            body, is_pickled = self._specs.bodies[spec]
            peer.teach(spec, body, is_pickled=is_pickled)
        peer.num_bytes += batch.nbytes
        where = batch.turn, batch.slot.index, batch.epoch, batch.position, batch.header_offset, batch.nbytes
        peer.offer(OFFER.pack(ToConsumer.OFFER, batch.flags, spec, offer_id, *where))

    def _raised(self, peer: Peer, offer_id: int, failure: Failure) -> Text:
        error, epoch, position = failure.error, failure.epoch, failure.position
        assert error is not None
        if peer.credentials.uid == os.geteuid():
            # An epoch that cannot be opened, or an order that cannot be drawn, has no batch.
            where = f"in place of batch {position}" if position >= 0 else "before the next batch"
            note = f"raised in the server {where} of epoch {epoch}"
            return Text(ToConsumer.RAISED, PICKLED, offer_id, failures.pack(error, note), epoch, position)
        # A consumer of a different user does not load pickles, which can run arbitrary code.
        text = named_text_of(error).encode(errors="backslashreplace")[:4096]
        return Text(ToConsumer.RAISED, 0, offer_id, text, epoch, position)

    def withdraw(self, consumer: int, batch: SeatBatch, *, has_more: bool) -> None:
        """Undo the counts and the drawing of an offer."""
        peer = self.peers[consumer]
        if isinstance(batch, BatchHandle):
            peer.num_bytes -= batch.nbytes
        if self._rows is not None and not has_more:
            self._rows.withdraw(peer)

    def miss(self, consumer: int, count: int) -> None:
        """Notify a consumer how many batches it has missed since it attached, because it was slow."""
        self._tell(consumer, ToConsumer.MISSED, 0, count)

    def end(self, consumer: int, epoch: int, count: int) -> None:
        """Notify a consumer of the end of an epoch."""
        self._tell(consumer, ToConsumer.END, epoch, count)

    def _tell(self, consumer: int, kind: int, epoch: int, count: int) -> None:
        peer = self.peers[consumer]
        self.touched.add(peer)
        peer.offer(OFFER.pack(kind, 0, 0, 0, 0, 0, epoch, count, 0, 0))

    def cut(self, consumer: int, flag: int, text: str) -> None:
        """Notify a consumer that it is detached, with the reason."""
        peer = self.peers[consumer]
        self.touched.add(peer)
        peer.stage = Stage.CUT
        peer.tell(Text(ToConsumer.CUT, flag, 0, text.encode()))

    def open_epoch(self, epoch: int) -> int | None:
        """Open an epoch of the stream."""
        return self.stream.open_epoch(epoch)

    def finish_epoch(self, epoch: int) -> None:
        """Run the end of an epoch."""
        self.stream.finish_epoch()
        # Send the ends of the epoch before it is journaled as over. If the server is killed in between, its successor
        # ends the epoch again for consumers that did not get the end. One in the next epoch has no batches of this one
        # anymore, and a broadcast refuses consumers that lag.
        self._changed += self._flushed()
        self._note_epoch(epoch + 1)

    def abandon(self, epoch: int) -> None:
        """Drop the rest of an epoch: the stream drops it when the next one is opened."""
        self._note_epoch(epoch + 1)

    def _note_epoch(self, epoch: int) -> None:
        if self._journal is not None:
            # An endless stream continues where the previous epoch stopped.
            self._journal.begin(epoch, self.stream.source_state(), lanes=self.stream.next_point())
        if self._checkpoints is not None:
            self._checkpoints.begin()

    def note_taken(self, seat: Seat, batch: SeatBatch) -> None:
        """Journal and draw a taken batch."""
        if self._rows is not None:
            self._rows.take(self.peers[seat.consumer], batch, has_more=bool(seat.untaken))
        if self._journal is not None:
            # A rank outlives its consumer, so its batches are journaled under the rank.
            self.journal_taken(batch.position, seat.consumer if seat.rank is None else seat.rank)

    def journal_taken(self, position: int, who: int) -> None:
        """Journal a position that a rank or consumer has taken, here or from the previous server."""
        assert self._journal is not None
        self._journal.note_taken(position, who)
        # All of them: a position that is missing here holds back the checkpoints, and is lost with the next one.
        if self._checkpoints is not None:
            self._checkpoints.note_taken(position, who)

    def flush(self) -> list[Peer]:
        """Send the collected messages; return the peers whose sockets became full or writable since the last call."""
        changed, self._changed = [*self._changed, *self._flushed()], []
        return changed

    def _flushed(self) -> list[Peer]:
        changed = []
        for peer in self.touched:
            was_full = peer.is_full
            peer.flush()
            if peer.is_full != was_full:
                changed.append(peer)
        self.touched.clear()
        return changed
