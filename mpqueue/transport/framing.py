"""Messages over non-blocking stream sockets, sent and received without copies where possible.

A process that waits for many descriptors in one `poll` must not block in a send or a receive. Outgoing data is a queue
of views, not copies: the bytes of a slot must not change until `Outgoing.when_sent` reports that the kernel has copied
them. Incoming data is parsed by a generator. It yields a number of bytes, which it then gets, or a view to be filled,
such as that of a slot. If a process exits, its connection ends, and incomplete messages are dropped.

The alternatives lack one of these. `multiprocessing.connection` blocks within a message, and needs 1,420 µs of CPU for
a message of 1 MB, where this module needs 300 (medians of 5 interleaved rounds; for 72 bytes it needs 7, and this
module 15). ZeroMQ needs 260 µs, but then the bytes must still be copied into the slot, and it sends no descriptors.

Descriptors are sent with the first byte of a message, over Unix sockets only, and belong to the receiver.
"""

import array
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any

from mpqueue.system.descriptors import descriptors
from mpqueue.transport.records import Bytes, ProtocolError

Wants = int | memoryview
Messages = Generator[Wants, Any, None]

_SCRATCH_BYTES = 1 << 16
_MAX_VIEWS = 64  # per call; the kernel accepts at most 1,024
_DESCRIPTORS = [socket.SOL_SOCKET, socket.SCM_RIGHTS]  # the kind of ancillary data
_MAX_RECEIVES = 32  # per call of `take`, before other connections get their turn


_PLAIN: tuple[type[OSError], ...] = (BlockingIOError,)


def _not_now(sock: socket.socket) -> tuple[type[OSError], ...]:
    """Return the exceptions with which a socket reports that it would block; `_PLAIN` if it is not encrypted."""
    if not hasattr(sock, "do_handshake"):
        return _PLAIN
    import ssl  # takes 15 ms, and most processes never need it

    return BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError


