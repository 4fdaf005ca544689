"""The owner's data about a queue that other processes use, and about their connections. Call it under the hub's lock.

A connection is accepted from a process that has proven to know the token (see `Door`), and becomes a `Client`. The
client receives its number, the memory and the pipe, and its answers through a socket. If the socket closes, the client
has exited.
"""

import socket
import weakref
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mpqueue.system.descriptors import descriptors
from mpqueue.system.log import logger_of
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.tf1.coordination.door import Door
from mpqueue.tf1.queues.block_pool import BlockPool
from mpqueue.tf1.queues.blocks import BlockCodec, SharedStorage
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.lease import Taker
from mpqueue.tf1.queues.machine import Request
from mpqueue.tf1.queues.tally import TallyTotals
from mpqueue.tf1.queues.windows import IS_STRONGLY_ORDERED, Producer, Windows
from mpqueue.tf1.queues.wire import HEAD, Down, RecordPipe, encode_error, take_first
from mpqueue.transport.credentials import credentials_of
from mpqueue.transport.poller import READABLE, WRITABLE, Poller
from mpqueue.transport.records import ProtocolError
from mpqueue.worker import queue_address

_MAX_NOTED = 1024


class SharedQueue:
    """One queue and its shared resources.

    Args:
        number: Number of the queue in records.
        core: The queue. Only a weak reference is kept: the user's objects and the connections hold strong references.
        pool: Allocator of the blocks.
        windows: Windows of its producers.

    Attributes:
        number: Number of the queue in records.
        core: Weak reference to the queue.
        machine: State machine of the queue.
        windows: Windows of its producers.
        storage: Storage of its elements.
        num_entered: Number of elements enqueued by closed connections, by process id.
    """

    def __init__(self, number: int, core: QueueCore, pool: BlockPool, windows: Windows) -> None:
        self.number, self.machine, self.windows = number, core.machine, windows
        self.core, self._pool = weakref.ref(core), pool
        self.num_entered: dict[int, int] = {}
        has_plain = bool(self.machine.size or self.machine.num_waiting)
        codec = BlockCodec(core.spec, pool.arena.segment)
        self.storage = SharedStorage(core.spec, codec, has_plain=has_plain, holds=pool.holds)

    @property
    def may_lend(self) -> bool:
        """True if elements may be leased: all are in blocks, with the same layout."""
        storage, is_short = self.storage, self._pool.arena.was_short
        # A consumer copies an element before it takes it, see `lease`. The block may have been reused by then, so any
        # bytes must be readable as an element, which does not hold for strings and varying shapes. If memory was short,
        # a consumer must not keep the blocks of its last TAKE until its next record.
        is_alike = IS_STRONGLY_ORDERED and storage.codec.size_class >= 0 and not storage.has_plain
        return is_alike and not is_short and self.windows.may_lend

    def held_blocks(self) -> list[int]:
        """Return the blocks of elements in the queue and in the hands of waiting dequeues."""
        return self.storage.blocks_of(self.machine.held())

    @property
    def num_stuck(self) -> int:
        """Number of blocks that are not freed before more elements are enqueued, because a dequeue waits for these."""
        return len(self.held_blocks()) if self.machine.has_waiting_dequeues else 0

    def note_entered(self, process_id: int, count: int) -> None:
        """Add the number of elements that a connection had enqueued when it ended."""
        self.num_entered[process_id] = self.num_entered.get(process_id, 0) + count
        # The counts are read soon after a worker crash, or never. Old ones are deleted to bound the table.
        while len(self.num_entered) > _MAX_NOTED:
            del self.num_entered[next(iter(self.num_entered))]


_MAX_OUTBOX_BYTES = 1 << 26

_log = logger_of(__name__)
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class QueueUse(NamedTuple):
    """A client's use of one queue.

    Attributes:
        queue: The queue.
        core: Strong reference, so that the queue exists while the client is connected.
        producer: The client's window in the queue.
        taker: The client's leases in the queue.
    """

    queue: SharedQueue
    core: QueueCore
    producer: Producer
    taker: Taker


class PendingGrant(NamedTuple):
    """Blocks that were granted when memory was short, and are not enqueued yet.

    Attributes:
        producer: The client's window in the queue that the blocks are for.
        num_enqueued: Number of elements that the client had enqueued there when it received the blocks.
    """

    producer: Producer
    num_enqueued: int


