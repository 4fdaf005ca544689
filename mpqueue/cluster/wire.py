"""The connection between the trainer and the agent of one node: messages, and bytes that go straight where they belong.

    [ kind: 1 byte ][ worker's key: 4 bytes ][ bytes that follow: 8 bytes ] body [ payloads ]

To the agent                                            From the agent
------------                                            --------------
SOURCE   a patch of the source: its head, its pickle,   STARTED  the worker runs: its pid
         its buffers                                    EXITED   how it ended, its peak bytes, and its unread grants
START    a worker's settings                            FAILED   why it could not be started
GRANTS   grants, verbatim                               REPORTS  reports, verbatim, and behind them the bytes of the
FILLED   a grant, and the bytes that lie in its slot             batches and exceptions among them, in their order
CLOSE    there are no more grants for this worker       RAW      what a worker has written that is no report
KILL     a signal for it                                STACKS   what it says of its stacks
STOP     end now                                        NOTE     a text for the user
                                                        ENDED    the nursery has died: its exit status
                                                        FAULT    why the agent cannot go on, pickled
                                                        TICK     the agent is alive

Why a connection of our own, and not Ray's object store: measured between two raylets on one machine with two cores,
one process of each side, batches of 19 MiB came at 51 to 55 a second, and those of 393 KiB at 5,800 to 5,900; calls of
an actor that return a batch each gave 18 to 22 and 153, calls that return several (one copy out of Plasma) 20 and 570
to 670. The socket is read straight into the slot of the ring: there is no copy in Plasma, nothing that could be full
or spill, and the end of either side is the end of the connection, seen in a millisecond.

Both sides wait for many things in one `poll`, so neither a send nor a receive may block. What is sent is a queue of
views, not copies: the bytes of a slot stay as they are until the trainer grants it again, which it does after it has
had them. The kernel copies what it takes: `sendfile` would not, and an agent that is short of memory gives back slots
as soon as they are sent, before the trainer has had them. What is received is parsed by a generator that yields what
it needs next: a number of bytes, which it is given, or a view that is to be filled.

First each side proves to the other that it has the token that has travelled through Ray (see
`mpqueue.transport.credentials`): an agent runs what a trainer sends, and the port of one that has died may be
anybody's. With ``RAY_USE_TLS=1`` the connection is encrypted, and both sides authenticated, by Ray's own certificates.
"""

import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Generator
from itertools import islice
from typing import Any

from mpqueue.system import platform_support
from mpqueue.transport.credentials import ForeignPeer, Vetting, prove

HEAD = struct.Struct("<B3xIQ")
PID = struct.Struct("<q")
EXIT = struct.Struct("<qQ")
NUMBER = struct.Struct("<I")  # of the link, which an agent says behind its proof

Wants = int | memoryview
Bytes = bytes | bytearray | memoryview
Messages = Generator[Wants, Any, None]

_BUFFER_BYTES = 1 << 22  # of the sockets
_SCRATCH_BYTES = 1 << 16
_MAX_VIEWS = 64  # in one call; the kernel takes at most 1,024
_MAX_RECEIVES = 32  # before others are looked at
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ToAgent:
    """Kinds of messages to an agent."""

    SOURCE, START, GRANTS, FILLED, CLOSE, KILL, STOP = range(1, 8)


class FromAgent:
    """Kinds of messages from an agent."""

    STARTED, EXITED, FAILED, REPORTS, RAW, STACKS, NOTE, ENDED, FAULT, TICK = range(1, 11)


class ProtocolError(Exception):
    """No message that was to be expected came over the connection."""


