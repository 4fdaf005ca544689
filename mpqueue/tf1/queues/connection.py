"""Connections of a process to the owner of the queues that it uses.

Each thread that uses queues has a `Connection` of its own, so that no thread waits for another's answer, and none has
to hand answers on. The memory and the pipe belong to the process, once per owner (`OwnerMapping`). A child that user
code forks inherits the objects, but uses neither: it connects for itself.

A thread of this process waits for an answer in one blocking read of its own socket; it has no other way of waiting.

A thread asks for empty blocks ahead of its need, and for twice as many each time: a lone enqueue holds few blocks, and
one that enqueues again and again waits for no answer.
"""

import contextlib
import os
import select
import socket
import threading
import time
import weakref
from typing import NamedTuple

import numpy as np

from mpqueue.engine import queue_address
from mpqueue.errors import OpError, SharedMemoryFull
from mpqueue.memory.arena import class_bytes, class_for, offset_of
from mpqueue.memory.segment import Segment
from mpqueue.system import descriptors
from mpqueue.system.interrupts import allow_signals, are_signals_deferred, defer_signals
from mpqueue.tf1.queues.absence import owner_gone, owner_unreachable
from mpqueue.tf1.queues.block_line import BlockLine
from mpqueue.tf1.queues.wire import HEAD, RECORD, Down, Place, Up, decode_error
from mpqueue.transport import listener as rendezvous
from mpqueue.transport.credentials import Address

_FIRST_BLOCKS = 4
_MOST_BLOCKS = 512
_FEWEST_BLOCKS = 2  # one to fill while the next is asked for
_MOST_BYTES = 1 << 20
_READ_BYTES = 1 << 16

_write, _pack = os.write, RECORD.pack


generation = [0]
"""Number of forks between this process and the one that was started; channels of another one are of no use."""


class Answer(NamedTuple):
    """A message of the owner; see `wire.Down`."""

    kind: int
    number: int
    one: int
    two: int
    data: bytes


class OwnerMapping:
    """One owner's memory and pipe, which all connections of this process to it share.

    Args:
        fds: The pipe and the memory, as received.
        size: Size of the memory in bytes.

    Attributes:
        segment: The owner's blocks.
        words: The same as 8-byte words.
        pipe: Takes records.
    """

    def __init__(self, fds: list[int], size: int) -> None:
        self.pipe = descriptors.own(fds[0])
        self.segment = Segment(fds[1], size, "shm")
        os.close(fds[1])  # the mapping has one of its own
        self.segment.fd = -1
        self.words = memoryview(self.segment.memory).cast("q")
        weakref.finalize(self, _close_own, self.pipe, generation[0]).atexit = False


_mappings: weakref.WeakValueDictionary[Address, OwnerMapping] = weakref.WeakValueDictionary()
_mappings_lock = threading.Lock()


