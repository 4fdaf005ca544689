"""The server's side of its connections: poll, accept, read handshakes, and send records without blocking.

    accept --> SILENT --handshake--> admit (the loop's) --> ATTACHED, or WAITING for a rank --> CUT, LEFT
                  |
                  +--> rejected with a reason and dropped: a user who may not attach; no handshake within `HANDSHAKE_S`;
                       invalid data; the oldest of more than `MAX_STRANGERS`

A *stranger* is a connection without a handshake. Its cost is bounded: one descriptor for a limited time. If the process
runs out of descriptors, the server stops accepting for a moment, and connections wait in the kernel's queue.

The server never blocks on a consumer. It collects offers and sends up to `MAX_OFFERS` of them in one message. Data that
the socket does not accept is kept here and sent when the socket is writable again. That is little data: a consumer is
offered at most its window; other messages are new specs, ends of epochs and exceptions.
"""

import contextlib
import enum
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mpqueue.errors import ServiceError
from mpqueue.memory.segment import shared_words
from mpqueue.service.protocol import specs
from mpqueue.service.protocol.handshake import Hello, Refusal
from mpqueue.service.protocol.records import (
    MAX_BODY,
    MAX_HANDSHAKE,
    MAX_OFFERS,
    MORE,
    OFFER,
    PICKLED,
    REQUEST,
    Text,
    ToConsumer,
)
from mpqueue.system.descriptors import descriptors
from mpqueue.system.log import warn
from mpqueue.transport.credentials import Credentials, ForeignPeer, check_peer, credentials_of
from mpqueue.transport.framing import send_with_descriptors
from mpqueue.transport.listener import SCARCE, accept
from mpqueue.transport.poller import READABLE, WRITABLE, close_poller, make_poller
from mpqueue.transport.records import ProtocolError

_NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
# epoll accepts at most 24 days, but a lease or a reserved rank may last longer, or forever.
_MOST_WAIT_S = 86_400.0


