"""The consumer's end of a connection: requests out, records in.

Whoever waits here waits for the server's records and for its death at once: for the socket's end, and for the pidfd of
the server, because a process that was forked from it may keep the socket open. What has come before the death is read
first: it may say why.

A signal handler may raise between any two bytecodes of the main thread. So what a system call has done is noted in the
same breath: ``list.extend(map(call, ...))`` makes the call and keeps its result in C, where no handler runs. A message
that was received is in `_came` until its records are in `arrived`, and a request that was sent is in the list that the
caller gave.
"""

import contextlib
import mmap
import select
import socket
import time
from collections import deque
from typing import Any, NamedTuple

from mpqueue.errors import ConsumerDied, MPQueueError, ServiceDied, ServiceError
from mpqueue.service.records import (
    BATCHES,
    DETACHED,
    LOST,
    MAX_MESSAGE,
    Offer,
    Text,
    ToConsumer,
    ToServer,
    pack_request,
    unpack_down,
)
from mpqueue.system import descriptors
from mpqueue.system.interrupts import defer_signals, is_of_handler
from mpqueue.transport.poller import READABLE, Poller, close_poller, make_poller
from mpqueue.transport.records import ProtocolError

_NO_WAIT = (socket.MSG_DONTWAIT,)
_NO_SIGNAL = (socket.MSG_NOSIGNAL,)
_ONE_MESSAGE = (MAX_MESSAGE + 1,)  # one more than there may be: a longer one is cut off, and does not parse
_MOST_RECORDS = 1 << 14  # that a server sends ahead of its consumer; more than any window has
_clock = time.perf_counter_ns


class Death(NamedTuple):
    """Why nothing comes any more.

    Attributes:
        kind: The class of the error that tells of it.
        text: Its text.
        is_final: No other server can go on.
    """

    kind: type[MPQueueError]
    text: str
    is_final: bool

    def error(self) -> MPQueueError:
        """Return the error that tells of it."""
        return self.kind(self.text)