class Outgoing:
    """Bytes that are to be sent.

    Args:
        sock: The socket; it does not block.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._views: deque[memoryview] = deque()
        self._num_put = self._num_sent = 0
        self._when_sent: deque[tuple[int, Callable[[], None]]] = deque()
        self._has_sendmsg = not isinstance(sock, ssl.SSLSocket)

    def put(self, kind: int, key: int, body: Bytes = b"", *payloads: Bytes) -> None:
        """Queue a message; payloads are not copied."""
        self._put(memoryview(HEAD.pack(kind, key, len(body)) + body))
        for payload in payloads:
            self._put(memoryview(payload))

    def put_sized(self, kind: int, key: int, nbytes: int, *pieces: Bytes) -> None:
        """Queue a message whose body is in several pieces, of so many bytes together; they are not copied."""
        self._put(memoryview(HEAD.pack(kind, key, nbytes)))
        for piece in pieces:
            self._put(memoryview(piece))

    def _put(self, view: memoryview) -> None:
        if view.nbytes:  # an empty one could not be sent, and so never be over
            self._views.append(view)
            self._num_put += view.nbytes

    def when_sent(self, call: Callable[[], None]) -> None:
        """Call this when all that was put until now is sent."""
        self._when_sent.append((self._num_put, call))

    @property
    def is_empty(self) -> bool:
        """True if all is sent."""
        return not self._views

    def flush(self) -> bool:
        """Send what the socket takes; True if that was all.

        Raises:
            OSError: The connection has ended.
        """
        while self._views:
            try:
                count = self._send()
            except _NOT_NOW:
                break
            self._drop(count)
        while self._when_sent and self._when_sent[0][0] <= self._num_sent:
            self._when_sent.popleft()[1]()
        return not self._views

    def _send(self) -> int:
        if self._has_sendmsg:
            return self._sock.sendmsg(islice(self._views, _MAX_VIEWS), (), platform_support.NO_SIGPIPE)
        return self._sock.send(self._views[0])

    def _drop(self, count: int) -> None:
        self._num_sent += count
        while count:
            first = self._views[0]
            if first.nbytes > count:
                self._views[0] = first[count:]
                return
            count -= first.nbytes
            self._views.popleft()


class Incoming:
    """Messages as they are received.

    Args:
        sock: The socket; it does not block.
        messages: Parses it: yields what it needs next.
    """

    def __init__(self, sock: socket.socket, messages: Messages) -> None:
        self._sock, self._messages = sock, messages
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._start = self._end = 0  # of what was received and not parsed
        self._wants: Wants = next(messages)
        self._filled = 0  # of a view
        self._is_encrypted = isinstance(sock, ssl.SSLSocket)

    def take(self) -> bool:
        """Receive and parse what is there; False at the end of the connection.

        Raises:
            OSError: The connection has ended.
            ProtocolError: That is no message.
        """
        num_received = 0
        while num_received < _MAX_RECEIVES or self._is_encrypted:  # what TLS has decrypted, no poll tells of
            self._parse()
            try:
                count = self._receive()
            except _NOT_NOW:
                return True
            if not count:
                return False
            num_received += 1
        self._parse()
        return True

    def _receive(self) -> int:
        wants = self._wants
        if isinstance(wants, memoryview):
            count = self._sock.recv_into(wants[self._filled :])
            self._filled += count
            return count
        have = self._end - self._start
        if self._start:
            self._scratch[:have] = bytes(self._scratch[self._start : self._end])
            self._start, self._end = 0, have
        if wants > _SCRATCH_BYTES:
            raise ProtocolError(f"a message of {wants} bytes")
        count = self._sock.recv_into(self._scratch[have:])
        self._end += count
        return count

    def _parse(self) -> None:
        """Give the parser what it wants, as long as that is there."""
        while True:
            wants, have = self._wants, self._end - self._start
            if isinstance(wants, memoryview):
                count = min(have, wants.nbytes - self._filled)
                if count:
                    wants[self._filled : self._filled + count] = self._scratch[self._start : self._start + count]
                    self._start += count
                    self._filled += count
                if self._filled < wants.nbytes:
                    return
                self._filled = 0
                self._wants = next(self._messages)
            else:
                if have < wants:
                    return
                data = bytes(self._scratch[self._start : self._start + wants])
                self._start += wants
                self._wants = self._messages.send(data)


def prepare(sock: socket.socket, deadline_s: float) -> None:
    """Set a connected socket up: it does not block any more, and learns from the kernel that the other side is gone.

    The kernel of the other machine answers its probes, whatever the process there is doing.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probe_s = max(1, int(deadline_s / 3))
    for name, value in (("TCP_KEEPIDLE", probe_s), ("TCP_KEEPINTVL", probe_s), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def enlarge_buffers(sock: socket.socket) -> None:
    """Have the kernel take more at a time; to be called before the socket is connected, or listens."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)


def uses_tls() -> bool:
    """Return whether Ray's own connections are encrypted here."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in {"1", "true"}


def wrap(sock: socket.socket, *, is_server: bool) -> socket.socket:
    """Encrypt a connection by Ray's certificates; each side must have one that the authority of both has signed.

    Raises:
        OSError: The certificates cannot be read, or the other side has none.
    """
    purpose = ssl.Purpose.CLIENT_AUTH if is_server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=os.environ["RAY_TLS_CA_CERT"])
    context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    context.check_hostname = False  # nodes are known by address, as in Ray's own connections
    context.verify_mode = ssl.CERT_REQUIRED
    return context.wrap_socket(sock, server_side=is_server)


def read_greeting(sock: socket.socket, token: bytes) -> int | None:
    """Have whoever has connected prove himself; return the number of his link, None: he has not the token.

    Raises:
        OSError: He said nothing in time, or is gone.
    """
    vetting = Vetting(sock, token)
    try:
        while not vetting.hear():
            pass
    except ForeignPeer:
        return None
    data = b""
    while len(data) < NUMBER.size:
        piece = sock.recv(NUMBER.size - len(data))
        if not piece:
            return None
        data += piece
    return int(NUMBER.unpack(data)[0])


def greet(sock: socket.socket, token: bytes, number: int) -> None:
    """Say who we are to the trainer, and have it prove that it is the one.

    Raises:
        ForeignPeer: It is not.
        OSError: It is gone.
    """
    prove(sock, token)
    sock.sendall(NUMBER.pack(number))