class Handlers:
    """A poller with a callback per descriptor.

    Raises:
        OSError: The process has no free descriptors.
    """

    def __init__(self) -> None:
        self._poller = make_poller()
        self._by_fd: dict[int, Callable[[], Any]] = {}

    def watch(self, fd: int, handler: Callable[[], Any]) -> None:
        """Call the handler whenever this descriptor is readable or hung up."""
        self._by_fd[fd] = handler
        self._poller.register(fd, READABLE)

    def watch_room(self, fd: int, *, is_full: bool) -> None:
        """Also call the handler when the socket is writable, while `is_full` is true."""
        # An empty socket is always writable: watching that all the time would make the loop spin.
        self._poller.modify(fd, READABLE | WRITABLE if is_full else READABLE)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor; call this before closing it."""
        del self._by_fd[fd]
        self._poller.unregister(fd)

    def wait(self, timeout_s: float | None) -> None:
        """Wait for at most `timeout_s` seconds, or a day, and call the handlers of ready descriptors."""
        events = self._poller.poll(None if timeout_s is None else min(timeout_s, _MOST_WAIT_S))
        for fd, handler in [(fd, self._by_fd.get(fd)) for fd, _ in events]:
            # An earlier handler may have closed this descriptor, and its number may already belong to a new descriptor
            # that is not ready.
            if handler is not None and self._by_fd.get(fd) is handler:
                handler()

    def close(self) -> None:
        """Close the poller."""
        close_poller(self._poller)


class Stage(enum.Enum):
    """The stage of a connection.

    SILENT: Before the handshake.
    WAITING: For its rank, which has another consumer.
    ATTACHED: It has a seat.
    CUT: Detached by the server; may still release slots.
    LEFT: Has sent `LEAVE`; may still have views.
    """

    SILENT, WAITING, ATTACHED, CUT, LEFT = range(5)


class Peer:
    """A consumer, as seen by its server.

    Args:
        peer_id: The id of the consumer; never reused.
        sock: The connection, registered in `descriptors`, non-blocking. Owned: closed by `close`.
        credentials: The user and process of the consumer.
        since: The time of the connection.

    Attributes:
        id, sock, credentials, since: The arguments. `sock` is None once it is closed.
        sentinel: Pidfd of the process, registered in `descriptors` and owned; -1 for a stranger.
        stage: The stage of the connection.
        hello: The handshake.
        num_bytes: Bytes of the batches offered.
        wait_s: Total wait for offers, in seconds.
        waits_since: Start of the current wait; None if it does not wait.
        is_full: True if the socket accepts no more data for now.
        specs: Ids of the specs that the consumer has received.
        taken: Its first word is written by the consumer: the number of batches that it has taken. Without such memory,
            and for other programs, it remains 0. A malicious consumer may store any number.
        num_reported: The number of taken batches in its latest message, which has released their slots.
    """

    def __init__(self, peer_id: int, sock: socket.socket, credentials: Credentials, since: float) -> None:
        self.id, self.credentials, self.since = peer_id, credentials, since
        self.sentinel = -1
        self.sock: socket.socket | None = sock
        self.stage = Stage.SILENT
        self.hello: Hello | None = None
        self.num_bytes = 0
        self.wait_s = 0.0
        self.waits_since: float | None = None
        self.is_full = False
        self.specs: set[int] = set()
        self.taken: Sequence[int] = (0,)
        self.num_reported = 0
        self._offers = bytearray()
        self._messages: deque[bytes | bytearray] = deque()  # not yet sent

    # -- Sending

    def offer(self, record: bytes) -> None:
        """Queue an `OFFER` record: a batch or the end of an epoch. Many of them make one message."""
        # Collect offers: one system call and one wake-up of the consumer then serve up to 32 of them.
        self._offers += record
        if len(self._offers) >= MAX_OFFERS * OFFER.size:
            self._collect()

    def tell(self, text: Text) -> None:
        """Queue a message with a body."""
        self._collect()  # earlier offers must be sent first
        self._messages.append(text.pack())

    def teach(self, spec_id: int, body: bytes, *, is_pickled: bool) -> None:
        """Queue a spec that the consumer has not received yet."""
        # The parts are queued together and the socket keeps their order, so no offer can get between them.
        if len(self.specs) >= specs.MAX_SPECS:
            self.specs.clear()  # specs that are still used are sent again
        self.specs.add(spec_id)
        flags = PICKLED if is_pickled else 0
        # A SEQPACKET message is sent as a whole or not at all. One of several megabytes would not fit into the socket's
        # buffer.
        for start in range(0, max(1, len(body)), MAX_BODY):
            more = MORE if start + MAX_BODY < len(body) else 0
            self.tell(Text(ToConsumer.SPEC, flags | more, spec_id, body[start : start + MAX_BODY]))

    def _collect(self) -> None:
        if self._offers:
            self._messages.append(self._offers)
            self._offers = bytearray()

    def flush(self) -> bool:
        """Send the data that the socket accepts now; return False if it is full."""
        self._collect()
        self.is_full, messages = False, self._messages
        try:
            while messages and self.sock is not None:
                self.sock.send(messages[0], _NOW)  # SEQPACKET sends a message as a whole or not at all
                messages.popleft()
        except BlockingIOError:
            self.is_full = True
        except OSError:
            # The consumer has disconnected. The loop is about to read the end of the connection, and drops the peer.
            pass
        return not self.is_full

    def recall(self, last: int) -> list[bytes] | None:
        """Send a `RECALL` of all offers above this id; return the messages sent by the consumer until then.

        The module docstring of `mpqueue.service.protocol.records` explains why the order of these steps is safe.

        Returns: The messages, for `Consumers` to process; None if the `RECALL` cannot be sent now. The consumer does
            not know of it then.
        """
        if self._offers or self._messages or self.sock is None:
            return None  # queued offers would arrive after the `RECALL`, and would not be dropped
        try:
            # Send directly, not through `_messages`: the messages read below would otherwise precede the `RECALL`, and
            # the guarantee about them would not hold.
            self.sock.send(Text(ToConsumer.RECALL, 0, last, b"").pack(), _NOW)
        except OSError:  # the socket is full, or the consumer has disconnected
            return None
        # Read all received messages, and only after the send: a request that arrives later was sent by a consumer
        # that finds the `RECALL` before it opens another batch.
        messages = []
        while (data := self.receive(REQUEST.size + 1)) is not None:
            messages.append(data)
            if not data:  # the end of the connection
                break
        return messages

    def send_welcome(self, data: bytes, ring_fd: int) -> None:
        """Send the answer to the handshake, with the ring and a page for `taken`."""
        try:
            self.taken, fd = shared_words()
        except OSError:  # descriptors are short: the consumer sends each request as a message
            self.send_now(data, (ring_fd,))
            return
        try:
            self.send_now(data, (ring_fd, fd))
        finally:
            os.close(fd)

    def send_now(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send a handshake. It is the first message, so the empty socket has room for it."""
        assert self.sock is not None
        with contextlib.suppress(OSError):
            send_with_descriptors(self.sock, data, fds, socket.MSG_DONTWAIT)

    # -- Receiving

    def receive(self, size: int) -> bytes | None:
        """Return up to `size` bytes of the next message; empty at the end of the connection; None if absent.

        The kernel drops descriptors that arrive with the message.
        """
        assert self.sock is not None
        try:
            # `recv` and not `recvmsg`: without room for ancillary data, a peer cannot fill this process's descriptor
            # table.
            return self.sock.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    # -- Closing

    def close_socket(self) -> None:
        """Close the connection."""
        if self.sock is not None:
            descriptors.close_object(self.sock)
            self.sock = None

    def close(self) -> None:
        """Close the connection and the pidfd."""
        self.close_socket()
        if self.sentinel >= 0:
            sentinel, self.sentinel = self.sentinel, -1
            descriptors.close(sentinel)
        self.taken = (0,)  # its descriptor is closed with it


