"""Messages over stream sockets that never block: pieces go out in order, bytes come straight where they belong.

Whoever waits for many things in one `poll` may block neither in a send nor in a receive. What is sent is a queue of
views, not copies: the bytes of a slot stay as they are until `Outgoing.when_sent` tells that the kernel has copied
them. What is received is parsed by a generator that yields what it needs next: a number of bytes, which it is given, or
a view that is to be filled, such as that of a slot. With the end of its process the end of the connection comes; what
is there of a message then is nothing.

Descriptors go with the first byte of a message, over Unix sockets only, and belong to who receives them.
"""

import array
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any

from mpqueue.system import descriptors, socket_support
from mpqueue.transport.records import Bytes, ProtocolError

Wants = int | memoryview
Messages = Generator[Wants, Any, None]

_SCRATCH_BYTES = 1 << 16
_MAX_VIEWS = 64  # of a stream, in one call; the kernel takes at most 1,024
_MAX_RECEIVES = 32  # before others are looked at


_PLAIN: tuple[type[OSError], ...] = (BlockingIOError,)


def _not_now(sock: socket.socket) -> tuple[type[OSError], ...]:
    """Return what a socket raises that has nothing, or no room, now; `_PLAIN` for one that is not encrypted."""
    if not hasattr(sock, "do_handshake"):
        return _PLAIN
    import ssl  # 15 ms that most processes never need: not at the top, for the sake of fork servers

    return BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError


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
        self._not_now = _not_now(sock)

    def put(self, *pieces: Bytes) -> None:
        """Queue the pieces of a message; they are not copied."""
        for piece in pieces:
            view = memoryview(piece)
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
            except self._not_now:
                break
            self._drop(count)
        # Also where the socket is full: a message that was put earlier may be sent as a whole by now.
        while self._when_sent and self._when_sent[0][0] <= self._num_sent:
            self._when_sent.popleft()[1]()
        return not self._views

    def _send(self) -> int:
        if self._not_now is _PLAIN:
            return self._sock.sendmsg(islice(self._views, _MAX_VIEWS), (), socket_support.NO_SIGPIPE)
        # TLS has no `sendmsg`; and what it could not send it must be given again, the same bytes.
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
        self._not_now = _not_now(sock)

    def take(self) -> bool:
        """Receive and parse what is there; False at the end of the connection.

        Raises:
            OSError: The connection has ended.
            ProtocolError: That is no message.
        """
        num_received = 0
        # A plain socket with more tells so at the next poll; what TLS has decrypted, no poll tells of.
        while num_received < _MAX_RECEIVES or self._not_now is not _PLAIN:
            self._parse()
            try:
                count = self._receive()
            except self._not_now:
                return True
            if not count:
                return False
            num_received += 1
        self._parse()
        return True

    def _receive(self) -> int:
        wants = self._wants
        # Straight to where it belongs: what was received before the view was wanted, `_parse` has copied there.
        if isinstance(wants, memoryview):
            count = self._sock.recv_into(wants[self._filled :])
            self._filled += count
            return count
        have = self._end - self._start
        # To the beginning, by a copy, as both parts may overlap: it is the part of one message, or nothing.
        if self._start:
            self._scratch[:have] = bytes(self._scratch[self._start : self._end])
            self._start, self._end = 0, have
        # Before any memory is taken for it: the number is the other side's.
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


def send_with_descriptors(sock: socket.socket, data: bytes, fds: Sequence[int], flags: int = 0) -> int:
    """Send the beginning of a message, at least a byte, and descriptors with that; return how much was sent.

    Raises:
        OSError: The other end is gone, or there is no room now.
    """
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    return sock.sendmsg([data], ancillary, flags | socket_support.NO_SIGPIPE)


class DescriptorsLost(OSError):
    """The kernel dropped descriptors that came with a message: this process has too many open files."""

    def __init__(self) -> None:
        super().__init__(
            errno.EMFILE, "too many open files to receive a descriptor from another process; check `ulimit -n`"
        )


def receive_with_descriptors(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Receive the beginning of a message, and the descriptors that came with it, which are the caller's to close.

    Args:
        sock: The socket.
        size: Most bytes.
        most: Most descriptors; the kernel drops others.

    Raises:
        DescriptorsLost: Descriptors that came could not be opened here; the message is lost.
        OSError: The connection has ended.
    """
    data, fds, flags, _address = socket.recv_fds(sock, size, most, socket_support.CLOSE_ON_EXEC)
    # The flag also says that more came than were wanted.
    if flags & socket.MSG_CTRUNC and len(fds) < most:
        close_descriptors(fds)
        raise DescriptorsLost
    for fd in fds:
        os.set_inheritable(fd, False)  # where there is no such flag; as all descriptors that Python makes itself
    return data, [*map(descriptors.above_standard, fds)]


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Wait for so many bytes.

    Raises:
        ConnectionResetError: The connection has ended before.
    """
    data = bytearray(size)
    receive_into(sock, memoryview(data))
    return bytes(data)


def receive_into(sock: socket.socket, view: memoryview) -> None:
    """Wait until a view is filled.

    Raises:
        ConnectionResetError: The connection has ended before.
    """
    while view.nbytes:
        count = sock.recv_into(view)
        if not count:
            raise ConnectionResetError("the other end has ended the connection")
        view = view[count:]


def close_descriptors(fds: Sequence[int]) -> None:
    """Close descriptors that came and that nobody has noted."""
    for fd in fds:
        os.close(fd)
