"""Another process's side: its way to the owner of the queues that it uses.

Each thread that uses queues has a connection of its own, so that no thread waits for another's answer, and none has to
hand answers on. The memory and the pipe belong to the process, once per owner. A child that user code forks inherits
the objects, but uses neither: it connects for itself.

A thread of this process waits for an answer in one blocking read of its own socket; it has no other way of waiting.
"""

import os
import select
import socket
import threading
import time
import weakref
from collections import deque
from typing import NamedTuple

import numpy as np

from mpqueue.control import descriptors, rendezvous
from mpqueue.errors import CancelledError, FailedPreconditionError
from mpqueue.memory.arena import class_bytes, class_for, offset_of
from mpqueue.memory.segment import Segment
from mpqueue.queues.handles import Place
from mpqueue.queues.wire import HEAD, RECORD, Down, Up, decode_error

_FIRST_BLOCKS = 4
_MOST_BLOCKS = 512
_MOST_BYTES = 1 << 20
_READ_BYTES = 1 << 16

_write, _pack = os.write, RECORD.pack


generation = [0]
"""How many forks lie between this process and the one that was started; lanes of another one are of no use."""


class Answer(NamedTuple):
    """What the owner says; see `wire.Down`."""

    kind: int
    number: int
    one: int
    two: int
    data: bytes


class Shore:
    """What all connections of this process to one owner share.

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


_shores: weakref.WeakValueDictionary[str, Shore] = weakref.WeakValueDictionary()
_shores_lock = threading.Lock()


class Connection:
    """One thread's connection to one owner.

    Args:
        place: Of any of the owner's queues.

    Raises:
        CancelledError: The owner is gone.
        FailedPreconditionError: It lives, but cannot be reached from here.
    """

    def __init__(self, place: Place) -> None:
        try:
            self._sock = rendezvous.connect(place.address)
        except ConnectionError as error:
            raise _unreachable(place) from error
        descriptors.own_object(self._sock)
        weakref.finalize(self, descriptors.close_object, self._sock).atexit = False
        self._buffer = bytearray()
        self.number, self.shore = self._greet(place)
        self._pipe = self.shore.pipe
        self._last_call = 0
        self._blocks: dict[int, deque[int]] = {}
        self._low: dict[int, int] = {}
        self._num_wanted: dict[int, int] = {}
        self._is_wanted: set[int] = set()
        self._no_memory: BaseException | None = None
        self.lanes: weakref.WeakValueDictionary[int, Lane] = weakref.WeakValueDictionary()

    def _greet(self, place: Place) -> tuple[int, Shore]:
        try:
            head, fds, _flags, _address = socket.recv_fds(self._sock, HEAD.size, 2)
        except OSError:
            head, fds = b"", []
        if len(head) < HEAD.size or len(fds) != 2:
            for fd in fds:
                os.close(fd)
            raise _unreachable(place)
        _kind, number, size, _pid, _ = HEAD.unpack(head)
        with _shores_lock:
            shore = _shores.get(place.address)
            if shore is None:
                shore = _shores[place.address] = Shore(list(fds), size)
            else:
                for fd in fds:
                    os.close(fd)
        return number, shore

    # -- Saying

    def call(self, kind: int, queue: int, argument: int = 0, *, flag: int = 0, seq: int = 0) -> int:
        """Write a record; the number that its answer will bear."""
        self._last_call = number = (self._last_call + 1) & 0xFFFFFFFF
        self.say(kind, queue, number, argument, flag=flag, seq=seq)
        return number

    def say(self, kind: int, queue: int, number: int, argument: int = 0, *, flag: int = 0, seq: int = 0) -> None:
        """Write a record about the call of that number."""
        try:
            _write(self._pipe, _pack(kind, flag, self.number, queue, number, argument, seq))
        except BrokenPipeError:
            raise _gone() from None

    # -- Blocks

    def block(self, size_class: int) -> int:
        """An empty block, to be filled and reported before the next.

        Raises:
            SharedMemoryFull: There is no memory for it.
        """
        have = self._blocks.get(size_class)
        if have is None or len(have) <= self._low[size_class]:
            have = self._refill(size_class, 1)
        return have.popleft()

    def blocks(self, size_class: int, count: int) -> list[int]:
        """Empty blocks, to be filled and reported in this order."""
        have = self._refill(size_class, count)
        return [have.popleft() for _ in range(count)]

    def _refill(self, size_class: int, count: int) -> deque[int]:
        have = self._blocks.setdefault(size_class, deque())
        while len(have) < count:
            self._no_memory = None
            if size_class not in self._is_wanted:
                self._want(size_class, count - len(have))
            while size_class in self._is_wanted:
                self._take_in(None)
            if self._no_memory is not None:
                raise self._no_memory
        if len(have) - count <= self._low[size_class] and size_class not in self._is_wanted:
            self._want(size_class, 0)  # before the last is used, so that the next are there by then
        return have

    def _want(self, size_class: int, missing: int) -> None:
        most = max(1, min(_MOST_BLOCKS, _MOST_BYTES // class_bytes(size_class)))
        wanted = min(most, 2 * self._num_wanted.get(size_class, _FIRST_BLOCKS // 2))
        self._num_wanted[size_class], self._low[size_class] = wanted, wanted // 2
        self._is_wanted.add(size_class)
        self.say(Up.WANT, 0, 0, max(wanted, missing), flag=size_class)

    # -- Hearing

    def answer(self, number: int, timeout: float | None = None) -> Answer | None:
        """Wait for the answer to a call; None if the time is over.

        Raises:
            CancelledError: The owner is gone.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            found = self._next(left)
            if found is None:
                return None
            if found.number == number and found.kind != Down.BLOCKS:
                return found
            self._note(found)

    def _take_in(self, timeout: float | None) -> None:
        found = self._next(timeout)
        if found is not None:
            self._note(found)

    def _note(self, found: Answer) -> None:
        """An answer that nobody waits for by its number: blocks, or a late word on a call within its window."""
        if found.kind == Down.BLOCKS:
            self._blocks[found.one] += np.frombuffer(found.data, np.int64).tolist()
            self._is_wanted.discard(found.one)
        elif found.kind == Down.FAILED and found.number == 0:
            self._is_wanted.clear()
            self._no_memory = decode_error(found.one, found.two, found.data)

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
            if timeout is not None:
                poll = select.poll()
                poll.register(self._sock, select.POLLIN)
                if not poll.poll(timeout * 1000):
                    return None
            try:
                data = self._sock.recv(_READ_BYTES)
            except OSError:
                data = b""
            if not data:
                raise _gone()
            buffer += data

    def attach(self, queue: int) -> "Lane":
        """Begin to use a queue.

        Raises:
            CancelledError: It is gone.
        """
        lane = self.lanes.get(queue)
        if lane is None:
            found = self.answer(self.call(Up.ATTACH, queue))
            assert found is not None
            _raise_failed(found)
            lane = self.lanes[queue] = Lane(self, queue, found.one, found.two)
        return lane

    def find(self, description: bytes) -> int:
        """The number of a queue with a shared name, made now if there is none.

        Raises:
            InvalidArgumentError: There is another one under this name.
        """
        size_class = class_for(len(description))
        token = self.block(size_class)
        at = offset_of(token)
        memoryview(self.shore.segment.memory)[at : at + len(description)] = description
        found = self.answer(self.call(Up.FIND, 0, len(description), flag=size_class))
        assert found is not None
        _raise_failed(found)
        return found.one


