"""The owner's service to all other processes that use its queues.

    another process                      this process
    ───────────────                      ────────────
    connect                 ──socket──►  a `Client`, with a number
    its records             ───pipe───►  catch_up: read all that there is, take the steps in order
                            ◄──socket──  answers, from the steps themselves
    its end                 ──socket──►  what it said before is read; then its calls are withdrawn, its blocks freed

The queues, their machines and the arena belong to this process and are touched here only. Another process owns the
bytes of the blocks that it was granted, and nothing else, so it may be killed at any moment: an element is enqueued by
one record, which is there or is not. Of what it had dequeued, only the answer to its last call can be lost with it.

`catch_up` is called by whoever listens (see `Watch`), and before each step that this process takes itself: so a call
that has returned anywhere is seen by every call that begins later.
"""

import contextlib
import fcntl
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpqueue.control import queue_address
from mpqueue.coordination import rendezvous
from mpqueue.memory.arena import Arena
from mpqueue.queues.client import Client
from mpqueue.queues.records import Record, Records
from mpqueue.queues.requests import EnqueueRequest
from mpqueue.queues.share import Share
from mpqueue.queues.shortage import Shortage
from mpqueue.queues.steps import WITHDRAWN, Steps
from mpqueue.queues.watch import Events, Watch
from mpqueue.queues.wire import HEAD, RECORD, Down, Up
from mpqueue.system import descriptors

if TYPE_CHECKING:
    from mpqueue.queues.core import QueueCore

_PIPE_BYTES = 1 << 20
_READ_BYTES = RECORD.size * 1024
_F_SETPIPE_SZ = 1031
# A call of this process that finds all it needs looks at the pipe only so often: a look costs as much as the call.
_STALE_S = 0.0005


