"""The consumers of a server: their arrivals, requests, departures and exits.

*End of a consumer.* After `LEAVE` it takes no more batches; when its connection then ends, it has no views anymore. If
the connection ends without `LEAVE`, its slots are freed when its process has exited, which its pidfd reports. A killed
process causes both events at once. A consumer that sends invalid data is disconnected.

*Limits.* A consumer needs three descriptors while it may have views of slots, which can be as long as its process runs.
So there are at most `MAX_CONSUMERS` consumers, and at most `MAX_OF_PROCESS` per process.
"""

import contextlib
import math
import os
import socket
import time
from collections.abc import Iterable
from functools import partial

from mpqueue.service.protocol.records import (
    DETACHED,
    DROPPED,
    REQUEST,
    STOPPED,
    Text,
    ToConsumer,
    ToServer,
)
from mpqueue.service.protocol.refusals import Misbehaved, Refused
from mpqueue.service.routing.core import Core
from mpqueue.service.routing.routing import RECALL_AFTER_S
from mpqueue.service.serving.admission import Admission
from mpqueue.service.serving.connections import Handlers, Peer, Reception, Stage
from mpqueue.service.serving.deliveries import Deliveries
from mpqueue.transport.credentials import sentinel_of
from mpqueue.transport.records import ProtocolError

MAX_CONSUMERS = 256
MAX_OF_PROCESS = 64
_AT_ONCE = 64  # requests of one consumer before the other consumers get their turn
_MOST_UNREAD = 1 << 12  # more than a socket can hold; a bound, because a forked child may keep sending
_clock = time.monotonic