class Lane:
    """A connection's use of one queue.

    Args:
        connection: The connection.
        queue: Number of the queue.
        place: Where the word is that says up to where enqueues need no answer.
        num_enqueued: By this connection, before.
    """

    def __init__(self, connection: Connection, queue: int, place: int, num_enqueued: int) -> None:
        self.connection, self.queue = connection, queue
        self._words, self._place = connection.shore.words, place
        self._num_enqueued = num_enqueued
        self.generation = generation[0]

    def fill(self, size_class: int, count: int) -> None:
        """Say that the next blocks of a class hold elements, to be enqueued with what follows."""
        self.connection.say(Up.FILLED, self.queue, 0, count, flag=size_class)

    def enqueue(self, size_class: int, count: int, total: int) -> int | None:
        """Enqueue what was filled, and so many blocks more; the number of the call if it has to be waited for."""
        self._num_enqueued = seq = self._num_enqueued + total
        words, place = self._words, self._place
        if words[place] < seq:
            return self.connection.call(Up.ENQUEUE, self.queue, count, flag=size_class, seq=seq)
        number = self.connection.call(Up.ADMIT, self.queue, count, flag=size_class, seq=seq)
        if words[place] >= seq:
            return None
        self.connection.say(Up.CONFIRM, self.queue, number)
        return number


class _Own(threading.local):
    """Held by the lanes, which are held by the handles: a connection ends with the last handle that uses it."""

    def __init__(self) -> None:
        self.connections: weakref.WeakValueDictionary[str, Connection] = weakref.WeakValueDictionary()


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
    global _shores, _shores_lock
    _shores, _shores_lock = weakref.WeakValueDictionary(), threading.Lock()
    _own.connections.clear()
    generation[0] += 1


os.register_at_fork(after_in_child=_in_child)


def _raise_failed(found: Answer) -> None:
    error = decode_error(found.one, found.two, found.data) if found.kind == Down.FAILED else None
    if error is not None:
        raise error


def _gone() -> CancelledError:
    return CancelledError(None, None, "the process that owned the queue is gone, or has ended this connection")


def _unreachable(place: Place) -> CancelledError | FailedPreconditionError:
    if not _is_alive(place.process_id):
        return CancelledError(None, None, f"process {place.process_id}, which owned the queue, is gone")
    return FailedPreconditionError(
        None,
        None,
        f"there is no way from process {os.getpid()} to process {place.process_id}, which owns the queue, or it has "
        "dropped all of its queues: both must be of one user, on one machine and in one network namespace (container)",
    )


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