class Answers:
    """The non-blocking socket on which one client receives its answers.

    Args:
        sock: The socket.
        on_full: Called when the socket is full and answers must wait. Then call `flush` when it becomes writable.

    Attributes:
        sock: The socket.
        has_ended: True if sending an answer failed because the client has exited or disconnected.
    """

    def __init__(self, sock: socket.socket, on_full: Callable[[], None]) -> None:
        self.sock, self._on_full = sock, on_full
        descriptors.own_object(sock)
        sock.setblocking(False)  # a process that does not read its answers must not block the others
        self.has_ended = self._is_closed = False
        self._outbox = bytearray()

    def send(self, kind: int, number: int, one: int = 0, two: int = 0, data: bytes = b"") -> None:
        """Send an answer; see `wire.Down`."""
        if self._is_closed:
            return
        message = HEAD.pack(kind, number, one, two, len(data)) + data
        if len(self._outbox) > _MAX_OUTBOX_BYTES:
            # Without a limit, a client that never reads would fill the owner's memory.
            _log.error(
                "A process was disconnected from the queues of this process: it sends requests but reads no answers."
            )
            self._outbox.clear()
            self.sock.shutdown(socket.SHUT_RDWR)
        if self._outbox:  # keep the order of the answers
            self._outbox += message
            return
        # Sent by the step itself: a separate thread would cost each answer a thread switch.
        self._outbox += message[self._write(message) :]
        if self._outbox:
            self._on_full()

    def fail(self, number: int, error: BaseException) -> None:
        """Answer a call with an error."""
        self.send(Down.FAILED, number, *encode_error(error))

    def flush(self) -> bool:
        """Send waiting answers; return True if all were sent."""
        del self._outbox[: self._write(self._outbox)]
        return not self._outbox

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self.sock.send(data, _FLAGS)
        except BlockingIOError:
            return 0
        except OSError:
            self.has_ended = True
            return len(data)  # the client has exited: discard the data

    def close(self) -> None:
        """Close the socket."""
        self._is_closed = True
        descriptors.close_object(self.sock)