class Consumers:
    """The consumers of a server: their arrivals, requests, departures and exits.

    Args:
        core: The core.
        deliveries: Sends the decisions of the core.
        admission: Assigns seats.
        handlers: The handlers of all descriptors.
        listener: The listening socket.
        uids: The users who may attach in addition to this user.

    Attributes:
        peers: All consumers, as in `Deliveries`.
        reception: The connections that are not consumers yet.
        recall_at: The time of the next `recall`; infinite if no offers can be recalled.
    """

    def __init__(
        self,
        core: Core,
        deliveries: Deliveries,
        admission: Admission,
        handlers: Handlers,
        listener: socket.socket,
        uids: frozenset[int],
    ) -> None:
        self._core, self._deliveries, self._admission, self._handlers = core, deliveries, admission, handlers
        self.peers, self.recall_at = deliveries.peers, math.inf
        self.reception = Reception(handlers, listener, uids | {os.geteuid()}, self._admit)

    # -- Arrivals

    def _admit(self, peer: Peer) -> None:
        """Assign a seat to a peer after its handshake, or keep it waiting for its rank."""
        assert peer.sock is not None
        assert peer.hello is not None
        try:
            self._check_crowd(peer)
            # Without a pidfd it gets no seat: its slots would never be freed after a crash.
            peer.sentinel = sentinel_of(peer.sock, peer.credentials)
        except ProcessLookupError:
            self.reception.drop(peer)
            return
        except (Refused, OSError, NotImplementedError) as error:
            self.reception.refuse(peer, str(error))
            return
        self.peers[peer.id] = peer
        fd = peer.sock.fileno()
        self._handlers.unwatch(fd)
        self._handlers.watch(fd, partial(self._hear, peer))
        self._handlers.watch(peer.sentinel, partial(self._note_death, peer))
        self._seat(peer)

    def _check_crowd(self, peer: Peer) -> None:
        """Refuse a consumer that exceeds a limit."""
        if len(self.peers) >= MAX_CONSUMERS:
            raise Refused(f"the server has {MAX_CONSUMERS} consumers, the maximum: close some")
        pid = peer.credentials.pid
        if pid and sum(other.credentials.pid == pid for other in self.peers.values()) >= MAX_OF_PROCESS:
            raise Refused(
                f"process {pid} has {MAX_OF_PROCESS} consumers, the maximum: close unused ones. A "
                "consumer that was disconnected without close() counts until the process exits"
            )

    def _seat(self, peer: Peer) -> None:
        try:
            self._admission.seat(peer)
        except Refused as error:
            del self.peers[peer.id]
            self._handlers.unwatch(peer.sentinel)
            self.reception.refuse(peer, str(error))

    # -- Requests

    def _hear(self, peer: Peer, most: int | None = None) -> None:
        # The handler of the socket is also called when a full socket is writable again.
        if peer.is_full and peer.flush() and peer.sock is not None:
            self._handlers.watch_room(peer.sock.fileno(), is_full=False)
        # Bound the number of requests: a consumer that sends without pause must not keep the others waiting.
        for _ in range(most or _AT_ONCE):
            data = peer.receive(REQUEST.size + 1)
            if data is None or not self._hear_one(peer, data):
                return

    def _hear_one(self, peer: Peer, data: bytes) -> bool:
        """Process a message; return False if the connection must not be read anymore."""
        if not data:
            self._note_end(peer)
            return False
        try:
            if peer.stage is Stage.WAITING:
                raise ProtocolError("a record before the welcome")
            kind, value, *turns = REQUEST.parse(data)
            now = _clock()
            if kind == ToServer.ASK:
                peer.num_reported = value
                seat = self._core.ask(peer.id, max(value, peer.taken[0]), filter(None, turns), now)
            elif kind == ToServer.BEGIN:
                seat = self._core.begin(peer.id, value, now)
            else:
                self._core.holders.release(peer.id, filter(None, turns))
                self._leave(peer, died=value == DROPPED)
                # Views may outlive the consumer. The end of the connection indicates that no view exists anymore.
                peer.stage = Stage.LEFT
                return False
        except (ProtocolError, Misbehaved) as error:
            self._cut_off(peer, str(error))
            return False
        if seat is not None and not (seat.queue or seat.untaken) and peer.waits_since is None:
            peer.waits_since = now
        return True

    def _cut_off(self, peer: Peer, why: str) -> None:
        """Disconnect a consumer that has sent invalid data."""
        peer.tell(Text(ToConsumer.CUT, DETACHED, 0, f"invalid data: {why}".encode()))
        peer.flush()
        self._note_end(peer)

    # -- Departures

    def _leave(self, peer: Peer, *, died: bool) -> None:
        with contextlib.suppress(Misbehaved):  # it leaves anyway
            self._settle(peer, peer.taken[0])
        self._admission.note_departure(peer)
        self._core.leave(peer.id, _clock(), died=died)
        self.seat_waiting()

    def seat_waiting(self) -> None:
        """Assign the seats that have become free to the consumers that wait for one."""
        for waiting in self._admission.take_waiting():
            self._seat(waiting)

    def _note_end(self, peer: Peer) -> None:
        """Handle the end of a connection."""
        self._close_socket(peer)
        if peer.stage is not Stage.LEFT:
            self._leave(peer, died=True)
        # Without `LEAVE`, the process may have closed the socket and still read the slots: only its exit frees them.
        if peer.stage is Stage.LEFT or not self._core.holders.count(peer.id):
            self._forget(peer)

    def _note_death(self, peer: Peer) -> None:
        """Handle the exit of a consumer's process."""
        # Process its unread requests first: batches that an unread `ASK` reports as taken must not go to another
        # consumer.
        if peer.sock is not None:
            self._hear(peer, _MOST_UNREAD)
        self._close_socket(peer)
        self._leave(peer, died=True)
        if peer.id in self.peers:
            self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        """Free all slots of a consumer that has no views anymore."""
        self._core.holders.close(peer.id)
        self._handlers.unwatch(peer.sentinel)
        peer.close()
        del self.peers[peer.id]

    def _close_socket(self, peer: Peer) -> None:
        if peer.sock is not None:
            self._handlers.unwatch(peer.sock.fileno())
            peer.close_socket()

    # -- Requests without a message, and recalls

    def settle_all(self) -> None:
        """Process the requests that consumers have made without a message."""
        peers = self.peers
        for consumer, seat in list(self._core.group.by_consumer.items()):
            # Check here: most consumers have made none, and each pass checks all of them.
            if (taken := peers[consumer].taken[0]) > seat.num_taken:
                self._settle_or_cut_off(peers[consumer], taken)

    def may_release(self) -> bool:
        """Return True if consumers will release slots: they have not yet sent the message that precedes their wait."""
        return any(peer.taken[0] > peer.num_reported for peer in self.peers.values())

    def _settle_or_cut_off(self, peer: Peer, taken: int) -> None:
        try:
            self._settle(peer, taken)
        except Misbehaved as error:
            self._cut_off(peer, str(error))

    def _settle(self, peer: Peer, taken: int) -> None:
        """Process the requests that a consumer has made without a message.

        Args:
            peer: The consumer.
            taken: Its number of taken batches. It is read once for each decision: the consumer may store any other
                number at any moment.

        Raises:
            Misbehaved: The number is invalid.
        """
        consumer, group = peer.id, self._core.group
        if consumer in group.by_consumer and taken > group.by_consumer[consumer].num_taken:
            # The time of its latest message, which arrived just before.
            self._core.ask(consumer, taken, (), group.last_seen[consumer])

    def read_all(self, consumers: Iterable[int]) -> None:
        """Process all messages that these consumers have sent."""
        for consumer in consumers:
            self._hear(self.peers[consumer], _MOST_UNREAD)

    def detach(self, consumers: dict[int, str]) -> None:
        """Detach consumers, each with the reason, and offer their untaken batches to others."""
        for consumer, why in consumers.items():
            peer = self.peers[consumer]
            # Send the `CUT` first, then read, as for a `RECALL` (see `mpqueue.service.protocol.records`). An `ASK` that
            # has arrived by then counts; its batches would go to another consumer, too, otherwise. A later `ASK` was
            # sent by a consumer that finds the `CUT` before it opens another batch.
            self._deliveries.cut(consumer, DETACHED, why)
            peer.flush()
            if peer.sock is not None:
                self._handlers.watch_room(peer.sock.fileno(), is_full=peer.is_full)
                self._hear(peer, _MOST_UNREAD)
            self._leave(peer, died=True)

    def recall(self, now: float) -> bool:
        """Recall the unrequested offers of idle consumers for waiting ones; return whether there were any."""
        replies: dict[int, list[bytes]] = {}
        self.recall_at = math.inf
        for due_at, consumer, last in self._core.group.unasked():
            messages = self.peers[consumer].recall(last) if due_at <= now else None
            # Not due yet, or the `RECALL` could not be sent now and is tried again later.
            if messages is None:
                self.recall_at = min(self.recall_at, due_at if due_at > now else now + RECALL_AFTER_S)
            else:
                replies[consumer] = messages
        if replies:
            # Recall from all consumers at once: a batch returned by the first one must not be offered to the second.
            # Process their messages afterwards: `Core.recall` counts from the state at the time of the `RECALL`.
            reports = {consumer: self._report(consumer, messages) for consumer, messages in replies.items()}
            self._core.recall(reports)
            for consumer, messages in replies.items():
                peer = self.peers[consumer]
                # `all` stops at the first message after which the connection must not be read anymore.
                _ = all(self._hear_one(peer, data) for data in messages)
                if (taken := reports[consumer]) is not None:
                    self._settle_or_cut_off(peer, taken)
        return bool(replies)

    def _report(self, consumer: int, messages: list[bytes]) -> int | None:
        """Return the number of taken batches in a consumer's latest request; None if the core knows of that request.

        Args:
            consumer: Id of the consumer.
            messages: Its messages that were not processed yet.
        """
        asked = [int(value) for kind, value in map(_head_of, messages) if kind == ToServer.ASK]
        taken = self.peers[consumer].taken[0]  # read after the messages
        if taken > self._core.group.by_consumer[consumer].num_taken:
            asked.append(taken)
        return max(asked, default=None)

    def close(self, text: str) -> None:
        """Notify all consumers of the reason of the stop, and close all connections."""
        self.reception.close()
        self._admission.close(self._handlers)
        for peer in list(self.peers.values()):
            if peer.stage is Stage.ATTACHED:
                # Consumers then raise the reason of the stop instead of a bare disconnection.
                peer.tell(Text(ToConsumer.CUT, STOPPED, 0, text.encode()[:4096]))
                peer.flush()
            self._close_socket(peer)
            self._handlers.unwatch(peer.sentinel)
            peer.close()
        self.peers.clear()


def _head_of(message: bytes) -> tuple[int, int]:
    """Return the kind and the value of a request; zeros if it is invalid."""
    with contextlib.suppress(ProtocolError):  # an invalid message is handled when it is processed in order
        kind, value, *_ = REQUEST.parse(message)
        return kind, value
    return 0, 0