class ServerLink:
    """One connection to a server.

    Args:
        connection: A connected socket, noted in `mpqueue.system.descriptors`, whose handshake is over. Owned.
        sentinel: A pidfd of the server, noted there; -1: there is none. Owned.
        name: Of the server, for messages.

    Attributes:
        arrived: Records that were received and not handed out, in their order.
        death: Why nothing comes any more; None: the server lives.
        wait_ns: Nanoseconds that were spent in waiting.
    """

    def __init__(self, connection: socket.socket, sentinel: int, name: str) -> None:
        self._connection, self._sentinel, self._name = connection, sentinel, name
        self._send, self._receive = connection.send, connection.recv
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if sentinel >= 0:
            poll.register(sentinel, select.POLLIN)
        self._poll = poll.poll
        self._poller: Poller | None = None  # of an event loop, which waits for one descriptor
        self._came: deque[bytes] = deque()
        self._parsed: tuple[bytes, list[Any]] | None = None
        self.arrived: deque[Offer | Text] = deque()
        self.death: Death | None = None
        self.wait_ns = 0

    def send(self, message: bytes, sent: list[int]) -> None:
        """Send a request, and wait as long as the server has no room for it; nothing if the server is dead.

        Args:
            message: The request.
            sent: Gets an entry as soon as it is sent, whatever is raised then.
        """
        if self.death is not None:
            return
        try:
            sent.extend(map(self._send, (message,), _NO_SIGNAL))
        except ConnectionError as error:
            if is_of_handler(error):
                raise
            # What it has said before its end may say why: a CUT is told in place of the bare death.
            self.look()
            if self.death is None:
                self._die(self._gone())

    def send_nowait(self, message: bytes) -> None:
        """Send a request if the server has room for it."""
        if self.death is None:
            with contextlib.suppress(ConnectionError, BlockingIOError):
                self._send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to receive, or the server is dead."""
        if self.death is not None:
            raise OSError("the connection is closed")
        # Only for who asks: a loop without tasks waits by one `poll`, and needs no descriptor for it.
        if self._poller is None:
            self._poller = make_poller()
            self._poller.register(self._connection.fileno(), READABLE)
            if self._sentinel >= 0:
                self._poller.register(self._sentinel, READABLE)
        return self._poller.fileno()

    def look(self) -> None:
        """Receive what has come, without waiting."""
        while self.death is None and (events := self._poll(0)):
            self._take(events)

    def wait(self) -> None:
        """Receive at least one message, or the news that the server is dead."""
        # Not what follows: to receive and to parse is no wait for the server.
        started = _clock()
        events = self._poll()
        self.wait_ns += _clock() - started
        self._take(events)

    def _take(self, events: list[tuple[int, int]]) -> None:
        try:
            self._came.extend(map(self._receive, _ONE_MESSAGE, _NO_WAIT))
        except (ConnectionResetError, BlockingIOError) as error:
            if is_of_handler(error):
                raise
            if isinstance(error, ConnectionResetError):
                return  # it is told once, and before what has come: the server left while it had unread requests
            # Its process has ended, and nothing is left to be read: now, and not before, it is dead.
            if any(fd == self._sentinel for fd, _ in events):
                self._die(self._gone())
            return
        self._parse()

    def _parse(self) -> None:
        came, arrived = self._came, self.arrived
        while came:
            message = came[0]
            try:
                found = unpack_down(message) if message else None
            except ProtocolError as error:
                self.fail(str(error))
                return
            if found is None:
                self._die(self._gone())
                return
            first = found[0]
            if isinstance(first, Text) and first.kind == ToConsumer.CUT:
                self._die(self._verdict(first))
                return
            if first.kind == ToConsumer.RECALL:  # by one assignment; to do it again changes nothing
                self.arrived = arrived = deque(record for record in arrived if not _is_above(record, first.number))
                came.popleft()
                continue
            # `extend` is one step, in which no handler strikes: if the last record of `_parsed` has arrived, all have.
            self._parsed = message, found
            arrived.extend(found)
            came.popleft()
        # The server may be another user's: it does not decide how much memory this process has.
        if len(arrived) > _MOST_RECORDS:
            self.fail(f"{len(arrived)} records ahead of those that were taken")

    def recover(self) -> None:
        """Finish what an interrupt has left half done."""
        came, arrived, parsed = self._came, self.arrived, self._parsed
        if came and parsed is not None and parsed[0] is came[0] and arrived and arrived[-1] is parsed[1][-1]:
            came.popleft()
        # Messages that were received and not parsed: no descriptor tells of them any more.
        if self.death is None:
            self._parse()

    # -- The end

    def fail(self, what: str) -> None:
        """End the connection: the server has sent what none of this version sends."""
        text = f"the server {self._name!r} sent {what}: use the same version of mpqueue on both ends"
        self._die(Death(ServiceError, text, is_final=True))

    def _gone(self) -> Death:
        text = f"the server {self._name!r} is gone: no more batches come, and views of those that came stay valid"
        return Death(ServiceDied, text, is_final=False)

    def _verdict(self, cut: Text) -> Death:
        why = cut.body.decode("utf-8", "replace")
        if cut.flags == DETACHED:
            text = f"the server {self._name!r} has detached this consumer: {why}"
        elif cut.flags == LOST:
            text = f"the server {self._name!r} has lost another consumer of the group: {why}"
        else:
            return Death(ServiceDied, f"{self._name!r}: {why}", is_final=True)
        return Death(ConsumerDied, text, is_final=True)

    def _die(self, death: Death) -> None:
        with defer_signals():
            self.death = death
            self.close()

    def leave(self, how: int = 0) -> None:
        """Tell the server that the consumer goes, as far as it listens now; ``how``: see `DROPPED`."""
        self.send_nowait(pack_request(ToServer.LEAVE, how))

    def shut(self) -> None:
        """Have whoever waits here in another thread wake up: as if the server were gone."""
        with contextlib.suppress(OSError):  # the server is gone, or the socket is closed, as it is in a forked child
            self._connection.shutdown(socket.SHUT_RD)  # the other way stays open: its end says that no view is left

    def linger(self, memory: mmap.mmap) -> None:
        """Use the connection no more, and close it when nobody looks at this memory any more.

        The server takes its end, after LEAVE, as the news that all slots may be written again.
        """
        with defer_signals():
            self._close_waits()
            descriptors.close_with(memory, self._connection)
            self.death = Death(ServiceDied, f"the connection to the server {self._name!r} was closed", is_final=True)

    def close(self) -> None:
        """Close the descriptors; idempotent."""
        if self.death is None:
            self.death = Death(ServiceDied, f"the connection to the server {self._name!r} was closed", is_final=True)
        with defer_signals():
            descriptors.close_object(self._connection)
            self._close_waits()

    def _close_waits(self) -> None:
        """Close what was only waited for."""
        sentinel, self._sentinel = self._sentinel, -1
        if sentinel >= 0:
            descriptors.close(sentinel)
        poller, self._poller = self._poller, None
        if poller is not None:
            close_poller(poller)


def _is_above(record: Offer | Text, number: int) -> bool:
    """Return True for a batch, or the exception in its place, of a higher number; specs and ends have other ones."""
    return record.kind in BATCHES and record.number > number