class Client:
    """One connection: a thread in another process. Call its methods under the hub's lock.

    Args:
        number: Number of the connection in its records.
        process_id: Process id of the client.
        answers: Socket for its answers.

    Attributes:
        number: Number of the connection in its records.
        process_id: Process id of the client.
        answers: Socket for its answers.
        granted: Empty blocks that it may write to, by size class; for the order see `wire.take_first`.
        filled: Blocks that it has written, to be enqueued by its next call.
        pending_grant: Blocks granted when memory was short and not yet enqueued, or None.
        waiting: Its waiting calls, by call number.
        delivered: Blocks of elements that it may read, by call number.
        uses: Queues that it uses, by number.
        words: Indices of its words in shared memory: limits, and cells of tallies.
        totals: Tallies that it counts for.
        is_gone: True after the connection was closed.
        is_cut: True after a protocol violation: it is not served again, but its process may still be running.
    """

    def __init__(self, number: int, process_id: int, answers: Answers) -> None:
        self.number, self.process_id, self.answers = number, process_id, answers
        self.granted: dict[int, list[int]] = {}
        self.filled: list[int] = []
        self.pending_grant: PendingGrant | None = None
        self.waiting: dict[int, Request] = {}
        self.delivered: dict[int, list[int]] = {}
        self.uses: dict[int, QueueUse] = {}
        self.words: list[int] = []
        self.totals: set[TallyTotals] = set()
        self.is_gone = self.is_cut = False

    def fill(self, size_class: int, count: int) -> None:
        """Record that the client has written the next ``count`` blocks of a class.

        Raises:
            ProtocolError: The client was not granted that many blocks.
        """
        granted = self.granted.get(size_class) or []
        if count > len(granted):
            raise ProtocolError(f"filled {count} blocks of class {size_class}, but was granted {len(granted)}")
        # Blocks are identified by their order alone: no record names a block, so no record can name a foreign one.
        self.filled += take_first(granted, count)

    @property
    def num_granted(self) -> int:
        """Number of empty blocks that it was granted."""
        return sum(map(len, self.granted.values()))

    @property
    def num_kept(self) -> int:
        """Number of blocks that it has taken from a lease, and keeps until its next record."""
        return sum(len(self.delivered.get(use.taker.last, ())) for use in self.uses.values())

    @property
    def is_to_enqueue(self) -> bool:
        """True if it will enqueue the blocks of its last grant in a shortage without needing more memory."""
        grant = self.pending_grant
        return grant is not None and grant.producer.received == grant.num_enqueued

    def blocks(self) -> list[int]:
        """Return all blocks that the client may access."""
        read = [block for each in self.delivered.values() for block in each]
        return [block for some in (*self.granted.values(), self.filled, read) for block in some]

    def cut(self, why: str) -> None:
        """Stop serving the client because of ``why``. Its calls fail, and its connection ends."""
        _log.error("Process %d was disconnected from the queues of this process: %s", self.process_id, why)
        self.is_cut = True
        # Close the windows first: within a window, its enqueues return without waiting for an answer.
        for use in self.uses.values():
            use.queue.windows.close(use.producer)
            if use.queue.windows.lease.holder is use.taker:
                use.queue.windows.lease.recall()
        self.answers.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Mark the connection as ended, and close its socket."""
        self.is_gone = True
        # Add its counts to the totals before its words are reused.
        while self.totals:
            self.totals.pop().close(self)
        self.answers.close()


class Listener:
    """Accepts connections and keeps them. Call it under the hub's lock.

    Args:
        poller: Poller for the connections.

    Attributes:
        address: The address that it listens at.
        clients: All connections, by number.
    """

    def __init__(self, poller: Poller) -> None:
        self._poller, self._door = poller, Door(poller)
        self.address = self._door.address
        self.clients: dict[int, Client] = {}
        self._by_fd: dict[int, Client] = {}
        self._last_number = 0

    def _welcome(self, sock: socket.socket, pool: BlockPool, pipe: RecordPipe) -> None:
        """Create a client for a new connection, and send its number, the memory and the pipe."""
        peer = credentials_of(sock).pid
        queue_address.users.add(peer)
        self._last_number += 1
        client = Client(self._last_number, peer, Answers(sock, partial(self._wait_for_room, sock)))
        hello = HEAD.pack(Down.HELLO, client.number, pool.arena.segment.size, pipe.mark, 0)
        try:
            socket.send_fds(sock, [hello], [pipe.write_fd, pool.arena.segment.fd])
        except OSError:
            self._poller.unregister(sock.fileno())
            client.close()  # it has exited already
            return
        self.clients[client.number] = self._by_fd[sock.fileno()] = client

    def _wait_for_room(self, sock: socket.socket) -> None:
        self._poller.modify(sock.fileno(), READABLE | WRITABLE)

    def attend(self, fd: int, event: int, pool: BlockPool, pipe: RecordPipe) -> Client | None:
        """Handle a ready descriptor; return the client if its connection was closed.

        Args:
            fd: The descriptor.
            event: Its poll events.
            pool: Memory to send to a new client.
            pipe: Pipe to send to a new client.
        """
        if self._door.is_mine(fd):
            # If an interrupt dropped a client's proof, the client would wait for an answer forever.
            with defer_signals():
                sock = self._door.attend(fd)
                if sock is not None:
                    self._welcome(sock, pool, pipe)
            return None
        client = self._by_fd.get(fd)
        if client is None:
            return None
        # Clients never write to this socket: anything readable is an end of file or a protocol violation.
        if event & ~WRITABLE and (data := _look_at(client.answers.sock)) is not None:
            if data:
                client.cut("it wrote to the socket on which it receives answers")
            del self.clients[client.number], self._by_fd[fd]
            self._poller.unregister(fd)
            client.close()
            return client
        if client.answers.flush():
            self._poller.modify(fd, READABLE)
        return None

    def close(self) -> None:
        """Close all connections and stop listening."""
        for client in list(self.clients.values()):
            client.close()
        self.clients.clear()
        self._by_fd.clear()
        self._door.close()


def _look_at(sock: socket.socket) -> bytes | None:
    """Return a byte if there is data to read, ``b""`` at the end of file, and None if there is no data."""
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        # Several threads may have polled the end of one connection. After the first one has closed it, the events of
        # the others may refer to a new connection with the same descriptor number, which is open.
        return None
    except OSError:
        return b""
