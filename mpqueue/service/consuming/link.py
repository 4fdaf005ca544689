"""The consumer's side of a connection: sends requests and receives records.

A wait ends with a record, with the end of the socket, or with the exit of the server's process, which its pidfd
reports: a process forked from the server may keep the socket open. Data that arrived before the exit is read first,
because it may contain the reason.

A signal handler may raise between any two bytecodes of the main thread. So the result of a system call is stored in the
same C call that makes it: ``list.extend(map(call, ...))``, without a chance for a handler to run. A received message is
in `_came` until its records are in `arrived`; a sent request has an entry in the caller's list.
"""

import contextlib
import mmap
import select
import socket
import time
from collections import deque
from typing import Any, NamedTuple

from mpqueue.errors import ConsumerDied, MPQueueError, ServiceDied, ServiceError
from mpqueue.service.protocol.records import (
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
from mpqueue.system.descriptors import descriptors
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.locks import RLock
from mpqueue.transport.poller import READABLE, Poller, close_poller, make_poller
from mpqueue.transport.records import ProtocolError

_NO_WAIT = (socket.MSG_DONTWAIT,)
_NO_SIGNAL = (socket.MSG_NOSIGNAL,)
_ONE_MESSAGE = (MAX_MESSAGE + 1,)  # one byte more than allowed: a longer message is cut off and fails to parse
_MOST_RECORDS = 1 << 14  # the most that a server may send ahead; more than any window
_clock = time.perf_counter_ns


class Death(NamedTuple):
    """The reason why a connection was closed.

    Attributes:
        kind: The class of the exception to raise.
        text: Its message.
        is_final: True if reconnecting to another server is useless.
    """

    kind: type[MPQueueError]
    text: str
    is_final: bool

    def error(self) -> MPQueueError:
        """Return the exception."""
        return self.kind(self.text)


class ServerLink:
    """One connection to a server.

    Args:
        connection: A connected socket after the handshake, registered in `mpqueue.system.descriptors.descriptors`.
        Owned.
        sentinel: A pidfd of the server, registered there; -1 if absent. Owned.
        name: Name of the server, for messages.

    Attributes:
        arrived: Received records that were not delivered yet, in order.
        death: Reason for closing the connection; None while it is open.
        wait_ns: Nanoseconds spent waiting.
    """

    def __init__(self, connection: socket.socket, sentinel: int, name: str) -> None:
        self._connection, self._sentinel, self._name = connection, sentinel, name
        # Looked up once: each batch costs one send and one receive.
        self._send, self._receive = connection.send, connection.recv
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if sentinel >= 0:
            poll.register(sentinel, select.POLLIN)
        self._poll = poll.poll
        self._poller: Poller | None = None  # for event loops, which wait for one descriptor
        self._came: deque[bytes] = deque()
        self._parsed: tuple[bytes, list[Any]] | None = None
        # Held to close the descriptors, and by a thread that uses them without the consumer's lock.
        # Re-entrant: a garbage collection inside may close the link.
        self._closing = RLock()
        self._has_left = False
        self.arrived: deque[Offer | Text] = deque()
        self.death: Death | None = None
        self.wait_ns = 0

    def send(self, message: bytes, sent: list[int]) -> None:
        """Send a request, and wait for room in the socket if necessary; has no effect if the connection was closed.

        Args:
            message: The request.
            sent: Gets an entry once the request is sent, even if an exception is raised then.
        """
        if self.death is not None:
            return
        try:
            sent.extend(map(self._send, (message,), _NO_SIGNAL))
        except ConnectionError:
            # A `CUT` that arrived before the end contains the reason, and is raised instead of the bare disconnection.
            self.look()
            if self.death is None:
                self._die(self._make_death())

    def send_nowait(self, message: bytes) -> None:
        """Send a request if the socket has room for it."""
        if self.death is None:
            with contextlib.suppress(ConnectionError, BlockingIOError):
                self._send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def fileno(self) -> int:
        """Return a descriptor that is readable when a record has arrived or the server has exited."""
        if self.death is not None:
            raise OSError("the connection is closed")
        # Created on first use: a loop without tasks waits with `poll`, and needs no descriptor for it.
        if self._poller is None:
            self._poller = make_poller()
            self._poller.register(self._connection.fileno(), READABLE)
            if self._sentinel >= 0:
                self._poller.register(self._sentinel, READABLE)
        return self._poller.fileno()

    def look(self) -> None:
        """Receive the messages that have arrived, without waiting."""
        while self.death is None and (events := self._poll(0)):
            self._take(events)

    def wait(self) -> None:
        """Wait for a message or for the end of the server, and receive it."""
        # Measure only the `poll`: receiving and parsing is not a wait for the server.
        started = _clock()
        events = self._poll()
        self.wait_ns += _clock() - started
        self._take(events)

    def _take(self, events: list[tuple[int, int]]) -> None:
        try:
            self._came.extend(map(self._receive, _ONE_MESSAGE, _NO_WAIT))
        except (ConnectionResetError, BlockingIOError) as error:
            if isinstance(error, ConnectionResetError):
                # The server exited with unread requests. The kernel reports the reset once, before the remaining data,
                # so read again.
                return
            # Only now, with no data left to read, does the exit of the process end the connection.
            if any(fd == self._sentinel for fd, _ in events):
                self._die(self._make_death())
            return
        self._parse()

    def _parse(self) -> None:
        came, arrived = self._came, self.arrived
        while came:
            message = came[0]
            try:
                records = unpack_down(message) if message else None
            except ProtocolError as error:
                self.fail(str(error))
                return
            if records is None:  # an empty message is the end of the socket
                self._die(self._make_death())
                return
            first = records[0]
            if isinstance(first, Text) and first.kind == ToConsumer.CUT:
                self._die(self._death_of(first))
                return
            # A `RECALL` is applied with one assignment; repeating it after an interrupt has no effect.
            if first.kind == ToConsumer.RECALL:
                self.arrived = arrived = deque(record for record in arrived if not _is_recalled(record, first.id))
                came.popleft()
                continue
            # No signal handler runs inside `extend`: if the last record of `_parsed` has arrived, all have.
            self._parsed = message, records
            arrived.extend(records)
            came.popleft()
        # The server may belong to another user, and must not decide how much memory this process uses.
        if len(arrived) > _MOST_RECORDS:
            self.fail(f"{len(arrived)} records ahead of the consumer, expected at most {_MOST_RECORDS}")

    def recover(self) -> None:
        """Complete the steps that an interrupt has cut off."""
        came, arrived, parsed = self._came, self.arrived, self._parsed
        # The interrupt occurred between `extend` and `popleft`: the records of this message have arrived already, and
        # must not be added twice.
        if came and parsed is not None and parsed[0] is came[0] and arrived and arrived[-1] is parsed[1][-1]:
            came.popleft()
        # Parse received messages now: no descriptor is readable anymore that would indicate them.
        if self.death is None:
            self._parse()

    # -- The end

    def fail(self, what: str) -> MPQueueError:
        """End the connection: the server has sent invalid data. Return the exception for that."""
        text = f"the server {self._name!r} sent invalid data ({what}): use the same version of mpqueue on both ends"
        death = Death(ServiceError, text, is_final=True)
        self._die(death)
        return death.error()

    def _make_death(self) -> Death:
        text = f"the server {self._name!r} has exited: it sends no more batches; views of delivered ones remain valid"
        return Death(ServiceDied, text, is_final=False)

    def _death_of(self, cut: Text) -> Death:
        why = cut.body.decode("utf-8", "replace")
        if cut.flags == DETACHED:
            text = f"the server {self._name!r} has detached this consumer: {why}"
        elif cut.flags == LOST:
            text = f"the server {self._name!r} has lost another consumer of the group: {why}"
        else:
            return Death(ServiceDied, f"{self._name!r}: {why}", is_final=True)
        return Death(ConsumerDied, text, is_final=True)

    def _die(self, death: Death) -> None:
        with defer_signals(), self._closing:
            self.death = death
            # After LEAVE, the server would write to all slots again, and this thread has views: `linger` closes it.
            if not self._has_left:
                descriptors.close_object(self._connection)
            self._close_waits()

    def leave(self, how: int = 0) -> None:
        """Notify the server, without waiting, that the consumer leaves. ``how``: see `DROPPED`."""
        self._has_left = True
        self.send_nowait(pack_request(ToServer.LEAVE, how))

    def leave_concurrently(self) -> None:
        """Leave although another thread uses this link: notify the server, and wake the thread if it waits."""
        with defer_signals(), self._closing:
            if self.death is not None:  # the other thread has closed the socket, and its number may be another file's
                return
            self.leave()
            with contextlib.suppress(OSError):  # the server has exited
                # Only the receiving side: for the server, the end of the sending side means that no view is left.
                self._connection.shutdown(socket.SHUT_RD)

    def linger(self, memory: mmap.mmap) -> None:
        """Stop using the connection, and close it when no view of this memory is left; idempotent."""
        with defer_signals(), self._closing:
            self._close_waits()
            # Keep the socket open as long as the memory is mapped. Closing it, after LEAVE, then informs the server
            # that no view is left.
            descriptors.close_with(memory, self._connection)
            if self.death is None:
                text = f"the connection to the server {self._name!r} was closed"
                self.death = Death(ServiceDied, text, is_final=True)

    def _close_waits(self) -> None:
        """Close the descriptors that were only polled."""
        # Forget the number before closing it: after an interrupt, a second close could hit a reused descriptor.
        sentinel, self._sentinel = self._sentinel, -1
        if sentinel >= 0:
            descriptors.close(sentinel)
        poller, self._poller = self._poller, None
        if poller is not None:
            close_poller(poller)


def _is_recalled(record: Offer | Text, last: int) -> bool:
    """Return True for an END, and for a batch or exception of a higher id."""
    return record.kind == ToConsumer.END or (record.kind in BATCHES and record.id > last)
