"""The server's ends of its connections: waited for, accepted, greeted, and told what there is.

    accept --> SILENT --handshake--> admit (the loop's) --> ATTACHED, or WAITING for a rank --> CUT, LEFT
                  |
                  +--> refused with words, and dropped: another user; no handshake after `HANDSHAKE_S`; nonsense;
                       the oldest of more than `MAX_STRANGERS`

*Strangers* are those whose handshake has not come. What one costs is bounded: a descriptor for a while. Where there are
none left, nobody is accepted for a moment; connections wait in the kernel's queue then.

*What is sent.* Nobody waits for the other side. Offers are collected and go out together, up to `MAX_OFFERS` in one
message. What the socket does not take stays here and goes when it is writable again. That is little: a consumer is
offered no more than its window, and besides hears of new specs, ends and exceptions only.
"""

import contextlib
import enum
import errno
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from mpqueue.errors import ServiceError
from mpqueue.service.handshake import Hello, Refusal
from mpqueue.service.records import (
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
from mpqueue.system import descriptors
from mpqueue.system.log import warn
from mpqueue.transport.credentials import Credentials, ForeignPeer, check_peer, credentials_of
from mpqueue.transport.framing import send_with_descriptors
from mpqueue.transport.listener import accept
from mpqueue.transport.poller import READABLE, WRITABLE, close_poller, make_poller
from mpqueue.transport.records import ProtocolError

_NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Handlers:
    """A poller with a function for each descriptor.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(self) -> None:
        self._poller = make_poller()
        self._by_fd: dict[int, Callable[[], Any]] = {}

    def watch(self, fd: int, handler: Callable[[], Any]) -> None:
        """Call the handler whenever this descriptor is readable, or at its end."""
        self._by_fd[fd] = handler
        self._poller.register(fd, READABLE)

    def watch_room(self, fd: int, *, is_full: bool) -> None:
        """Call the handler also when there is room again to write, as long as it is full."""
        self._poller.modify(fd, READABLE | WRITABLE if is_full else READABLE)

    def unwatch(self, fd: int) -> None:
        """Wait for it no more; before it is closed."""
        del self._by_fd[fd]
        self._poller.unregister(fd)

    def wait(self, timeout_s: float | None) -> None:
        """Wait, at most so many seconds, and call the handlers of what is ready."""
        for fd, handler in [(fd, self._by_fd.get(fd)) for fd, _ in self._poller.poll(timeout_s)]:
            # Not if a handler before it has closed this one: the number may be another descriptor's by now, which
            # nobody has said to be ready.
            if handler is not None and self._by_fd.get(fd) is handler:
                handler()

    def close(self) -> None:
        """Let go of the poller."""
        close_poller(self._poller)


class Stage(enum.Enum):
    """The stage of a connection."""

    SILENT = "silent"  # no handshake has come
    WAITING = "waiting"  # for its rank, which another consumer has
    ATTACHED = "attached"
    CUT = "cut"  # it was told to go, and may release what it looks at
    LEFT = "left"  # it has said so


class Peer:
    """A consumer, as its server has it.

    Args:
        number: Of the consumer; never used again.
        sock: The connection, noted in `descriptors`; does not block. Owned: closed by `close`.
        credentials: Who it is.
        since: When it connected.

    Attributes:
        number, sock, credentials, since: As given; the socket is None when it was closed.
        sentinel: Readable when its process has ended; noted in `descriptors`, and owned; -1 for a stranger.
        stage: How far it has come.
        hello: Its handshake.
        num_bytes: Bytes of the batches that it was offered.
        wait_s: Seconds for which it has waited for an offer,
        waits_since: and since when it waits now; None: it does not.
        is_full: The socket takes no more for now.
        specs: The numbers of those that it knows.
    """

    def __init__(self, number: int, sock: socket.socket, credentials: Credentials, since: float) -> None:
        self.number, self.credentials, self.since = number, credentials, since
        self.sentinel = -1
        self.sock: socket.socket | None = sock
        self.stage = Stage.SILENT
        self.hello: Hello | None = None
        self.num_bytes = 0
        self.wait_s = 0.0
        self.waits_since: float | None = None
        self.is_full = False
        self.specs: set[int] = set()
        self._offers = bytearray()
        self._messages: deque[bytes | bytearray] = deque()  # that the socket has not taken

    # -- What it is to hear

    def offer(self, record: bytes) -> None:
        """Tell it of a batch, or of the end of an epoch, by an `OFFER`: many of them are one message."""
        self._offers += record
        if len(self._offers) >= MAX_OFFERS * OFFER.size:
            self._collect()

    def tell(self, text: Text) -> None:
        """Send it a message with a body."""
        self._collect()  # what was said before goes before it
        self._messages.append(text.pack())

    def teach(self, number: int, body: bytes, *, is_pickled: bool) -> None:
        """Send it a spec, which it does not know."""
        # No offer comes between the parts: they are put one behind the other, and the socket keeps the order.
        self.specs.add(number)
        flags = PICKLED if is_pickled else 0
        parts = [body[start : start + MAX_BODY] for start in range(0, len(body), MAX_BODY)]
        for part in parts[:-1]:
            self.tell(Text(ToConsumer.SPEC, flags | MORE, number, part))
        self.tell(Text(ToConsumer.SPEC, flags, number, parts[-1]))

    def _collect(self) -> None:
        if self._offers:
            self._messages.append(self._offers)
            self._offers = bytearray()

    def flush(self) -> bool:
        """Send what can be sent now; return False if the socket is full."""
        self._collect()
        self.is_full, messages = False, self._messages
        try:
            while messages and self.sock is not None:
                self.sock.send(messages[0], _NOW)  # wholly, or not now: the socket keeps messages apart
                messages.popleft()
        except BlockingIOError:
            self.is_full = True
        except OSError:  # it is gone, and its end is about to be read: what is left is little, and goes with the peer
            pass
        return not self.is_full

    def recall(self, number: int) -> list[bytes] | None:
        """Tell it to forget the offers above this number; return what it has said until then, to be heard by `Loop`.

        See the head of `mpqueue.service.records`: what it says later it says with the RECALL before its eyes.

        Returns: None if it cannot be told now, and knows of nothing.
        """
        if self._offers or self._messages or self.sock is None:
            return None  # what waits would come behind it, and would not be dropped
        try:
            # Not by way of `_messages`: a RECALL that goes out later would be heard by nobody here.
            self.sock.send(Text(ToConsumer.RECALL, 0, number, b"").pack(), _NOW)
        except OSError:  # it is full; or gone, and its end is about to be read
            return None
        # All that there is, and only now: what comes later was sent by somebody who has the RECALL before its eyes.
        said = []
        while (data := self.receive(REQUEST.size + 1)) is not None:
            said.append(data)
            if not data:  # it has ended
                break
        return said

    def send_now(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send a handshake, which is the first message and finds room; or the peer is gone."""
        assert self.sock is not None
        with contextlib.suppress(OSError):
            send_with_descriptors(self.sock, data, fds, socket.MSG_DONTWAIT)

    # -- What it says

    def receive(self, size: int) -> bytes | None:
        """Return the next message, at most so many bytes of it; empty at the end; None: there is none yet.

        Descriptors that come with it are dropped by the kernel.
        """
        assert self.sock is not None
        try:
            return self.sock.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    # -- Its end

    def close_socket(self) -> None:
        """Hear no more of it, and say no more to it."""
        if self.sock is not None:
            descriptors.close_object(self.sock)
            self.sock = None

    def close(self) -> None:
        """Let go of all that it costs."""
        self.close_socket()
        if self.sentinel >= 0:
            sentinel, self.sentinel = self.sentinel, -1
            descriptors.close(sentinel)

    def __repr__(self) -> str:
        return f"<consumer {self.number}, process {self.credentials.pid}, {self.stage.value}>"


HANDSHAKE_S = 5.0
MAX_STRANGERS = 64
_PAUSE_S = 0.2
_REPORT_S, _MOST_REPORT_S = 10.0, 3600.0  # between two warnings of one shortage: at first, and at most
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


class Reception:
    """Accepts connections, and hears the handshakes of strangers.

    Args:
        handlers: Call it.
        listener: Where connections come.
        uids: The users who may attach.
        admit: Called with a stranger that has said its handshake.

    Attributes:
        strangers: Those who have not.
        again_at: No connection is accepted before; None: they are accepted.
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
        self._report_at, self._report_s = 0.0, _REPORT_S
        self._short_since: float | None = None
        handlers.watch(listener.fileno(), self._accept)

    def due_at(self) -> float | None:
        """Return when `look` is to be called, by `time.monotonic`."""
        dues = [peer.since + HANDSHAKE_S for peer in self.strangers.values()]
        return min(dues if self.again_at is None else [*dues, self.again_at], default=None)

    def look(self, now: float) -> None:
        """Drop who says nothing, and accept again."""
        if self.again_at is not None and self.again_at <= now:
            self.again_at = None
            self._handlers.watch(self._listener.fileno(), self._accept)
        for peer in list(self.strangers.values()):
            if peer.since + HANDSHAKE_S <= now:
                self.refuse(peer, f"no handshake came within {HANDSHAKE_S:g} s")

    def _accept(self) -> None:
        try:
            sock = accept(self._listener, None)  # who is refused is told why
        except OSError as error:
            if error.errno in _SCARCE:
                self._pause(error)
            return  # else the one who connected is gone
        self._short_since = None
        self._num_peers += 1
        peer = Peer(self._num_peers, sock, credentials_of(sock), time.monotonic())
        self.strangers[peer.number] = peer
        self._handlers.watch(sock.fileno(), partial(self._hear, peer))
        try:
            check_peer(sock, self._uids)
        except ForeignPeer:
            uid = peer.credentials.uid
            self.refuse(peer, f"uid {uid} may not attach: start the server with allow_uids=({uid},)")
            return
        if len(self.strangers) > MAX_STRANGERS:
            self.refuse(next(iter(self.strangers.values())), "too many connections say nothing")

    def _pause(self, error: OSError) -> None:
        # The listener stays readable as long as a connection waits there: the loop would spin.
        self._handlers.unwatch(self._listener.fileno())
        now = time.monotonic()
        self.again_at = now + _PAUSE_S
        self._report(error, now)

    def _report(self, error: OSError, now: float) -> None:
        """Log that no connection is accepted: at once, and then at doubling intervals, as long as that lasts."""
        if self._short_since is None:
            self._short_since = now
            if now >= self._report_at:  # not before: accepting may fail and succeed in turn
                self._report_s = _REPORT_S
        if now < self._report_at:
            return
        for_s = now - self._short_since
        lasted = f", for {for_s:.0f} s by now" if for_s >= 1 else ""
        remedy = "; check `ulimit -n`" if error.errno in {errno.EMFILE, errno.ENFILE} else ""
        warn(
            f"the server cannot accept connections{lasted}: {error}{remedy}. Consumers that attach wait until it can; "
            f"the next warning comes after {self._report_s:g} s at the earliest"
        )
        self._report_at, self._report_s = now + self._report_s, min(2 * self._report_s, _MOST_REPORT_S)

    def _hear(self, peer: Peer) -> None:
        # One byte more than there may be: the rest of a longer one is cut off, and must not go unnoticed.
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
        # Or `look` would drop it later, as one that says nothing.
        del self.strangers[peer.number]
        self._admit(peer)

    def refuse(self, peer: Peer, why: str) -> None:
        """Tell a peer why it is not admitted, and drop it."""
        peer.send_now(Refusal(refused=why).encode())
        self.drop(peer)

    def drop(self, peer: Peer) -> None:
        """Close a connection that is no consumer's."""
        self.strangers.pop(peer.number, None)
        if peer.sock is not None:
            self._handlers.unwatch(peer.sock.fileno())
        peer.close()

    def close(self) -> None:
        """Drop all strangers, and accept no more."""
        for peer in list(self.strangers.values()):
            self.refuse(peer, "the server was stopped")
        if self.again_at is None:
            self._handlers.unwatch(self._listener.fileno())