class Connection:
    """One thread's connection to one owner.

    Args:
        place: The place of any of the owner's queues.

    Raises:
        CancelledError: The owner is gone.
        FailedPreconditionError: It lives, but cannot be reached from here.
        UnavailableError: It is a server, and gone or not to be reached.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.channels: weakref.WeakValueDictionary[int, QueueChannel] = weakref.WeakValueDictionary()
        self.last_call = 0
        self._low: dict[int, int] = {}
        self._num_wanted: dict[int, int] = {}
        if place.server:
            queue_address.note_server_used()
        self._open()

    def _open(self) -> None:
        try:
            self._sock = rendezvous.connect(self._place.address)
        except ConnectionError as error:
            raise owner_unreachable(self._place, error) from error
        descriptors.own_object(self._sock)
        self._close = descriptors.close_with(self, self._sock)
        self._buffer = bytearray()
        self.number, self.memory, self._mark = self._greet(self._place)
        self._pipe = self.memory.pipe
        self._blocks: dict[int, BlockLine] = {}
        self._is_wanted: set[int] = set()

    def renew(self) -> None:
        """Connect anew, after an exception that came from anywhere: it may have come between a block and its record.

        Both sides count the blocks that were granted and filled; if they disagreed, the next element would be another.
        """
        close = self._close  # only then: until the channels are attached again, the old one keeps their queues alive
        self._open()
        for channel in list(self.channels.values()):
            channel.begin(*self._attach(channel.queue))
        close()

    def _greet(self, place: Place) -> tuple[int, OwnerMapping, int]:
        try:
            head, fds, _flags, _address = socket.recv_fds(self._sock, HEAD.size, 2)
        except OSError:
            head, fds = b"", []
        if len(head) < HEAD.size or len(fds) != 2:
            for fd in fds:
                os.close(fd)
            raise owner_unreachable(place)
        _kind, number, size, mark, _ = HEAD.unpack(head)
        with _mappings_lock:
            memory = _mappings.get(place.address)
            if memory is None:
                memory = _mappings[place.address] = OwnerMapping(list(fds), size)
            else:
                for fd in fds:
                    os.close(fd)
        return number, memory, mark

    # -- Sending

    def call(self, kind: int, queue: int, argument: int = 0, *, flag: int = 0, seq: int = 0) -> int:
        """Write a record; the number that its answer will bear."""
        self.last_call = number = (self.last_call + 1) & 0xFFFFFFFF
        self.send(kind, queue, number, argument, flag=flag, seq=seq)
        return number

    def send(self, kind: int, queue: int, number: int, argument: int = 0, *, flag: int = 0, seq: int = 0) -> None:
        """Write a record about the call of that number."""
        try:
            _write(self._pipe, _pack(self._mark | kind, flag, self.number, queue, number, argument, seq))
        except BrokenPipeError:
            raise owner_gone(self._place) from None

    def send_last(self, kind: int, queue: int, number: int) -> None:
        """Write a record behind which no handler of a signal runs before the caller's caller goes on."""
        record = _pack(self._mark | kind, 0, self.number, queue, number, 0, 0)
        try:
            [*map(_write, (self._pipe,), (record,))]
        except BrokenPipeError:
            raise owner_gone(self._place) from None

    def undo(self, queue: int, before: int) -> None:
        """Take back the calls behind that of number ``before``, whatever has become of them, and connect anew.

        After an exception that came from anywhere: what interrupts a call is raised, whatever becomes of this.
        """
        with defer_signals(), contextlib.suppress(OpError, SharedMemoryFull):
            while before != self.last_call:
                before = (before + 1) & 0xFFFFFFFF
                self.send(Up.UNREAD, queue, before)
            self.renew()

    # -- Blocks

    def block(self, size_class: int) -> int | None:
        """An empty block, to be filled and reported before the next; None if there is none: see `want`."""
        have = self._blocks.get(size_class)
        if have is None or len(have) <= self._low[size_class]:
            have = self._look_ahead(size_class, 1)
            if not have:
                return None
        return have.pop()

    def blocks(self, size_class: int, count: int) -> list[int] | None:
        """Empty blocks, to be filled and reported in this order; None if there are not so many: see `want`."""
        have = self._look_ahead(size_class, count)
        return None if len(have) < count else have.take(count)

    def _look_ahead(self, size_class: int, count: int) -> BlockLine:
        """Ask for more blocks in time, so that this many may be used; waits for an answer, but not for memory."""
        have = self._blocks.setdefault(size_class, BlockLine())
        while len(have) < count and size_class in self._is_wanted:
            found = self._next(None)
            if found is not None:
                self._note(found)
        if len(have) >= count and len(have) - count <= self._low[size_class] and size_class not in self._is_wanted:
            self._is_wanted.add(size_class)
            self.send(Up.WANT, 0, 0, self._num_to_want(size_class, count), flag=size_class)
        return have

    def want(self, queue: int, size_class: int, count: int) -> int:
        """Ask for blocks without which it cannot go on; the number of the call, whose answer is for `keep`."""
        missing = count - len(self._blocks.setdefault(size_class, BlockLine()))
        wanted = max(self._num_to_want(size_class, count), missing)
        return self.call(Up.WANT, queue, wanted, flag=size_class, seq=count)

    def _num_to_want(self, size_class: int, count: int) -> int:
        """Twice as many as the last time, or as are used at once, within bounds."""
        most = max(_FEWEST_BLOCKS, min(_MOST_BLOCKS, _MOST_BYTES // class_bytes(size_class)))
        wanted = min(most, 2 * max(self._num_wanted.get(size_class, _FIRST_BLOCKS // 2), count))
        self._num_wanted[size_class], self._low[size_class] = wanted, wanted // 2
        return wanted

    def keep(self, found: "Answer") -> None:
        """Take in the blocks of an answer."""
        self._blocks[found.one].add(np.frombuffer(found.data, np.int64).tolist())

    # -- Receiving

    def answer(self, number: int, timeout: float | None = None) -> Answer | None:
        """Wait for the answer to a call; None if the time is over.

        Raises:
            CancelledError: The owner is gone.
            UnavailableError: It was a server.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            found = self._next(left)
            if found is None:
                return None
            if found.number == number:
                return found
            self._note(found)

    def _note(self, found: Answer) -> None:
        """Take in an answer that no call waits for: blocks asked for ahead, or a late answer within a window."""
        if found.kind == Down.BLOCKS and not found.number:
            self.keep(found)
            self._is_wanted.discard(found.one)
        elif found.kind == Down.REVOKED:
            for have in self._blocks.values():
                have.clear()

    def _next(self, timeout: float | None) -> Answer | None:
        buffer = self._buffer
        while True:
            if len(buffer) >= HEAD.size:
                kind, number, one, two, length = HEAD.unpack_from(buffer)
                end = HEAD.size + length
                if len(buffer) >= end:
                    data = bytes(buffer[HEAD.size : end])
                    del buffer[:end]
                    return Answer(kind, number, one, two, data)
            if timeout is not None or are_signals_deferred():  # handlers may run in the wait alone
                poll = select.poll()
                poll.register(self._sock, select.POLLIN)
                if not allow_signals(poll.poll, None if timeout is None else timeout * 1000):
                    return None
            try:
                data = self._sock.recv(_READ_BYTES)
            except OSError:
                data = b""
            if not data:
                raise owner_gone(self._place)
            buffer += data

    # -- Queues

    def attach(self, queue: int) -> "QueueChannel":
        """Begin to use a queue.

        Raises:
            CancelledError: It is gone.
        """
        channel = self.channels.get(queue)
        if channel is None:
            channel = self.channels[queue] = QueueChannel(self, queue, *self._attach(queue))
        return channel

    def _attach(self, queue: int) -> tuple[int, int]:
        found = self._ask(self.call(Up.ATTACH, queue))
        return found.one, found.two

    def _ask(self, number: int) -> Answer:
        found = self.answer(number)
        assert found is not None
        if found.kind == Down.FAILED:
            error = decode_error(found.one, found.two, found.data)
            assert error is not None  # nobody withdraws these calls
            raise error
        return found

    def find(self, description: bytes) -> int:
        """The number of a queue with a shared name, made now if there is none.

        Raises:
            InvalidArgumentError: There is another one under this name.
        """
        size_class = class_for(len(description))
        token = self.block(size_class)
        if token is None:
            self.keep(self._ask(self.want(0, size_class, 1)))
            token = self._blocks[size_class].pop()
        at = offset_of(token)
        memoryview(self.memory.segment.memory)[at : at + len(description)] = description
        return self._ask(self.call(Up.FIND, 0, len(description), flag=size_class)).one


class QueueChannel:
    """A connection's use of one queue.

    Args:
        connection: The connection.
        queue: Number of the queue.
        place: The place of the limit, the number up to which enqueues need no answer; see `windows`.
        num_enqueued: By this connection, before.

    Attributes:
        connection: As given.
        queue: As given.
        generation: The process's `generation` when this was made.
    """

    def __init__(self, connection: Connection, queue: int, place: int, num_enqueued: int) -> None:
        self.connection, self.queue = connection, queue
        self.generation = generation[0]
        self.begin(place, num_enqueued)

    def begin(self, place: int, num_enqueued: int) -> None:
        """Count on, with the limit at ``place``: the connection is attached to the queue."""
        self._words, self._place = self.connection.memory.words, place
        self._num_enqueued = num_enqueued

    @property
    def window(self) -> int:
        """Number of elements that may be enqueued now without waiting for an answer."""
        return max(0, int(self._words[self._place]) - self._num_enqueued)

    def fill(self, size_class: int, count: int) -> None:
        """Report that the next blocks of a class hold elements, to be enqueued with what follows."""
        self.connection.send(Up.FILLED, self.queue, 0, count, flag=size_class)

    def enqueue(self, size_class: int, count: int, total: int) -> int | None:
        """Enqueue what was filled, and so many blocks more; the number of the call if it has to be waited for."""
        self._num_enqueued = seq = self._num_enqueued + total
        words, place = self._words, self._place
        if words[place] < seq:
            return self.connection.call(Up.ENQUEUE, self.queue, count, flag=size_class, seq=seq)
        number = self.connection.call(Up.ADMIT, self.queue, count, flag=size_class, seq=seq)
        if words[place] >= seq:
            return None
        self.connection.send(Up.CONFIRM, self.queue, number)
        return number


class _Own(threading.local):
    """This thread's connections; held by the channels, which `RemoteQueue`s hold: each ends with the last of these."""

    def __init__(self) -> None:
        self.connections: weakref.WeakValueDictionary[Address, Connection] = weakref.WeakValueDictionary()


_own = _Own()


def connection(place: Place) -> Connection:
    """This thread's connection to the owner of a queue, made now if there is none."""
    found = _own.connections.get(place.address)
    if found is None:
        found = _own.connections[place.address] = Connection(place)
    return found


def _close_own(fd: int, made_in: int) -> None:
    if generation[0] == made_in:  # in a fork it is closed already, and its number may be another's
        descriptors.close(fd)


def _in_child() -> None:
    global _mappings, _mappings_lock
    _mappings, _mappings_lock = weakref.WeakValueDictionary(), threading.Lock()
    _own.connections.clear()
    generation[0] += 1


os.register_at_fork(after_in_child=_in_child)