class Outgoing:
    """A queue of bytes to send.

    Args:
        sock: The socket, non-blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._views: deque[memoryview] = deque()
        self._num_put = self._num_sent = 0
        self._when_sent: deque[tuple[int, Callable[[], None]]] = deque()
        self._not_now = _not_now(sock)

    def put(self, *pieces: Bytes) -> None:
        """Queue the parts of a message without copying them."""
        for piece in pieces:
            view = memoryview(piece)
            if view.nbytes:  # an empty view would never be removed from the queue
                self._views.append(view)
                self._num_put += view.nbytes

    def when_sent(self, call: Callable[[], None]) -> None:
        """Call a function once everything queued so far is sent."""
        self._when_sent.append((self._num_put, call))

    @property
    def is_empty(self) -> bool:
        """True if everything is sent."""
        return not self._views

    def flush(self) -> bool:
        """Send as much as the socket accepts; return True if everything is sent.

        Raises:
            OSError: The connection was closed.
        """
        while self._views:
            try:
                count = self._send()
            except self._not_now:
                break
            self._drop(count)
        # Even if the socket is full, an earlier message may have been sent completely.
        while self._when_sent and self._when_sent[0][0] <= self._num_sent:
            self._when_sent.popleft()[1]()
        return not self._views

    def _send(self) -> int:
        if self._not_now is _PLAIN:
            # MSG_NOSIGNAL: CPython ignores SIGPIPE at its start, but a program may restore the default, which ends the
            # process.
            return self._sock.sendmsg(islice(self._views, _MAX_VIEWS), (), socket.MSG_NOSIGNAL)
        # TLS has no `sendmsg`, and a failed send must be repeated with the same bytes.
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
    """A parser of received messages.

    Args:
        sock: The socket, non-blocking.
        messages: The parsing generator, which yields its next need.
    """

    def __init__(self, sock: socket.socket, messages: Messages) -> None:
        self._sock, self._messages = sock, messages
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._start = self._end = 0  # of received data that is not parsed yet
        self._wants: Wants = next(messages)
        self._filled = 0  # bytes of the current view
        self._not_now = _not_now(sock)

    def take(self) -> bool:
        """Receive and parse the available data; return False at the end of the connection.

        Raises:
            OSError: The connection was closed.
            ProtocolError: The data is invalid.
        """
        num_received = 0
        # A plain socket with more data is readable at the next poll. Data that TLS has already decrypted does not make
        # a socket readable, so read all of it.
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
        # Receive directly into the view. `_parse` has copied the bytes that were received before the view was
        # requested.
        if isinstance(wants, memoryview):
            count = self._sock.recv_into(wants[self._filled :])
            self._filled += count
            return count
        have = self._end - self._start
        # Move the incomplete message to the beginning, through a copy, because both ranges may overlap.
        if self._start:
            self._scratch[:have] = bytes(self._scratch[self._start : self._end])
            self._start, self._end = 0, have
        # Check before allocating memory: the peer chose this number.
        if wants > _SCRATCH_BYTES:
            raise ProtocolError(f"expected a message of at most {_SCRATCH_BYTES} bytes, got {wants}")
        count = self._sock.recv_into(self._scratch[have:])
        self._end += count
        return count

    def _parse(self) -> None:
        """Send data to the generator as long as its next need is available."""
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
    """Send the beginning of a message together with descriptors; return the number of bytes sent, at least 1.

    Raises:
        OSError: The peer has closed the connection, or the socket is full.
    """
    # On a stream socket, Linux sends descriptors only together with at least one byte.
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    return sock.sendmsg([data], ancillary, flags | socket.MSG_NOSIGNAL)


class DescriptorsLost(OSError):
    """The kernel dropped received descriptors because this process has too many open files."""

    def __init__(self) -> None:
        super().__init__(
            errno.EMFILE, "too many open files to receive a descriptor from another process; check `ulimit -n`"
        )


def receive_with_descriptors(sock: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Receive the beginning of a message together with its descriptors, which the caller must close.

    Args:
        sock: The socket.
        size: Maximum number of bytes.
        most: Maximum number of descriptors; the kernel drops others.

    Raises:
        DescriptorsLost: Received descriptors could not be opened in this process; the message is lost.
        OSError: The connection was closed.
    """
    # Not by `socket.recv_fds`, which ignores its flags (CPython up to 3.14): a program that another thread starts at
    # this moment would inherit the descriptors.
    # CMSG_LEN, not CMSG_SPACE: for an odd number, its padding would make room for one more descriptor.
    room = socket.CMSG_LEN(most * array.array("i").itemsize)
    data, ancillary, flags, _address = sock.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    fds = [fd for *kind, packed in ancillary if kind == _DESCRIPTORS for fd in _unpacked(packed)]
    # The flag is also set if more descriptors arrived than `most`.
    # The kernel installs the descriptors one by one, and cuts the list at the first that this process has no room for.
    if flags & socket.MSG_CTRUNC and len(fds) < most:
        close_descriptors(fds)
        raise DescriptorsLost
    return data, descriptors.all_above_standard(fds)


def _unpacked(packed: bytes) -> list[int]:
    fds = array.array("i")
    fds.frombytes(packed[: len(packed) - len(packed) % fds.itemsize])
    return fds.tolist()


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Wait for `size` bytes and return them.

    Raises:
        ConnectionResetError: The connection ended before.
    """
    data = bytearray(size)
    receive_into(sock, memoryview(data))
    return bytes(data)


def receive_into(sock: socket.socket, view: memoryview) -> None:
    """Wait until the view is filled.

    Raises:
        ConnectionResetError: The connection ended before.
    """
    while view.nbytes:
        count = sock.recv_into(view)
        if not count:
            raise ConnectionResetError("the peer closed the connection")
        view = view[count:]


def close_descriptors(fds: Sequence[int]) -> None:
    """Close received descriptors that were not registered."""
    for fd in fds:
        os.close(fd)
