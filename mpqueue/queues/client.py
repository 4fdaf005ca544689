"""The owner's side of one connection: what it was granted, what it waits for, what it has not read yet."""

import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpqueue.queues.requests import Request
from mpqueue.queues.windows import Producer
from mpqueue.queues.wire import HEAD
from mpqueue.system import descriptors

if TYPE_CHECKING:
    from mpqueue.queues.core import QueueCore
    from mpqueue.queues.share import Share
    from mpqueue.queues.tally import Tally

_log = logging.getLogger(__name__)
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Client:
    """One thread of another process.

    Args:
        number: Says in its records who it is.
        process_id: Its process.
        sock: Its connection.
        on_full: Called when answers have to wait until the socket takes them.

    Attributes:
        granted: Empty blocks that it may write to, by size class, in the order in which it will.
        filled: Blocks that it has written, to be enqueued with the next call.
        waiting: Its calls in line, by their number.
        delivered: Blocks that it was given to read, by the number of the call.
        shares: Queues that it uses, by number,
        cores: and what keeps them alive as long as it lives;
        producers: its windows there.
        places: Words of shared memory that are its own: limits, and cells of tallies.
        has_ended: Its process has ended, or has left, as an answer found; the watch will tell.
        owes: Where, and after how many elements, it is to enqueue what it was granted when memory was short.
        is_cut: It said what cannot be, and is not served any more; its process may live on.
        tallies: What it counts for.
    """

    def __init__(self, number: int, process_id: int, sock: socket.socket, on_full: Callable[["Client"], None]) -> None:
        self.number, self.process_id, self.sock, self._on_full = number, process_id, sock, on_full
        descriptors.own_object(sock)
        sock.setblocking(False)
        self.granted: dict[int, deque[int]] = {}
        self.filled: list[int] = []
        self.waiting: dict[int, Request] = {}
        self.delivered: dict[int, list[int]] = {}
        self.shares: dict[int, Share] = {}
        self.cores: dict[int, QueueCore] = {}
        self.producers: dict[int, Producer] = {}
        self.places: list[int] = []
        self.tallies: set[Tally] = set()
        self.is_gone = self.is_cut = self.has_ended = False
        self.owes: tuple[Producer, int] | None = None
        self._outbox = bytearray()

    def fill(self, size_class: int, count: int) -> None:
        """It has written the next blocks of a class."""
        granted = self.granted.get(size_class, ())
        if count > len(granted):
            raise ProtocolError(f"{count} blocks of class {size_class} were filled, {len(granted)} are granted")
        self.filled += [granted.popleft() for _ in range(count)]  # type: ignore[union-attr]

    def answer(self, kind: int, number: int, one: int = 0, two: int = 0, data: bytes = b"") -> None:
        """Send an answer; never blocks."""
        if self.is_gone:
            return
        message = HEAD.pack(kind, number, one, two, len(data)) + data
        if self._outbox:
            self._outbox += message
            return
        self._outbox += message[self._send(message) :]
        if self._outbox:
            self._on_full(self)

    def flush(self) -> bool:
        """Send what had to wait; True if that was all."""
        del self._outbox[: self._send(self._outbox)]
        return not self._outbox

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self.sock.send(data, _FLAGS)
        except BlockingIOError:
            return 0
        except OSError:
            self.has_ended = True
            return len(data)  # nobody will ask for it

    def cut(self, why: str) -> None:
        """Serve it no longer: its calls fail, and its end follows."""
        _log.error("process %d is cut off from the queues of this process: %s", self.process_id, why)
        self.is_cut = True
        self.sock.shutdown(socket.SHUT_RDWR)

    @property
    def num_granted(self) -> int:
        """Empty blocks that it has."""
        return sum(map(len, self.granted.values()))

    def close(self) -> None:
        """It is gone."""
        self.is_gone = True
        while self.tallies:
            self.tallies.pop().close(self)
        descriptors.close_object(self.sock)


class ProtocolError(Exception):
    """A client says what cannot be: it is cut off."""
