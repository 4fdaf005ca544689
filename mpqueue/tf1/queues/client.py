"""The owner's side of a queue that other processes use, and of their connections. Under the hub's lock.

A connection is accepted from who has proven to have the token (see `Door`), and becomes a `Client`: it is told its
number, given the memory and the pipe, answered by its socket, and noticed when that ends.
"""

import logging
import socket
import weakref
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mpqueue.engine import queue_address
from mpqueue.system import descriptors, socket_support
from mpqueue.system.interrupts import defer_signals
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

_MAX_NOTED = 1024


class SharedQueue:
    """One queue and what belongs to it.

    Args:
        number: Its number in records.
        core: The queue, held weakly: it lives as long as somebody here or a connection refers to it.
        pool: The blocks.
        windows: Its producers' windows.

    Attributes:
        number: As given.
        core: Gives the queue, None when it is gone.
        machine: The queue's.
        windows: As given.
        storage: Keeps its elements, from now on.
        num_entered: How many elements went in by connections that have ended, by their processes.
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
        """True if its elements may be given as leases: all are blocks, and copied alike."""
        storage, is_short = self.storage, self._pool.arena.was_short
        # Of what is copied before it is taken any bytes must make an element, see `lease`: texts and varying shapes may
        # not. Where memory was short, none may keep the blocks of its last TAKE until it is heard of again.
        is_alike = IS_STRONGLY_ORDERED and storage.codec.size_class >= 0 and not storage.has_plain
        return is_alike and not is_short and self.windows.may_lend

    def held_blocks(self) -> list[int]:
        """Blocks of the elements in it, and of those that waiting dequeues have taken."""
        return self.storage.blocks_of(self.machine.held())

    @property
    def num_stuck(self) -> int:
        """Number of blocks that will not come free before more is enqueued, since a dequeue waits for that."""
        return len(self.held_blocks()) if self.machine.has_waiting_dequeues else 0

    def note_entered(self, process_id: int, count: int) -> None:
        """A connection has ended, by which so many elements went in."""
        self.num_entered[process_id] = self.num_entered.get(process_id, 0) + count
        while len(self.num_entered) > _MAX_NOTED:  # asked for soon after a death, or never
            del self.num_entered[next(iter(self.num_entered))]


_MAX_OUTBOX_BYTES = 1 << 26

_log = logging.getLogger(__name__)
_FLAGS = socket.MSG_DONTWAIT | socket_support.NO_SIGPIPE


class QueueUse(NamedTuple):
    """A client's use of one queue.

    Attributes:
        queue: The queue.
        core: Keeps it alive as long as the client lives.
        producer: The client's window there.
        taker: The client's leases there.
    """

    queue: SharedQueue
    core: QueueCore
    producer: Producer
    taker: Taker


class PendingGrant(NamedTuple):
    """Blocks that were granted when memory was short, and not yet enqueued.

    Attributes:
        producer: The client's window of the queue that they are for.
        num_enqueued: Number of elements that it had enqueued there when it got them.
    """

    producer: Producer
    num_enqueued: int


class Answers:
    """The socket on which one client is answered; never blocks.

    Args:
        sock: The socket.
        on_full: Called when answers have to wait until the socket takes them; `flush` is to be called then.

    Attributes:
        sock: As given.
        has_ended: The client has ended, or has left, as an answer found; the socket's end will be seen later.
    """

    def __init__(self, sock: socket.socket, on_full: Callable[[], None]) -> None:
        self.sock, self._on_full = sock, on_full
        descriptors.own_object(sock)
        sock.setblocking(False)  # a process that reads no answers must not hold up the others
        self.has_ended = self._is_closed = False
        self._outbox = bytearray()

    def send(self, kind: int, number: int, one: int = 0, two: int = 0, data: bytes = b"") -> None:
        """Send an answer; see `wire.Down`."""
        if self._is_closed:
            return
        message = HEAD.pack(kind, number, one, two, len(data)) + data
        if len(self._outbox) > _MAX_OUTBOX_BYTES:
            _log.error("a process is cut off from the queues of this one: it asks, and reads no answers")
            self._outbox.clear()
            self.sock.shutdown(socket.SHUT_RDWR)
        if self._outbox:  # behind those that wait
            self._outbox += message
            return
        # Sent from the step itself: a thread for it would cost each answer a change of threads.
        self._outbox += message[self._write(message) :]
        if self._outbox:
            self._on_full()

    def fail(self, number: int, error: BaseException) -> None:
        """Answer a call with an error."""
        self.send(Down.FAILED, number, *encode_error(error))

    def flush(self) -> bool:
        """Send what had to wait; True if that was all."""
        del self._outbox[: self._write(self._outbox)]
        return not self._outbox

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self.sock.send(data, _FLAGS)
        except BlockingIOError:
            return 0
        except OSError:
            self.has_ended = True
            return len(data)  # nobody will ask for it

    def close(self) -> None:
        """Send no more."""
        self._is_closed = True
        descriptors.close_object(self.sock)


class Client:
    """One thread of another process. Under the hub's lock.

    Args:
        number: The number of the connection in its records.
        process_id: Its process.
        answers: Its socket.

    Attributes:
        number: As given.
        process_id: As given.
        answers: As given.
        granted: Lines of empty blocks that it may write to, by size class, see `wire.take_first`.
        filled: Blocks that it has written, to be enqueued with its next call.
        pending_grant: Blocks granted when memory was short and not yet enqueued, or None.
        waiting: Its calls in line, by their number.
        delivered: The blocks of the elements that it was given to read, by the number of the call.
        uses: Queues that it uses, by their number.
        words: Places of shared memory that are its own: limits, and cells of tallies.
        totals: Tallies that it counts for.
        is_gone: It has ended.
        is_cut: It violated the protocol, and is not served any more; its process may live on.
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
        """Note that it has written the next blocks of a class.

        Raises:
            ProtocolError: It was not granted so many.
        """
        granted = self.granted.get(size_class) or []
        if count > len(granted):
            raise ProtocolError(f"{count} blocks of class {size_class} were filled, {len(granted)} are granted")
        # By number and order alone: no record has to name a block, and none can name another one's.
        self.filled += take_first(granted, count)

    @property
    def num_granted(self) -> int:
        """Number of empty blocks that it has."""
        return sum(map(len, self.granted.values()))

    @property
    def num_kept(self) -> int:
        """Number of blocks that it has taken by a lease, and keeps until it is heard of again."""
        return sum(len(self.delivered.get(use.taker.last, ())) for use in self.uses.values())

    @property
    def is_to_enqueue(self) -> bool:
        """True if the blocks that it was granted last, when memory was short, will be enqueued without more."""
        grant = self.pending_grant
        return grant is not None and grant.producer.received == grant.num_enqueued

    def blocks(self) -> list[int]:
        """All blocks in its hands."""
        read = [block for each in self.delivered.values() for block in each]
        return [block for some in (*self.granted.values(), self.filled, read) for block in some]

    def cut(self, why: str) -> None:
        """Serve it no longer: its calls fail, and its end follows."""
        _log.error("process %d is cut off from the queues of this process: %s", self.process_id, why)
        self.is_cut = True
        for use in self.uses.values():  # first of all: within a window, an enqueue waits for no answer
            use.queue.windows.close(use.producer)
            if use.queue.windows.lease.holder is use.taker:
                use.queue.windows.lease.recall()
        self.answers.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Note that it is gone."""
        self.is_gone = True
        # Before its words are given to others: what they hold by now is counted.
        while self.totals:
            self.totals.pop().close(self)
        self.answers.close()


class Listener:
    """Accepts connections and keeps them. Under the hub's lock.

    Args:
        poller: Waits for them.
        path: The path of the socket, in a folder of the caller's; None: where nobody else has one.

    Attributes:
        address: The address at which it listens.
        clients: All connections, by number.
    """

    def __init__(self, poller: Poller, path: str | None = None) -> None:
        self._poller, self._door = poller, Door(poller, path)
        self.address = self._door.address
        self.clients: dict[int, Client] = {}
        self._by_fd: dict[int, Client] = {}
        self._last_number = 0

    def _welcome(self, sock: socket.socket, pool: BlockPool, pipe: RecordPipe) -> None:
        """Tell a client its number, and give it the memory and the pipe."""
        peer = credentials_of(sock).pid
        queue_address.users.add(peer)
        self._last_number += 1
        client = Client(self._last_number, peer, Answers(sock, partial(self._wait_for_room, sock)))
        hello = HEAD.pack(Down.HELLO, client.number, pool.arena.segment.size, pipe.mark, 0)
        try:
            socket.send_fds(sock, [hello], [pipe.write_fd, pool.arena.segment.fd])
        except OSError:
            self._poller.unregister(sock.fileno())
            client.close()  # it has ended before it was welcomed
            return
        self.clients[client.number] = self._by_fd[sock.fileno()] = client

    def _wait_for_room(self, sock: socket.socket) -> None:
        self._poller.modify(sock.fileno(), READABLE | WRITABLE)

    def attend(self, fd: int, event: int, pool: BlockPool, pipe: RecordPipe) -> Client | None:
        """See to the connection of a descriptor that is ready; the client, if it has ended.

        Args:
            fd: The descriptor.
            event: For what it is ready.
            pool: The memory that a new client gets,
            pipe: and the pipe.
        """
        if self._door.is_mine(fd):
            with defer_signals():  # what an interrupt made of a proof, its sender would wait for for ever
                sock = self._door.attend(fd)
                if sock is not None:
                    self._welcome(sock, pool, pipe)
            return None
        client = self._by_fd.get(fd)
        if client is None:
            return None
        # Nothing is ever said on this socket: whatever can be read is its end, or a mistake.
        if event & ~WRITABLE and (found := _look_at(client.answers.sock)) is not None:
            if found:
                client.cut("it wrote to the socket on which it is answered")
            del self.clients[client.number], self._by_fd[fd]
            self._poller.unregister(fd)
            client.close()
            return client
        if client.answers.flush():
            self._poller.modify(fd, READABLE)
        return None

    def close(self) -> None:
        """End all connections, and accept no more."""
        for client in list(self.clients.values()):
            client.close()
        self.clients.clear()
        self._by_fd.clear()
        self._door.close()


def _look_at(sock: socket.socket) -> bytes | None:
    """Return a byte if there is something to read; none at the end; None: it goes on."""
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        # Several threads may have waited for the end of one connection. The first has closed it, and what the others
        # were told may meet the next one of its number, which is alive.
        return None
    except OSError:
        return b""