class Hub:
    """Serves the queues of this process to others.

    Args:
        find_shared: Finds, or makes, the queue of a shared name that another process describes.

    Attributes:
        address: Where it listens.
        lock: Around everything; held briefly, and never while waiting.
        arena: The shared memory.
        shares: The queues, by number.
        clients: Who is connected, by number.
        mark: Of the records that others write.
        shortage: Who waits for shared memory.
        places: Free words of shared memory, for limits,
        num_pages: and the blocks that all such words lie in.
        freed: Blocks that this process has read, with their class if they all have one, else -1.
        deferred: Steps that wait for the end of a recall.
        touched: Queues whose windows are to be looked at.
        stale_at: When the pipe has to be looked at again, by `time.perf_counter`.
    """

    def __init__(self, find_shared: Callable[[bytes], "QueueCore"]) -> None:
        self.find_shared = find_shared
        self.lock = threading.Lock()
        self._process_id = os.getpid()
        self._listener, self.address = rendezvous.listen()
        descriptors.own_object(self._listener)
        self._listener.setblocking(False)
        self._pipe, self._pipe_write = descriptors.pipe()
        os.set_blocking(self._pipe, False)
        _enlarge(self._pipe)
        self.arena = Arena()
        self.words = memoryview(self.arena.segment.memory).cast("q")
        self.freed: deque[tuple[int, list[int]]] = deque()
        self.dropped: deque[int] = deque()
        self.watch = Watch(self._serve)
        self.shares: dict[int, Share] = {}
        self.clients: dict[int, Client] = {}
        self._by_fd: dict[int, Client] = {}
        self._last_client = self._last_queue = 0
        self.places: list[int] = []
        self.num_pages = 0
        self._stream = Records()
        self.mark = self._stream.mark
        self._admit_word = self.mark | Up.ADMIT
        self._records: deque[Record] = deque()
        self._unread: deque[bytes] = deque()
        self._recalled: list[Share] = []
        self.deferred: list[Callable[[], None]] = []
        self.touched: set[Share] = set()
        self._thread: threading.Thread | None = None
        self.is_closed = False
        self.stale_at = 0.0
        for fd in (self._pipe, self._listener.fileno()):
            self.watch.epoll.register(fd, _READABLE)
        self.shortage = Shortage(self)
        self._steps = Steps(self)

    # -- Queues of this process

    def share(self, core: "QueueCore") -> Share:
        """Serve a queue from now on; under the lock."""
        self._last_queue += 1
        share = self.shares[self._last_queue] = Share(self, self._last_queue, core)
        weakref.finalize(core, self.drop, self._last_queue).atexit = False
        return share

    def find(self, number: int) -> "QueueCore | None":
        """The queue of that number."""
        share = self.shares.get(number)
        return None if share is None else share.core

    def serve(self) -> None:
        """Start the thread; before, connections wait."""
        with self.lock:
            if self._thread is None and not self.is_closed:
                self._thread = threading.Thread(target=self.watch.run, name="mpqueue-queues", daemon=True)
                self._thread.start()

    def drop(self, number: int) -> None:
        """A queue is gone. Called by the garbage collector, anywhere."""
        if os.getpid() == self._process_id:
            self.dropped.append(number)
            self.watch.poke()

    def attend(self) -> None:
        """See now what has become readable, the ends of other processes too."""
        self._serve(self.watch.epoll.poll(0))

    # -- Listening

    def _serve(self, events: Events) -> None:
        with self.lock:
            self.catch_up()
            for fd, event in events:
                client = self._by_fd.get(fd)
                if client is not None:
                    self._attend(client, event)
                elif fd == self.watch.poke_fd:
                    _clear(fd)
                elif fd == self._listener.fileno():
                    self._accept()
            self.extend()
            while self.dropped:
                self._forget(self.dropped.popleft())
            self.shortage.relieve()

    def _accept(self) -> None:
        sock = rendezvous.accept(self._listener)
        if sock is None:
            return
        peer = rendezvous.process_id_of(sock)
        queue_address.users.add(peer)
        self._last_client += 1
        client = Client(self._last_client, peer, sock, self._on_full)
        hello = HEAD.pack(Down.HELLO, client.number, self.arena.segment.size, self.mark, 0)
        try:
            socket.send_fds(sock, [hello], [self._pipe_write, self.arena.segment.fd])
        except OSError:
            client.close()
            return
        self.clients[client.number] = self._by_fd[sock.fileno()] = client
        self.watch.epoll.register(sock.fileno(), _READABLE)

    def _on_full(self, client: Client) -> None:
        self.watch.epoll.modify(client.sock.fileno(), _READABLE | _WRITABLE)

    def _attend(self, client: Client, event: int) -> None:
        if event & ~_WRITABLE:
            if not event & ~(_WRITABLE | _DATA):
                self.cut(client, "it wrote to the socket on which it is answered")
            self._bury(client)
        elif client.flush():
            self.watch.epoll.modify(client.sock.fileno(), _READABLE)

    def cut(self, client: Client, why: str) -> None:
        """Serve a client no longer. Its windows are closed first: within one, an enqueue waits for no answer."""
        for producer in client.producers.values():
            self.words[producer.place] = 0
        client.cut(why)

    def _bury(self, client: Client) -> None:
        """A client is gone; all that it said has been read."""
        if client.is_gone:
            return
        del self.clients[client.number], self._by_fd[client.sock.fileno()]
        self.watch.epoll.unregister(client.sock.fileno())
        client.close()
        for number, share in client.shares.items():
            missing = sum(
                len(request.tokens) - request.entered
                for request in client.waiting.values()
                if isinstance(request, EnqueueRequest) and request.queue == number
            )
            client.cores[number].withdraw_owner(client, WITHDRAWN)
            producer = share.windows.producers.pop(client, None)
            if producer is not None:
                share.note_entered(client.process_id, producer.received - missing)
        for blocks in (*client.granted.values(), client.filled, *client.delivered.values()):
            self.arena.give(list(blocks))
        for place in client.places:
            self.words[place] = 0
        if not client.is_cut:  # else it may still look at them
            self.places += client.places
        self.shortage.forget(client)
        self.touched.update(client.shares.values())
        client.shares.clear()
        client.cores.clear()

    def _forget(self, number: int) -> None:
        """A queue is gone; without any, so is the hub."""
        self.arena.give(self.shares.pop(number).leave())
        if not self.shares:
            self._end()

    def _end(self) -> None:
        self.is_closed = True
        for client in list(self.clients.values()):
            client.close()
        self.clients.clear()
        self._by_fd.clear()
        rendezvous.forget(self.address)
        descriptors.close_object(self._listener)
        for fd in (self._pipe, self._pipe_write):
            descriptors.close(fd)
        self.watch.close()
        self.words.release()
        self.arena.close()

    # -- What other processes say

    def catch_up(self) -> None:
        """Read all that was said, and take the steps in order; under the lock."""
        if self.is_closed:
            return
        unread, records = self._unread, self._records
        is_empty = False
        num_recalled = 0
        while not is_empty or len(self._recalled) > num_recalled:  # a recall asks for one more look at the pipe
            num_recalled = len(self._recalled)
            try:
                # In one step of the interpreter, so that Ctrl-C cannot come between reading and keeping.
                unread.extend(map(os.read, (self._pipe,), (_READ_BYTES,)))
                is_empty = len(unread[-1]) < _READ_BYTES
            except BlockingIOError:
                is_empty = True
            while unread:
                found = self._stream.cut(unread[0])
                records += found  # no call from here to the next line, so that Ctrl-C cannot come between
                del unread[0]
            while records:
                if records[0][0] == self._admit_word:
                    self._steps.admit_run(records)
                else:
                    self._steps.take(*records.popleft())
        while self._recalled or self.deferred:
            self._settle()
        self.shortage.relieve()
        self.stale_at = time.perf_counter() + _STALE_S

    def _settle(self) -> None:
        """The pipe was read after the recalls: those who asked for them may go on."""
        while self._recalled:
            self._recalled.pop().settle()
        deferred, self.deferred = self.deferred, []
        for step in deferred:
            step()

    def recall(self, share: Share) -> None:
        """Windows of this queue were recalled: to be settled when the pipe has been read."""
        self._recalled.append(share)

    def extend(self) -> None:
        """Open the windows of all queues that something has happened to."""
        for share in self.touched:
            core = share.core
            if core is not None:
                share.extend(core)
        self.touched.clear()

    def collect(self) -> None:
        """Free the blocks that this process has read."""
        while self.freed:
            size_class, blocks = self.freed.popleft()
            if size_class >= 0:
                self.arena.give_alike(size_class, blocks)
            else:
                self.arena.give(blocks)


_DATA, _WRITABLE = 0x001, 0x004  # EPOLLIN, EPOLLOUT
_READABLE = _DATA | 0x2000  # EPOLLRDHUP


def _enlarge(pipe: int) -> None:
    with contextlib.suppress(OSError):  # the user's share of pipe memory is used up: the usual size does
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)


def _clear(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return  # cleared by another thread
