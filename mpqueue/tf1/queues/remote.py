"""`RemoteQueue`: a queue as a process uses it that does not own it.

Values are converted and checked here, so that wrong input fails where it was given. An element is written to a block
that the owner has granted, then one record enqueues it; a dequeue asks for elements, copies them once out of the blocks
that the owner names, and gives those back. A call that is given up (timeout, closed session, Ctrl-C) is withdrawn: the
owner answers what became of it, so that nothing is lost and nothing comes twice. (One that is interrupted is undone
without an answer, see NOTE [ Interrupts ] in `core`.)

Connections of a process to the owner of the queues that it uses.

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
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from mpqueue.engine import queue_address
from mpqueue.errors import (
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    OpError,
    SharedMemoryFull,
    UnavailableError,
)
from mpqueue.memory.segment import Segment
from mpqueue.system import descriptors
from mpqueue.system.interrupts import allow_signals, are_signals_deferred, defer_signals
from mpqueue.system.locks import Lock, RLock
from mpqueue.system.processes import is_running
from mpqueue.tf1.coordination.cancellation import cancellable
from mpqueue.tf1.coordination.door import connect
from mpqueue.tf1.coordination.members import checked_timeout
from mpqueue.tf1.queues.arena import class_bytes, class_for, offset_of
from mpqueue.tf1.queues.blocks import BlockCodec, SharedStorage
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.queues.wire import HEAD, MAX_COUNT, RECORD, Down, QueuePlace, Up, decode_error, put_last, take_first
from mpqueue.transport.credentials import Address, ForeignPeer
from mpqueue.transport.framing import DescriptorsLost, close_descriptors, receive_with_descriptors
from mpqueue.values.conversion import Array


def owner_gone(place: QueuePlace) -> OpError:
    """The error of who uses a queue whose owner has ended the connection."""
    if place.server:
        return _server_gone(place)
    return CancelledError(None, None, "the process that owned the queue is gone, or has ended this connection")


def _server_gone(place: QueuePlace) -> UnavailableError:
    # Not a CancelledError, which ends the threads of queue runners without a word.
    return UnavailableError(
        None,
        None,
        f"the server {place.server!r} is gone or was stopped, and with it its queues and what was in them; a new one "
        "has new queues: connect to it, and make them anew",
    )


def owner_unreachable(place: QueuePlace, reason: BaseException | None = None) -> OpError:
    """The error of who cannot connect to the owner of a queue, for this reason."""
    if place.server:
        return _server_gone(place)
    if isinstance(reason, ForeignPeer):
        return CancelledError(
            None,
            None,
            f"process {place.process_id}, which owned the queue, is gone, and somebody else listens in its place, who "
            f"was sent nothing: {reason}",
        )
    if not is_running(place.process_id):
        return CancelledError(None, None, f"process {place.process_id}, which owned the queue, is gone")
    return FailedPreconditionError(
        None,
        None,
        f"there is no way from process {os.getpid()} to process {place.process_id}, which owns the queue, or it has "
        "dropped all of its queues: both must be of one user, on one machine and in one network namespace (container)",
    )


_FIRST_BLOCKS = 4
_MOST_BLOCKS = 512
_FEWEST_BLOCKS = 2  # one to fill while the next is asked for
_MOST_BYTES = 1 << 20
_READ_BYTES = 1 << 16

_write, _pack = os.write, RECORD.pack
_NO_TOKENS: Array = np.empty(0, np.int64)


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
_mappings_lock = Lock()


class Connection:
    """One thread's connection to one owner.

    Args:
        place: The place of any of the owner's queues.

    Raises:
        CancelledError: The owner is gone.
        FailedPreconditionError: It lives, but cannot be reached from here.
        UnavailableError: It is a server, and gone or not to be reached.
    """

    def __init__(self, place: QueuePlace) -> None:
        self._place = place
        # Held where cells of it are counted in: reentrant, for a handler may strike there, and connect anew.
        self.counting = RLock()
        self.channels: weakref.WeakValueDictionary[int, QueueChannel] = weakref.WeakValueDictionary()
        self.last_call = 0
        self._ending: Callable[[], BaseException | None] = lambda: None
        self._low: dict[int, int] = {}
        self._num_wanted: dict[int, int] = {}
        if place.server:
            queue_address.note_server_used()
        self._open()

    def _open(self) -> None:
        try:
            self._sock = connect(self._place.address)
        except ConnectionError as error:
            raise owner_unreachable(self._place, error) from error
        self._close = descriptors.close_with(self, self._sock)
        self._buffer = bytearray()
        number, self.memory, self._mark = self._greet(self._place)
        # Another thread may count by the connection that this one replaces, whose end gives its words to others.
        with self.counting:
            self.number = number
        self._pipe = self.memory.pipe
        self._blocks: dict[int, list[int]] = {}  # lines, see `wire.take_first`
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

    def _greet(self, place: QueuePlace) -> tuple[int, OwnerMapping, int]:
        try:
            head, fds = receive_with_descriptors(self._sock, HEAD.size, 2)
        except DescriptorsLost:
            raise
        except OSError:
            head, fds = b"", []
        if len(head) < HEAD.size or len(fds) != 2:  # the owner has ended in between
            close_descriptors(fds)
            raise owner_unreachable(place)
        _kind, number, size, mark, _ = HEAD.unpack(head)
        with _mappings_lock:
            memory = _mappings.get(place.address)
            if memory is None:
                memory = _mappings[place.address] = OwnerMapping(fds, size)
            else:
                close_descriptors(fds)
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
            raise self.ending(owner_gone(self._place)) from None

    def send_last(self, kind: int, queue: int, number: int, argument: int = 0) -> None:
        """Write a record behind which no handler of a signal runs before the caller's caller goes on."""
        record = _pack(self._mark | kind, 0, self.number, queue, number, argument, 0)
        try:
            [*map(_write, (self._pipe,), (record,))]
        except BrokenPipeError:
            raise self.ending(owner_gone(self._place)) from None

    def ending(self, error: BaseException) -> BaseException:
        """Note, and return, an error with which a call ends of itself: nothing of it is to be undone."""
        self._ending = weakref.ref(error)  # weakly: it holds the frames of the call
        return error

    def undo(self, queue: int, before: int, error: BaseException) -> None:
        """Take back the calls behind that of number ``before``, whatever has become of them, and connect anew.

        After an exception that came from anywhere: what interrupts a call is raised, whatever becomes of this. Not
        after the errors that end a call.
        """
        # Known by the object and not by its class, since a handler may raise any. A corrupt element is not put back.
        if error is self._ending() or isinstance(error, DataLossError):
            return
        with defer_signals(), contextlib.suppress(OpError, SharedMemoryFull):
            # Each of them: nobody knows here which one was struck, and the owner finds nothing to undo of the others.
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
        return None if len(have) < count else take_first(have, count)

    def _look_ahead(self, size_class: int, count: int) -> list[int]:
        """Ask for more blocks in time, so that this many may be used; waits for an answer, but not for memory."""
        have = self._blocks.setdefault(size_class, [])
        # What was asked for ahead is answered at once, perhaps with none: no need to stand in line for memory yet.
        while len(have) < count and size_class in self._is_wanted:
            found = self._next(None)
            if found is not None:
                self._note(found)
        if len(have) >= count and len(have) - count <= self._low[size_class] and size_class not in self._is_wanted:
            self._is_wanted.add(size_class)
            # Number 0 is no call's: whatever waits for an answer next takes this one in on its way, see `_note`.
            self.send(Up.WANT, 0, 0, self._num_to_want(size_class, count), flag=size_class)
        return have

    def want(self, queue: int, size_class: int, count: int) -> int:
        """Ask for blocks without which it cannot go on; the number of the call, whose answer is for `keep`."""
        missing = count - len(self._blocks.setdefault(size_class, []))
        wanted = max(self._num_to_want(size_class, count), missing)
        return self.call(Up.WANT, queue, wanted, flag=size_class, seq=count)

    def _num_to_want(self, size_class: int, count: int) -> int:
        """Twice as many as the last time, or as are used at once, within bounds."""
        most = max(_FEWEST_BLOCKS, min(_MOST_BLOCKS, _MOST_BYTES // class_bytes(size_class)))
        wanted = min(most, 2 * max(self._num_wanted.get(size_class, _FIRST_BLOCKS // 2), count))
        # Asked for anew when half of them are used: the answer may come while the other half lasts.
        self._num_wanted[size_class], self._low[size_class] = wanted, wanted // 2
        return wanted

    def keep(self, found: "Answer") -> None:
        """Take in the blocks of an answer."""
        put_last(self._blocks[found.one], np.frombuffer(found.data, np.int64).tolist())

    # -- Receiving

    def answer(self, number: int) -> Answer:
        """Wait for the answer to a call, as long as it takes; errors as `answer_within`."""
        found = self.answer_within(number, None)
        assert found is not None
        return found

    def answer_within(self, number: int, timeout: float | None) -> Answer | None:
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
                raise self.ending(owner_gone(self._place))
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
        self._num_taken = 0
        self.lease = _NO_TOKENS

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
        # The record first, then this look. The owner writes the limit first and reads the pipe behind that: so at least
        # one of the two sees the other, and no element goes in beyond a recall unseen.
        if words[place] >= seq:
            return None
        self.connection.send(Up.CONFIRM, self.queue, number)
        return number

    def lend(self, tokens: Array, place: int) -> None:
        """These elements may be taken without asking, as long as the limit at ``place`` says so."""
        self.lease, self._lease_place = tokens, place

    def take(self, count: int) -> bool:
        """Take the first elements of the lease, which were copied; False if that was over: they are another's.

        No handler of a signal runs behind it before the caller goes on.
        """
        connection, words, place = self.connection, self._words, self._lease_place
        self.lease = self.lease[count:]
        self._num_taken = seq = self._num_taken + count
        # Numbered as a call is, so that `undo` takes it back.
        connection.last_call = number = (connection.last_call + 1) & 0xFFFFFFFF
        connection.send_last(Up.TAKE, self.queue, number, count)
        # Behind the record, as in `enqueue`: by that either the owner has seen the TAKE, or this sees the recall.
        if words[place] >= seq:
            return True
        found = connection.answer(connection.call(Up.CONFIRM, self.queue, flag=1, seq=seq))
        self.lease = _NO_TOKENS
        if found.one:
            connection.send_last(Up.READ, self.queue, number)
            return True
        self._num_taken -= count
        return False


class _Own(threading.local):
    """This thread's connections; held by the channels, which `RemoteQueue`s hold: each ends with the last of these."""

    def __init__(self) -> None:
        self.connections: weakref.WeakValueDictionary[Address, Connection] = weakref.WeakValueDictionary()


_own = _Own()


def connection(place: QueuePlace) -> Connection:
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
    _mappings, _mappings_lock = weakref.WeakValueDictionary(), Lock()
    _own.connections.clear()
    generation[0] += 1


os.register_at_fork(after_in_child=_in_child)


_SMALL_WINDOW: Final = 128  # elements; halves of it would cost more than they bring


class RemoteQueue:
    """A queue that lives in another process.

    Args:
        place: The address of its owner, and its number there.
        spec: The components of its elements.
        name: The name it was made with.

    Attributes:
        place: As given.
        spec: As given.
        name: As given.
        dtypes: The dtypes of the components.
    """

    def __init__(self, place: QueuePlace, spec: ElementSpec, name: str) -> None:
        self.place, self.spec, self.name, self.dtypes = place, spec, name, spec.dtypes
        self._own = threading.local()
        self._memory: OwnerMapping | None = None

    @property
    def size(self) -> int:
        """Number of elements in it."""
        return self._ask().one

    @property
    def is_closed(self) -> bool:
        """True once a close was processed."""
        return bool(self._ask().two)

    def _ask(self) -> Answer:
        with defer_signals():
            channel = self._channel()
            return channel.connection.answer(channel.connection.call(Up.ASK, channel.queue))

    # -- Enqueue

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Put one element in."""
        self.spec.check(components)
        if timeout is not None:
            timeout = checked_timeout(timeout)
        channel = self._channel()
        # From here on an interrupt may come between a block and its record: all calls behind `before` are undone.
        codec, before = self._codec, channel.connection.last_call
        try:
            size_class, pieces = (codec.size_class, None) if codec.is_single else codec.plan(components)
            token = channel.connection.block(size_class)
            if token is None:
                token, timeout = self._wait_for_block(channel, size_class, timeout)
            if pieces is None:
                codec.write_one(token, components[0])
            else:
                codec.write(token, pieces)
            # Written as a whole before the record: whoever is killed before that has put nothing in.
            number = channel.enqueue(size_class, 1, 1)
            if number is not None:
                self._finish(channel, number, timeout, "enqueue of 1 element")
        except BaseException as error:
            channel.connection.undo(channel.queue, before, error)
            raise

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """Put the rows of the components in."""
        count = self.spec.check_many(components)
        timeout = checked_timeout(timeout)
        channel = self._channel()
        if not count:
            return
        before = channel.connection.last_call
        try:
            if self._codec.size_class >= 0:
                timeout = self._write_rows(channel, components, count, timeout)
                number = channel.enqueue(self._codec.size_class, count, count)
            else:
                timeout = self._write_varying_rows(channel, components, count, timeout)
                number = channel.enqueue(0, 0, count)
            if number is not None:  # one record for all rows: they go in together, or none does
                self._finish(channel, number, timeout, f"enqueue of {count} elements")
        except BaseException as error:
            channel.connection.undo(channel.queue, before, error)
            raise

    def set_aside(self, count: int) -> int:
        """Return for how many of so many elements the owner has set room aside for this thread.

        Half of them if they are many: the owner sets more aside while the others are still to come.
        """
        window = self._channel().window
        return min(count, window if window <= _SMALL_WINDOW else (window + 1) // 2)

    def release(self, count: int) -> None:
        """Do nothing: what is set aside stays so until it is used."""

    def _write_rows(
        self, channel: QueueChannel, components: list[Array], count: int, timeout: float | None
    ) -> float | None:
        """Write all rows; what is left of the timeout."""
        size_class = self._codec.size_class
        tokens = channel.connection.blocks(size_class, count)
        if tokens is None:
            timeout = self._wait_for_blocks(channel, size_class, count, timeout)
            tokens = channel.connection.blocks(size_class, count)
            assert tokens is not None  # they were granted for this very call
        self._codec.write_rows(tokens, components)
        return timeout

    def _write_varying_rows(
        self, channel: QueueChannel, components: list[Array], count: int, timeout: float | None
    ) -> float | None:
        """Write and report all rows, each to a block of its own size; what is left of the timeout."""
        for row in range(count):
            size_class, pieces = self._codec.plan([block[row, ...] for block in components])
            token = channel.connection.block(size_class)
            if token is None:
                try:
                    token, timeout = self._wait_for_block(channel, size_class, timeout)
                except (OpError, SharedMemoryFull):
                    # Else the rows that are reported would go in with the next element of this thread.
                    channel.connection.send(Up.DROP, channel.queue, 0)
                    raise
            self._codec.write(token, pieces)
            channel.fill(size_class, 1)
        return timeout

    def _wait_for_block(
        self, channel: QueueChannel, size_class: int, timeout: float | None
    ) -> tuple[int, float | None]:
        timeout = self._wait_for_blocks(channel, size_class, 1, timeout)
        token = channel.connection.block(size_class)
        assert token is not None
        return token, timeout

    def _wait_for_blocks(
        self, channel: QueueChannel, size_class: int, count: int, timeout: float | None
    ) -> float | None:
        """Wait until there is memory; what is left of the timeout.

        Raises:
            SharedMemoryFull: There will be none.
        """
        began = time.monotonic()
        number = channel.connection.want(channel.queue, size_class, count)
        found = self._finish(
            channel, number, timeout, f"enqueue, for lack of {count * class_bytes(size_class):,} bytes of shared memory"
        )
        channel.connection.keep(found)
        return None if timeout is None else max(0.0, timeout - (time.monotonic() - began))

    # -- Dequeue

    def dequeue(self, timeout: float | None, result: Callable[[list[Any]], Any]) -> Any:
        """Take one element out."""
        return self._take(1, timeout, result, takes_fewer=False, as_one=True)

    def dequeue_many(
        self, count: int, timeout: float | None, result: Callable[[list[Any]], Any], *, takes_fewer: bool
    ) -> Any:
        """Take elements out, stacked."""
        self.spec.check_count(count, self.name)
        if count == 0:
            self._channel()
            return result(self._storage.get_many([]))
        return self._take(count, timeout, result, takes_fewer=takes_fewer, as_one=False)

    def _take(
        self,
        count: int,
        timeout: float | None,
        result: Callable[[list[Any]], Any],
        *,
        takes_fewer: bool,
        as_one: bool,
    ) -> Any:
        if timeout is not None:
            timeout = checked_timeout(timeout)
        channel = self._channel()
        connection = channel.connection
        before = connection.last_call
        try:
            if len(channel.lease) >= count:
                # Copied, then taken: whoever is killed in between has taken nothing. A copy whose TAKE comes too late
                # may be of what another one writes by now, and is thrown away.
                found = result(self._elements(channel.lease[:count], as_one=as_one))
                if channel.take(count):
                    return found
            channel.lease = _NO_TOKENS  # it ends with the next record
            call = connection.call(Up.DEQUEUE, channel.queue, min(count, MAX_COUNT), flag=int(takes_fewer))
            answer = self._finish(channel, call, timeout, f"dequeue of {count} elements")
            tokens = np.frombuffer(answer.data, np.int64)
            channel.lend(tokens[answer.one :], answer.two)
            found = result(self._elements(tokens[: answer.one], as_one=as_one))
            connection.send_last(Up.READ, channel.queue, call)
            return found  # noqa: TRY300 - here, where no handler runs between
        except BaseException as error:  # no memory for the batch, or Ctrl-C
            connection.undo(channel.queue, before, error)
            raise

    def _elements(self, tokens: Array, *, as_one: bool) -> list[Any]:
        """Copy elements out of their blocks."""
        if as_one:
            return self._storage.get_one(tokens.tolist())
        return self._codec.gather(tokens) if self._codec.size_class >= 0 else self._storage.get_many(tokens.tolist())

    # -- Close

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close it: behind the enqueues that wait, or now."""
        timeout = checked_timeout(timeout)
        channel = self._channel()
        before = channel.connection.last_call
        try:
            number = channel.connection.call(Up.CLOSE, channel.queue, flag=int(cancel_pending_enqueues))
            self._finish(channel, number, timeout, "close")
        except BaseException as error:
            channel.connection.undo(channel.queue, before, error)
            raise

    def join_tally(self, number: int, size: int) -> tuple[QueueChannel, list[int]]:
        """Ask the queue's owner for cells of a tally: the words of memory, none if it has no such tally."""
        with defer_signals():
            channel = self._channel()
            found = channel.connection.answer(channel.connection.call(Up.TALLY, channel.queue, flag=size, seq=number))
        return channel, np.frombuffer(found.data, np.int64).tolist()

    # -- Calls

    def _channel(self) -> QueueChannel:
        """This thread's channel to the queue."""
        try:
            channel: QueueChannel = self._own.channel
            if channel.generation == generation[0]:
                return channel
        except AttributeError:
            pass  # the first call of this thread
        with defer_signals():
            channel = connection(self.place).attach(self.place.number)
            memory = channel.connection.memory
            if memory is not self._memory:  # one for all threads; another one behind a fork
                self._memory = memory
                self._codec = BlockCodec(self.spec, memory.segment)
                self._storage = SharedStorage(self.spec, self._codec, has_plain=False)
            self._own.channel = channel
        return channel

    def _finish(self, channel: QueueChannel, number: int, timeout: float | None, what: str) -> Answer:
        """See a call through to its end."""
        given_up: list[OpError] = []

        def give_up(error: OpError) -> None:
            if not given_up:  # the first of several reasons counts
                given_up.append(error)
                channel.connection.send(Up.WITHDRAW, channel.queue, number)

        with cancellable(give_up):
            found = channel.connection.answer_within(number, timeout)
            if found is None:
                text = f"queue {self.name!r} did not finish the {what} within {timeout} s"
                give_up(DeadlineExceededError(None, None, text))
                # Also a call that is given up is answered: the owner alone knows whether it had ended before.
                found = channel.connection.answer(number)
        if found.kind == Down.FAILED:  # None: as it was withdrawn from here, the reason is here
            raise channel.connection.ending(decode_error(found.one, found.two, found.data) or given_up[0])
        return found

    def __repr__(self) -> str:
        return f"{self.name!r} of process {self.place.process_id}"