HANDSHAKE_S = 5.0
MAX_STRANGERS = 64
_PAUSE_S = 0.2
_REPORT_S = 60.0  # between two warnings


class Reception:
    """Accepts connections and reads the handshakes of strangers.

    Args:
        handlers: Polls the listener and the strangers.
        listener: The listening socket.
        uids: The users who may attach.
        admit: Called with each peer that has sent its handshake.

    Attributes:
        strangers: Connections without a handshake, by id.
        again_at: When to accept connections again; None while they are accepted.
    """

    def __init__(
        self,
        handlers: Handlers,
        listener: socket.socket,
        uids: frozenset[int],
        admit: Callable[[Peer], None],
    ) -> None:
        self._handlers, self._listener, self._uids, self._admit = handlers, listener, uids, admit
        self.strangers: dict[int, Peer] = {}
        self._num_peers = 0
        self.again_at: float | None = None
        self._report_at = 0.0
        handlers.watch(listener.fileno(), self._accept)

    def due_at(self) -> float | None:
        """Return the time, by `time.monotonic`, at which `look` must be called; None if no time is due."""
        dues = [peer.since + HANDSHAKE_S for peer in self.strangers.values()]
        return min(dues if self.again_at is None else [*dues, self.again_at], default=None)

    def look(self, now: float) -> None:
        """Drop strangers that have sent no handshake in time, and resume accepting."""
        if self.again_at is not None and self.again_at <= now:
            self.again_at = None
            self._handlers.watch(self._listener.fileno(), self._accept)
        for peer in list(self.strangers.values()):
            if peer.since + HANDSHAKE_S <= now:
                self.refuse(peer, f"no handshake arrived within {HANDSHAKE_S:g} s")

    def _accept(self) -> None:
        try:
            sock = accept(self._listener, None)  # any user: a rejected one gets the reason as an answer
        except OSError as error:
            if error.errno in SCARCE:
                self._pause(error)
            return  # with any other error, the peer has disconnected already
        self._num_peers += 1
        peer = Peer(self._num_peers, sock, credentials_of(sock), time.monotonic())
        self.strangers[peer.id] = peer
        self._handlers.watch(sock.fileno(), partial(self._hear, peer))
        try:
            # The kernel's credentials decide, before any byte of the peer is parsed.
            check_peer(sock, self._uids)
        except ForeignPeer:
            uid = peer.credentials.uid
            self.refuse(peer, f"uid {uid} may not attach: start the server with allow_uids=({uid},)")
            return
        if len(self.strangers) > MAX_STRANGERS:
            # Drop the oldest stranger, not the new one: a user with many silent connections could otherwise lock out
            # all others.
            self.refuse(next(iter(self.strangers.values())), "too many connections without a handshake")

    def _pause(self, error: OSError) -> None:
        # The listener remains readable while a connection waits in its queue, so watching it would make the loop spin.
        self._handlers.unwatch(self._listener.fileno())
        now = time.monotonic()
        self.again_at = now + _PAUSE_S
        if now >= self._report_at:
            self._report_at = now + _REPORT_S
            warn(
                f"the server cannot accept connections: {error}; check `ulimit -n` and the free memory. New consumers "
                "wait until it can"
            )

    def _hear(self, peer: Peer) -> None:
        # Read one byte more than allowed: the rest of a longer message is cut off, which would go unnoticed otherwise.
        data = peer.receive(MAX_HANDSHAKE + 1)
        if data is None:
            return
        if not data:
            self.drop(peer)
            return
        try:
            peer.hello = Hello.decode(data)
        except (ProtocolError, ServiceError) as error:
            self.refuse(peer, str(error))
            return
        # Remove it first: `look` would otherwise drop the admitted consumer as a silent stranger.
        del self.strangers[peer.id]
        self._admit(peer)

    def refuse(self, peer: Peer, why: str) -> None:
        """Send a peer the reason of the refusal, and drop it."""
        peer.send_now(Refusal(refused=why).encode())
        self.drop(peer)

    def drop(self, peer: Peer) -> None:
        """Close a connection that has no seat."""
        self.strangers.pop(peer.id, None)
        if peer.sock is not None:
            self._handlers.unwatch(peer.sock.fileno())
        peer.close()

    def close(self) -> None:
        """Drop all strangers and stop accepting."""
        # Without an answer: a consumer then looks for a server again, until its timeout. A refusal would be final.
        for peer in list(self.strangers.values()):
            self.drop(peer)
        if self.again_at is None:
            self._handlers.unwatch(self._listener.fileno())
