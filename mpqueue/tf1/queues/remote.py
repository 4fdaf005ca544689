"""`RemoteQueue`: a queue as a process uses it that does not own it.

Values are converted and checked here, so that wrong input fails where it was given. An element is written to a block
that the owner has granted, then one record enqueues it; a dequeue asks for elements, copies them once out of the blocks
that the owner names, and gives those back. A call that is given up (timeout, closed session, Ctrl-C) is withdrawn: the
owner answers what became of it, so that nothing is lost and nothing comes twice. (One that is interrupted is undone
without an answer, see NOTE [ Interrupts ] in `core`.)
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from mpqueue.errors import DeadlineExceededError, OpError, SharedMemoryFull
from mpqueue.memory.arena import class_bytes
from mpqueue.system.interrupts import defer_signals
from mpqueue.tf1.coordination.cancellation import cancellable
from mpqueue.tf1.queues.blocks import BlockCodec, SharedStorage
from mpqueue.tf1.queues.connection import Answer, OwnerMapping, QueueChannel, connection, generation
from mpqueue.tf1.queues.selection import checked_timeout
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.queues.wire import MAX_COUNT, Down, Place, Up, decode_error
from mpqueue.tf1.values.conversion import Array
from mpqueue.tf1.values.dtypes import DType

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
    """

    def __init__(self, place: Place, spec: ElementSpec, name: str) -> None:
        self.place, self.spec, self.name = place, spec, name
        self._own = threading.local()
        self._memory: OwnerMapping | None = None

    @property
    def dtypes(self) -> list[DType]:
        """The dtypes of the components."""
        return self.spec.dtypes

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
            found = channel.connection.answer(channel.connection.call(Up.ASK, channel.queue))
            assert found is not None
            return found

    # -- Enqueue

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Put one element in."""
        self.spec.check(components)
        if timeout is not None:
            timeout = checked_timeout(timeout)
        channel = self._channel()
        codec, before = self._codec, channel.connection.last_call
        try:
            if codec.is_single:
                size_class = codec.size_class
                token = channel.connection.block(size_class)
                if token is None:
                    token, timeout = self._wait_for_block(channel, size_class, timeout)
                codec.write_one(token, components[0])
            else:
                size_class, pieces = codec.plan(components)
                token = channel.connection.block(size_class)
                if token is None:
                    token, timeout = self._wait_for_block(channel, size_class, timeout)
                codec.write(token, pieces)
            number = channel.enqueue(size_class, 1, 1)
            if number is not None:
                self._finish(channel, number, timeout, "enqueue of 1 element")
        except (OpError, SharedMemoryFull):
            raise
        except BaseException:
            channel.connection.undo(channel.queue, before)
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
            if number is not None:
                self._finish(channel, number, timeout, f"enqueue of {count} elements")
        except (OpError, SharedMemoryFull):
            raise
        except BaseException:
            channel.connection.undo(channel.queue, before)
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
        timeout = checked_timeout(timeout)
        channel = self._channel()
        connection = channel.connection
        before = connection.last_call
        try:
            call = connection.call(Up.DEQUEUE, channel.queue, min(count, MAX_COUNT), flag=int(takes_fewer))
            answer = self._finish(channel, call, timeout, f"dequeue of {count} elements")
            found = result(self._elements(np.frombuffer(answer.data, np.int64), as_one=as_one))
            connection.send_last(Up.READ, channel.queue, call)
            return found  # noqa: TRY300 - here, where no handler runs between
        except OpError:
            raise
        except BaseException:  # no memory for the batch, or Ctrl-C
            connection.undo(channel.queue, before)
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
        except OpError:
            raise
        except BaseException:
            channel.connection.undo(channel.queue, before)
            raise

    def join_tally(self, number: int, size: int) -> tuple[QueueChannel, list[int]]:
        """Ask the queue's owner for cells of a tally: the words of memory, none if it has no such tally."""
        with defer_signals():
            channel = self._channel()
            found = channel.connection.answer(channel.connection.call(Up.TALLY, channel.queue, flag=size, seq=number))
        assert found is not None
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
            if memory is not self._memory:
                self._memory = memory
                self._codec = BlockCodec(self.spec, memory.segment)
                self._storage = SharedStorage(self.spec, self._codec, has_plain=False)
            self._own.channel = channel
        return channel

    def _finish(self, channel: QueueChannel, number: int, timeout: float | None, what: str) -> Answer:
        """See a call through to its end."""
        given_up: list[OpError] = []

        def give_up(error: OpError) -> None:
            if not given_up:
                given_up.append(error)
                channel.connection.send(Up.WITHDRAW, channel.queue, number)

        with cancellable(give_up):
            found = channel.connection.answer(number, timeout)
            if found is None:
                give_up(self._deadline_exceeded(what, timeout))
                found = channel.connection.answer(number)
        assert found is not None
        if found.kind == Down.FAILED:
            raise decode_error(found.one, found.two, found.data) or given_up[0]
        return found

    def _deadline_exceeded(self, what: str, timeout: float | None) -> DeadlineExceededError:
        return DeadlineExceededError(None, None, f"queue {self.name!r} did not finish the {what} within {timeout} s")

    def __repr__(self) -> str:
        return f"{self.name!r} of process {self.place.process_id}"
