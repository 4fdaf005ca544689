"""`RemoteQueue`: a queue in a process that does not own it, and the process's connections to owners.

To enqueue, the process writes an element to a block that the owner has granted, then writes one record. To dequeue, it
requests elements, copies them out of the blocks named in the answer, and returns the blocks. Values are converted and
checked here, so invalid input fails in the caller.

A call that times out, or is cancelled by a closed session, is withdrawn. The owner answers with the outcome, so that no
element is lost or delivered twice. A call that a signal handler interrupts is undone without an answer, see
NOTE [ Interrupts ] in `core`.

Each thread that uses queues has its own `Connection` and waits for answers in a blocking read of its socket. No thread
depends on others to pass on answers. The memory and the pipe are shared by the process, once per owner
(`OwnerMapping`). A forked child inherits these objects but opens its own connections.
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

from mpqueue.errors import (
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    OpError,
    SharedMemoryFull,
)
from mpqueue.memory.segment import Segment
from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes.processes import is_running
from mpqueue.system.signals.deferred import allow_signals, are_signals_deferred, defer_signals
from mpqueue.system.signals.locks import Lock, RLock
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


def owner_gone() -> OpError:
    """Return the error for a connection that the owner has closed."""
    return CancelledError(None, None, "The process that owned the queue has exited or closed the connection.")


def owner_unreachable(place: QueuePlace, reason: BaseException | None = None) -> OpError:
    """Return the error for an owner that cannot be reached, for the given reason."""
    if isinstance(reason, ForeignPeer):
        return CancelledError(
            None,
            None,
            f"Process {place.process_id}, which owned the queue, has exited. Another process listens at its address; "
            f"no data was sent to that process: {reason}",
        )
    if not is_running(place.process_id):
        return CancelledError(None, None, f"Process {place.process_id}, which owned the queue, has exited.")
    return FailedPreconditionError(
        None,
        None,
        f"Process {os.getpid()} cannot connect to process {place.process_id}, which owns the queue, or the owner has "
        "deleted all of its queues. Both processes must run as the same user, on one machine and in one network "
        "namespace (container).",
    )


# A thread requests empty blocks ahead of its need, twice as many each time: a single enqueue holds few blocks, and
# repeated enqueues never wait for a grant. Each request costs both sides a system call and often a wake-up: with 1 MiB
# at most, images of 150 KB took twice as many thread switches and 1.1 times the CPU time.
_FIRST_BLOCKS = 4
_MOST_BLOCKS = 512
_FEWEST_BLOCKS = 2  # one to fill while the next one is requested
_MOST_BYTES = 1 << 22
_READ_BYTES = 1 << 16

_write, _pack = os.write, RECORD.pack
_NO_TOKENS: Array = np.empty(0, np.int64)


generation = [0]
"""Number of forks between the first process and this one. A channel of a different generation must not be used."""


class Answer(NamedTuple):
    """An answer of the owner; see `wire.Down`."""

    kind: int
    number: int
    one: int
    two: int
    data: bytes


class OwnerMapping:
    """The memory and the pipe of one owner, shared by all connections of this process to it.

    Args:
        fds: Descriptors of the pipe and the memory, as received.
        size: Size of the memory in bytes.

    Attributes:
        segment: The owner's shared memory.
        words: The shared memory as 8-byte words.
        pipe: Descriptor to write records to.
    """

    def __init__(self, fds: list[int], size: int) -> None:
        try:
            self.segment = Segment(fds[1], size, "shm")
        except OSError:  # there is too little address space
            close_descriptors(fds)
            raise
        # An object that C code closes, see `mpqueue.system.descriptors.held_descriptors`. A forked child closes it at
        # once.
        closer = select.epoll.fromfd(descriptors.above_standard(fds[0]))
        descriptors.own_object(closer)
        self.pipe = closer.fileno()
        os.close(fds[1])  # the mapping remains valid without the descriptor
        self.segment.fd = -1
        self.words = memoryview(self.segment.memory).cast("q")
        descriptors.close_with(self, closer, select.epoll.close)


_mappings: weakref.WeakValueDictionary[Address, OwnerMapping] = weakref.WeakValueDictionary()
_mappings_lock = Lock()


class Connection:
    """One thread's connection to one owner.

    Args:
        place: Place of any of the owner's queues.
        timeout: Maximum time in seconds to wait for the owner, or None.

    Raises:
        CancelledError: The owner has exited.
        DeadlineExceededError: The owner has not answered within ``timeout``.
        FailedPreconditionError: The owner is running but cannot be reached from this process.
    """

    def __init__(self, place: QueuePlace, timeout: float | None = None) -> None:
        self._place = place
        # Held while a tally counts in this connection's cells. Reentrant, because a signal handler may reconnect there.
        self.counting = RLock()
        self.channels: weakref.WeakValueDictionary[int, QueueChannel] = weakref.WeakValueDictionary()
        self.last_call = 0
        self._ending: Callable[[], BaseException | None] = lambda: None
        self._low: dict[int, int] = {}
        self._num_wanted: dict[int, int] = {}
        self._open(timeout)

    def _open(self, timeout: float | None = None) -> None:
        try:
            self._sock = connect(self._place.address, timeout)
        except ConnectionError as error:
            raise owner_unreachable(self._place, error) from error
        self._close = descriptors.close_with(self, self._sock)
        self._buffer = bytearray()
        number, self.memory, self._mark = self._greet(self._place)
        # Another thread may be counting in cells of the connection that this one replaces. When that connection
        # closes, the owner reuses the words.
        with self.counting:
            self.number = number
        # Grants and requests of the old connection are void: its blocks return to the owner when it closes.
        self._pipe = self.memory.pipe
        self._blocks: dict[int, list[int]] = {}  # empty blocks by size class, in the order of `wire.take_first`
        self._is_wanted: set[int] = set()

    def renew(self) -> None:
        """Reconnect after an exception, which may have occurred between filling a block and writing its record.

        Both sides count the granted and filled blocks. If the counts differed, the wrong block would be enqueued next.
        """
        # The old connection prevents the deletion of its queues. Close it only after the channels are attached again.
        close = self._close
        try:
            self._open()
            for channel in list(self.channels.values()):
                channel.begin(*self._attach(channel.queue))
        except BaseException:
            # Without descriptors, for example. The counts differ, so this object must not be used again: the next call
            # of each channel opens a new connection.
            _own.connections.pop(self._place.address, None)
            for channel in list(self.channels.values()):
                channel.generation = -1
            raise
        close()

    def _greet(self, place: QueuePlace) -> tuple[int, OwnerMapping, int]:
        try:
            head, fds = receive_with_descriptors(self._sock, HEAD.size, 2)
        except DescriptorsLost:
            raise
        except OSError:
            head, fds = b"", []
        if len(head) < HEAD.size or len(fds) != 2:  # the owner has exited in the meantime
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
        """Write a record for a new call; return the call's number, which its answer repeats."""
        self.last_call = number = (self.last_call + 1) & 0xFFFFFFFF
        self.send(kind, queue, number, argument, flag=flag, seq=seq)
        return number

    def send(self, kind: int, queue: int, number: int, argument: int = 0, *, flag: int = 0, seq: int = 0) -> None:
        """Write a record about the call with that number."""
        # A write of this size to a pipe is atomic: a killed process has written the whole record or no byte.
        try:
            _write(self._pipe, _pack(self._mark | kind, flag, self.number, queue, number, argument, seq))
        except BrokenPipeError:
            raise self.ending(owner_gone()) from None

    def send_last(self, kind: int, queue: int, number: int, argument: int = 0) -> None:
        """Write a record, after which no signal handler runs until the caller's caller continues."""
        record = _pack(self._mark | kind, 0, self.number, queue, number, argument, 0)
        try:
            # An unpacked list: CPython runs no handlers between building it and returning from this function.
            [*map(_write, (self._pipe,), (record,))]
        except BrokenPipeError:
            raise self.ending(owner_gone()) from None

    def ending(self, error: BaseException) -> BaseException:
        """Remember and return an error that ends a call normally, which `undo` must ignore."""
        self._ending = weakref.ref(error)  # a strong reference would retain the frames of the call
        return error

    def undo(self, queue: int, before: int, error: BaseException) -> None:
        """Undo all calls after call number ``before``, in any state, and reconnect.

        Call it after an exception that may have interrupted the calls at any point. It has no effect if ``error`` is
        the regular outcome of a call. It raises no error, so that the caller can raise the original exception.
        """
        # Compare the object, not the class: a signal handler may raise any class. A corrupt element must not return to
        # the queue, where the next consumer would fail as well.
        if error is self._ending() or isinstance(error, DataLossError):
            return
        with defer_signals(), contextlib.suppress(OpError, SharedMemoryFull, OSError):
            # Undo each call: it is unknown which one was interrupted. The owner ignores calls that are already over.
            while before != self.last_call:
                before = (before + 1) & 0xFFFFFFFF
                self.send(Up.UNREAD, queue, before)
            self.renew()

    # -- Blocks

    def block(self, size_class: int) -> int | None:
        """Return an empty block, or None if no block is empty: then call `want`.

        Fill and report the block before you take the next one.
        """
        have = self._blocks.get(size_class)
        if have is None or len(have) <= self._low[size_class]:
            have = self._look_ahead(size_class, 1)
            if not have:
                return None
        return have.pop()

    def blocks(self, size_class: int, count: int) -> list[int] | None:
        """Return empty blocks, to fill and report in this order, or None if there are fewer: then call `want`."""
        have = self._blocks.get(size_class)
        if have is None or len(have) - count <= self._low[size_class]:
            have = self._look_ahead(size_class, count)
            if len(have) < count:
                return None
        return take_first(have, count)

    def _look_ahead(self, size_class: int, count: int) -> list[int]:
        """Request more blocks before they run out; return the list of empty blocks.

        Waits for the answer to an earlier request if there are fewer than ``count``, but not for memory.
        """
        have = self._blocks.setdefault(size_class, [])
        # The owner answers a request ahead at once, possibly without blocks. Then `want` waits for memory.
        while len(have) < count and size_class in self._is_wanted:
            answer = self._next(None)
            if answer is not None:
                self._note(answer)
        if len(have) >= count and len(have) - count <= self._low[size_class] and size_class not in self._is_wanted:
            self._is_wanted.add(size_class)
            # Call number 0: the answer is handled by the next call that reads the socket, see `_note`.
            self.send(Up.WANT, 0, 0, self._num_to_want(size_class, count), flag=size_class)
        return have

    def want(self, queue: int, size_class: int, count: int) -> int:
        """Request blocks without which the call cannot continue; return the call number. Pass the answer to `keep`."""
        missing = count - len(self._blocks.setdefault(size_class, []))
        wanted = max(self._num_to_want(size_class, count), missing)
        return self.call(Up.WANT, queue, wanted, flag=size_class, seq=count)

    def _num_to_want(self, size_class: int, count: int) -> int:
        """Return the number of blocks to request: twice the last number or the number in use, within limits."""
        most = max(_FEWEST_BLOCKS, min(_MOST_BLOCKS, _MOST_BYTES // class_bytes(size_class)))
        wanted = min(most, 2 * max(self._num_wanted.get(size_class, _FIRST_BLOCKS // 2), count))
        # The next request is sent when half of the blocks are used, so that its answer arrives during the other half.
        self._num_wanted[size_class], self._low[size_class] = wanted, wanted // 2
        return wanted

    def keep(self, answer: "Answer") -> None:
        """Store the blocks that an answer grants."""
        put_last(self._blocks[answer.one], np.frombuffer(answer.data, np.int64).tolist())

    # -- Receiving

    def answer(self, number: int) -> Answer:
        """Wait indefinitely for the answer to a call. Raises the same errors as `answer_within`."""
        answer = self.answer_within(number, None)
        assert answer is not None
        return answer

    def answer_within(self, number: int, timeout: float | None) -> Answer | None:
        """Wait for the answer to a call; return None on timeout.

        Raises:
            CancelledError: The owner has exited.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            answer = self._next(left)
            if answer is None:
                return None
            if answer.number == number:
                return answer
            self._note(answer)

    def _note(self, answer: Answer) -> None:
        """Handle an answer that no call waits for: blocks that were granted, or a late answer to another call."""
        if answer.kind == Down.BLOCKS:
            # Also for a `find` that was interrupted during its wait: the owner counts them as granted.
            self.keep(answer)
            if not answer.number:
                self._is_wanted.discard(answer.one)
        elif answer.kind == Down.REVOKED:
            # The owner has taken back all empty blocks of this connection, see `shortage`.
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
            # Use `poll` if there is a timeout, or to allow deferred handlers to run during the wait only.
            if timeout is not None or are_signals_deferred():
                poll = select.poll()
                poll.register(self._sock, select.POLLIN)
                if not allow_signals(poll.poll, None if timeout is None else timeout * 1000):
                    return None
            try:
                data = self._sock.recv(_READ_BYTES)
            except OSError:
                data = b""
            if not data:
                raise self.ending(owner_gone())
            buffer += data

    # -- Queues

    def attach(self, queue: int) -> "QueueChannel":
        """Return the channel to a queue, which is created at the first call.

        Raises:
            CancelledError: The queue was deleted.
        """
        channel = self.channels.get(queue)
        if channel is None:
            channel = self.channels[queue] = QueueChannel(self, queue, *self._attach(queue))
        return channel

    def _attach(self, queue: int) -> tuple[int, int]:
        answer = self._ask(self.call(Up.ATTACH, queue))
        return answer.one, answer.two

    def _ask(self, number: int) -> Answer:
        answer = self.answer(number)
        if answer.kind == Down.FAILED:
            error = decode_error(answer.one, answer.two, answer.data)
            assert error is not None  # None means withdrawn, and these calls are never withdrawn
            raise error
        return answer

    def find(self, description: bytes) -> int:
        """Return the number of the queue with a shared name, which is created if it does not exist.

        Raises:
            InvalidArgumentError: A queue with this name and other properties exists.
        """
        # The description is passed in a block, since records have a fixed size.
        size_class = class_for(len(description))
        # Handlers run only inside the waits. An exception between taking a block and its record would leave different
        # counts on both sides, and the next enqueue would put the description into its queue.
        with defer_signals():
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
        place: Index of the word with the limit up to which enqueues need no answer; see `windows`.
        num_enqueued: Number of elements that this connection has enqueued before.

    Attributes:
        connection: The connection.
        queue: Number of the queue.
        generation: The process's `generation` when the channel was created.
    """

    def __init__(self, connection: Connection, queue: int, place: int, num_enqueued: int) -> None:
        self.connection, self.queue = connection, queue
        self.generation = generation[0]
        self.begin(place, num_enqueued)

    def begin(self, place: int, num_enqueued: int) -> None:
        """Start counting from ``num_enqueued``, after the connection was attached to the queue."""
        self._words, self._place = self.connection.memory.words, place
        self._num_enqueued = num_enqueued
        self._num_taken = 0
        self.lease = _NO_TOKENS

    @property
    def window(self) -> int:
        """Number of elements that can be enqueued now without waiting for an answer."""
        return max(0, int(self._words[self._place]) - self._num_enqueued)

    def fill(self, size_class: int, count: int) -> None:
        """Report that the next ``count`` blocks of a class are filled. The next `enqueue` puts them into the queue."""
        self.connection.send(Up.FILLED, self.queue, 0, count, flag=size_class)

    def enqueue(self, size_class: int, count: int, total: int) -> int | None:
        """Enqueue all reported blocks and ``count`` more.

        Args:
            size_class: Size class of the additional blocks.
            count: Number of additional blocks.
            total: Number of elements in this call.

        Returns:
            The number of the call to wait for, or None if the elements are in the queue already.
        """
        self._num_enqueued = seq = self._num_enqueued + total
        words, place = self._words, self._place
        if words[place] < seq:
            return self.connection.call(Up.ENQUEUE, self.queue, count, flag=size_class, seq=seq)
        number = self.connection.call(Up.ADMIT, self.queue, count, flag=size_class, seq=seq)
        # Write the record, then read the limit. The owner writes the limit, then reads the pipe. So at least one side
        # sees the other, and no element enters unnoticed beyond a recalled window.
        if words[place] >= seq:
            return None
        # Recalled in between: the owner answers at once if the element is in the queue, or else when it was enqueued.
        self.connection.send(Up.CONFIRM, self.queue, number)
        return number

    def lend(self, tokens: Array, place: int) -> None:
        """Store a lease: elements that may be taken without an answer while the limit at ``place`` permits it."""
        self.lease, self._lease_place = tokens, place

    def take(self, count: int) -> bool:
        """Take the first elements of the lease, which must have been copied already.

        No signal handler runs between its return and the caller's next operation.

        Returns:
            False if the lease had ended. Then another consumer gets the elements, and the copies must be discarded.
        """
        connection, words, place = self.connection, self._words, self._lease_place
        self.lease = self.lease[count:]
        self._num_taken = seq = self._num_taken + count
        # Numbered like a call, so that `undo` also undoes it.
        connection.last_call = number = (connection.last_call + 1) & 0xFFFFFFFF
        connection.send_last(Up.TAKE, self.queue, number, count)
        # Read the limit after writing the record, as in `enqueue`: either the owner has read the TAKE, or this thread
        # sees the recall.
        if words[place] >= seq:
            return True
        answer = connection.answer(connection.call(Up.CONFIRM, self.queue, flag=1, seq=seq))
        # After a recall the lease is over, whether this TAKE was in time or not.
        self.lease = _NO_TOKENS
        if answer.one:
            connection.send_last(Up.READ, self.queue, number)
            return True
        self._num_taken -= count
        return False


class _Own(threading.local):
    """This thread's connections. Channels hold them strongly, and `RemoteQueue` objects hold the channels."""

    def __init__(self) -> None:
        self.connections: weakref.WeakValueDictionary[Address, Connection] = weakref.WeakValueDictionary()


_own = _Own()


def connection(place: QueuePlace, timeout: float | None = None) -> Connection:
    """Return this thread's connection to the owner of a queue, which is opened at the first call."""
    existing = _own.connections.get(place.address)
    if existing is None:
        existing = _own.connections[place.address] = Connection(place, timeout)
    return existing


def _in_child() -> None:
    global _mappings, _mappings_lock
    # Another thread of the parent may have held the lock at the fork, so the child needs a new one.
    _mappings, _mappings_lock = weakref.WeakValueDictionary(), Lock()
    _own.connections.clear()
    generation[0] += 1


os.register_at_fork(after_in_child=_in_child)


_SMALL_WINDOW: Final = 128  # elements; reserving half of a smaller window would cost more than it saves


class RemoteQueue:
    """A queue that another process owns.

    Args:
        place: Address of the owner, and the queue's number there.
        spec: The components of the elements.
        name: Name of the queue.

    Attributes:
        place: Address of the owner, and the queue's number there.
        spec: The components of the elements.
        name: Name of the queue.
        dtypes: Dtypes of the components.
    """

    def __init__(self, place: QueuePlace, spec: ElementSpec, name: str) -> None:
        self.place, self.spec, self.name, self.dtypes = place, spec, name, spec.dtypes
        self._own = threading.local()
        self._memory: OwnerMapping | None = None

    @property
    def size(self) -> int:
        """Number of elements in the queue."""
        return self._ask().one

    @property
    def is_closed(self) -> bool:
        """True once the queue is closed."""
        return bool(self._ask().two)

    def _ask(self) -> Answer:
        with defer_signals():
            channel = self._channel()
            return channel.connection.answer(channel.connection.call(Up.ASK, channel.queue))

    # -- Enqueue

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Enqueue one element; block while the queue is full."""
        self.spec.check(components)
        if timeout is not None:
            timeout = checked_timeout(timeout)
        channel = self._channel(timeout)
        # From here on, an interrupt may occur between filling a block and writing its record. `undo` undoes all calls
        # after `before`.
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
            # The element is complete before its record is written: a process killed earlier has enqueued no element.
            number = channel.enqueue(size_class, 1, 1)
            if number is not None:
                self._finish(channel, number, timeout, "enqueue of 1 element")
        except BaseException as error:
            channel.connection.undo(channel.queue, before, error)
            raise

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """Enqueue the rows of the components."""
        count = self.spec.check_many(components)
        if timeout is not None:
            timeout = checked_timeout(timeout)
        channel = self._channel(timeout)
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
            if number is not None:
                # One record enqueues all rows: either all of them are enqueued or none.
                self._finish(channel, number, timeout, f"enqueue of {count} elements")
        except BaseException as error:
            channel.connection.undo(channel.queue, before, error)
            raise

    def set_aside(self, count: int) -> int:
        """Return how many of ``count`` elements this thread can enqueue in room that the owner has reserved for it.

        For a large window, use only half of it: the owner enlarges the window while the other half is being produced.
        """
        window = self._channel().window
        return min(count, window if window <= _SMALL_WINDOW else (window + 1) // 2)

    def release(self, count: int) -> None:
        """No-op: room remains reserved until it is used."""

    def _write_rows(
        self, channel: QueueChannel, components: list[Array], count: int, timeout: float | None
    ) -> float | None:
        """Write all rows to blocks; return the rest of the timeout."""
        size_class = self._codec.size_class
        tokens = channel.connection.blocks(size_class, count)
        if tokens is None:
            timeout = self._wait_for_blocks(channel, size_class, count, timeout)
            tokens = channel.connection.blocks(size_class, count)
            assert tokens is not None  # the blocks were granted for this call
        self._codec.write_rows(tokens, components)
        return timeout

    def _write_varying_rows(
        self, channel: QueueChannel, components: list[Array], count: int, timeout: float | None
    ) -> float | None:
        """Write and report all rows, each in a block of its size; return the rest of the timeout."""
        for row in range(count):
            size_class, pieces = self._codec.plan([block[row, ...] for block in components])
            token = channel.connection.block(size_class)
            if token is None:
                try:
                    token, timeout = self._wait_for_block(channel, size_class, timeout)
                except (OpError, SharedMemoryFull):
                    # Without DROP, the reported rows would be enqueued together with this thread's next element.
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
        """Wait until shared memory is free; return the rest of the timeout.

        Raises:
            SharedMemoryFull: No process can free enough memory.
        """
        began = time.monotonic()
        number = channel.connection.want(channel.queue, size_class, count)
        answer = self._finish(
            channel,
            number,
            timeout,
            f"enqueue, which waits for {count * class_bytes(size_class):,} bytes of shared memory",
        )
        channel.connection.keep(answer)
        return None if timeout is None else max(0.0, timeout - (time.monotonic() - began))

    # -- Dequeue

    def dequeue(self, timeout: float | None, result: Callable[[list[Any]], Any]) -> Any:
        """Dequeue one element; block while the queue is empty."""
        return self._take(1, timeout, result, takes_fewer=False, as_one=True)

    def dequeue_many(
        self, count: int, timeout: float | None, result: Callable[[list[Any]], Any], *, takes_fewer: bool
    ) -> Any:
        """Dequeue several elements, stacked."""
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
        channel = self._channel(timeout)
        connection = channel.connection
        before = connection.last_call
        try:
            if len(channel.lease) >= count:
                # Copy first, then take: a process killed in between has taken no element. If the TAKE is too late, the
                # block may have been overwritten during the copy, and the copy is discarded.
                value = result(self._elements(channel.lease[:count], as_one=as_one))
                if channel.take(count):
                    return value
            channel.lease = _NO_TOKENS  # the owner ends the lease when it reads the next record
            call = connection.call(Up.DEQUEUE, channel.queue, min(count, MAX_COUNT), flag=int(takes_fewer))
            answer = self._finish(channel, call, timeout, f"dequeue of {count} elements")
            tokens = np.frombuffer(answer.data, np.int64)
            channel.lend(tokens[answer.one :], answer.two)
            value = result(self._elements(tokens[: answer.one], as_one=as_one))
            # The last step: after READ the owner frees the blocks, so no interrupt may occur between it and the
            # return.
            connection.send_last(Up.READ, channel.queue, call)
            return value  # noqa: TRY300 - no handler runs between READ and this return
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
        """Close the queue, after pending enqueues or by cancelling them."""
        timeout = checked_timeout(timeout)
        channel = self._channel(timeout)
        before = channel.connection.last_call
        try:
            number = channel.connection.call(Up.CLOSE, channel.queue, flag=int(cancel_pending_enqueues))
            self._finish(channel, number, timeout, "close")
        except BaseException as error:
            channel.connection.undo(channel.queue, before, error)
            raise

    def join_tally(self, number: int, size: int) -> tuple[QueueChannel, list[int]]:
        """Request cells of a tally from the queue's owner.

        Returns:
            The channel, and the indices of the cells; empty if the owner does not have this tally.
        """
        with defer_signals():
            channel = self._channel()
            answer = channel.connection.answer(channel.connection.call(Up.TALLY, channel.queue, flag=size, seq=number))
        return channel, np.frombuffer(answer.data, np.int64).tolist()

    # -- Calls

    def _channel(self, timeout: float | None = None) -> QueueChannel:
        """Return this thread's channel to the queue; the first call waits for the owner, for at most ``timeout``."""
        try:
            channel: QueueChannel = self._own.channel
            if channel.generation == generation[0]:
                return channel
        except AttributeError:
            pass  # the first call of this thread
        with defer_signals():
            channel = connection(self.place, timeout).attach(self.place.number)
            memory = channel.connection.memory
            # All threads share the owner's memory. After a fork, the child has mapped it again.
            if memory is not self._memory:
                self._memory = memory
                self._codec = BlockCodec(self.spec, memory.segment)
                self._storage = SharedStorage(self.spec, self._codec, has_plain=False)
            self._own.channel = channel
        return channel

    def _finish(self, channel: QueueChannel, number: int, timeout: float | None, what: str) -> Answer:
        """Wait until a call has finished; on timeout or cancellation, withdraw it and raise the error."""
        given_up: list[OpError] = []

        def give_up(error: OpError) -> None:
            if not given_up:  # report the first of several reasons
                given_up.append(error)
                # If the owner has exited, the read below raises that error. Raised here, it would end the loop that
                # cancels the other calls of the scope, in the thread of `Session.close` or of the coordinator.
                with contextlib.suppress(OpError):
                    channel.connection.send(Up.WITHDRAW, channel.queue, number)

        with cancellable(give_up):
            answer = channel.connection.answer_within(number, timeout)
            if answer is None:
                text = f"Queue {self.name!r} did not finish the {what} within {timeout} s."
                give_up(DeadlineExceededError(None, None, text))
                # Wait for the answer also after the withdrawal: only the owner knows whether the call had finished.
                answer = channel.connection.answer(number)
        # The encoded error is None if the call was withdrawn by this thread, which knows the reason.
        if answer.kind == Down.FAILED:
            raise channel.connection.ending(decode_error(answer.one, answer.two, answer.data) or given_up[0])
        return answer

    def __repr__(self) -> str:
        return f"{self.name!r} of process {self.place.process_id}"
