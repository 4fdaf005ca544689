"""The server's end of one connection: what is to be sent, in its order, and never a wait for the other side.

Offers are collected and go out together, up to `MAX_OFFERS` in one message. What the socket does not take stays here
and goes when it is writable again. That is little: a consumer is offered no more than its window, and besides hears of
new specs, ends and exceptions only.
"""

import contextlib
import enum
import socket
from collections import deque

from mpqueue.service.greeting import Hello
from mpqueue.service.records import MAX_BODY, MAX_OFFERS, MORE, OFFER, PICKLED, REQUEST, Offer, Text, ToConsumer
from mpqueue.system import descriptors
from mpqueue.transport.credentials import Credentials


class Stage(enum.Enum):
    """The stage of a connection."""

    SILENT = "silent"  # no greeting has come
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
        hello: Its greeting.
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
        self._outbox: deque[bytes] = deque()

    # -- What it is to hear

    def offer(self, offer: Offer) -> None:
        """Tell it of a batch, or of the end of an epoch."""
        self._offers += offer.pack()
        if offer.kind == ToConsumer.OFFER:
            self.num_bytes += offer.nbytes
        if len(self._offers) >= MAX_OFFERS * OFFER.size:
            self._collect()

    def tell(self, text: Text) -> None:
        """Send it a message with a body."""
        self._collect()
        self._outbox.append(text.pack())

    def teach(self, number: int, body: bytes, *, is_pickled: bool) -> None:
        """Send it a spec, which it does not know."""
        self.specs.add(number)
        flags = PICKLED if is_pickled else 0
        parts = [body[start : start + MAX_BODY] for start in range(0, len(body), MAX_BODY)]
        for part in parts[:-1]:
            self.tell(Text(ToConsumer.SPEC, flags | MORE, number, part))
        self.tell(Text(ToConsumer.SPEC, flags, number, parts[-1]))

    def _collect(self) -> None:
        if self._offers:
            self._outbox.append(bytes(self._offers))
            self._offers.clear()

    def flush(self) -> bool:
        """Send what can be sent now; return False if the socket is full."""
        self._collect()
        if self.sock is None:
            self._outbox.clear()
        while self._outbox:
            assert self.sock is not None
            try:
                self.sock.send(self._outbox[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self.is_full = True
                return False
            except OSError:  # it is gone; its end is about to be read
                self._outbox.clear()
                break
            self._outbox.popleft()
        self.is_full = False
        return True

    def recall(self, number: int) -> list[bytes] | None:
        """Tell it to forget the offers above this number; return what it has said until then, to be heard by `Loop`.

        See the head of `mpqueue.service.records`: what it says later it says with the RECALL before its eyes.

        Returns: None if it cannot be told now, and knows of nothing.
        """
        if self._offers or self._outbox or self.sock is None:  # those would come behind it, and are not meant
            return None
        try:
            self.sock.send(Text(ToConsumer.RECALL, 0, number, b"").pack(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:  # it is full; or gone, and its end is about to be read
            return None
        said = []
        while (data := self.receive(REQUEST.size + 1)) is not None:
            said.append(data)
            if not data:  # it has ended
                break
        return said

    def send_now(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send a greeting, which is the first message and finds room; or the peer is gone."""
        assert self.sock is not None
        with contextlib.suppress(OSError):
            socket.send_fds(self.sock, [data], list(fds), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

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
