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
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mpqueue.control import descriptors, queue_home, rendezvous
from mpqueue.errors import CancelledError, InvalidArgumentError, OpError, SharedMemoryFull
from mpqueue.memory.arena import Arena, class_for, offset_of
from mpqueue.queues.client import Client, ProtocolError
from mpqueue.queues.requests import CloseRequest, DequeueRequest, EnqueueRequest, Request
from mpqueue.queues.share import Share
from mpqueue.queues.watch import Events, Watch
from mpqueue.queues.wire import HEAD, RECORD, Down, Up, encode_error

if TYPE_CHECKING:
    from mpqueue.queues.core import QueueCore

_PIPE_BYTES = 1 << 20
_READ_BYTES = RECORD.size * 1024
_WORDS_BYTES = 1 << 12
_F_SETPIPE_SZ = 1031
# A call of this process that finds all it needs looks at the pipe only so often: a look costs as much as the call.
_STALE_S = 0.0005

WITHDRAWN = CancelledError(None, None, "withdrawn by its caller")


class Hub:
    """Serves the queues of this process to others.

    Args:
        find_shared: Finds, or makes, the queue of a shared name that another process describes.

    Attributes:
        address: Where it listens.
        lock: Around everything; held briefly, and never while waiting.
        arena: The shared memory.
        stale_at: When the pipe has to be looked at again, by `time.perf_counter`.
    """

    def __init__(self, find_shared: Callable[[bytes], "QueueCore"]) -> None:
        self._find_shared = find_shared
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
        self._shares: dict[int, Share] = {}
        self._clients: dict[int, Client] = {}
        self._by_fd: dict[int, Client] = {}
        self._last_client = self._last_queue = 0
        self._places: list[int] = []
        self._records: deque[tuple[int, ...]] = deque()
        self._unread: deque[bytes] = deque()
        self._recalled: list[Share] = []
        self._deferred: list[Callable[[], None]] = []
        self._touched: set[Share] = set()
        self._thread: threading.Thread | None = None
        self.is_closed = False
        self.stale_at = 0.0
        for fd in (self._pipe, self._listener.fileno()):
            self.watch.epoll.register(fd, _READABLE)
        self._steps = {
            Up.ATTACH: self._attach,
            Up.WANT: self._want,
            Up.FILLED: self._filled,
            Up.ENQUEUE: self._enqueue,
            Up.CONFIRM: self._confirm,
            Up.DEQUEUE: self._dequeue,
            Up.READ: self._read,
            Up.UNREAD: self._put_back,
            Up.CLOSE: self._close,
            Up.WITHDRAW: self._withdraw,
            Up.ASK: self._ask,
            Up.FIND: self._find,
        }

    # -- Queues of this process

    def share(self, core: "QueueCore") -> Share:
        """Serve a queue from now on; under the lock."""
        self._last_queue += 1
        share = self._shares[self._last_queue] = Share(self, self._last_queue, core)
        weakref.finalize(core, self.drop, self._last_queue).atexit = False
        return share

    def find(self, number: int) -> "QueueCore | None":
        """The queue of that number."""
        share = self._shares.get(number)
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

    def _accept(self) -> None:
        sock = rendezvous.accept(self._listener)
        if sock is None:
            return
        peer = rendezvous.process_id_of(sock)
        queue_home.users.add(peer)
        self._last_client += 1
        client = Client(self._last_client, peer, sock, self._on_full)
        hello = HEAD.pack(Down.HELLO, client.number, self.arena.segment.size, os.getpid(), 0)
        try:
            socket.send_fds(sock, [hello], [self._pipe_write, self.arena.segment.fd])
        except OSError:
            client.close()
            return
        self._clients[client.number] = self._by_fd[sock.fileno()] = client
        self.watch.epoll.register(sock.fileno(), _READABLE)

    def _on_full(self, client: Client) -> None:
        self.watch.epoll.modify(client.sock.fileno(), _READABLE | _WRITABLE)

    def _attend(self, client: Client, event: int) -> None:
        if event & ~_WRITABLE:
            self._bury(client)
        elif client.flush():
            self.watch.epoll.modify(client.sock.fileno(), _READABLE)

    def _bury(self, client: Client) -> None:
        """A client is gone; all that it said has been read."""
        if client.is_gone:
            return
        del self._clients[client.number], self._by_fd[client.sock.fileno()]
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
        self._places += client.places
        self._touched.update(client.shares.values())
        client.shares.clear()
        client.cores.clear()

    def _forget(self, number: int) -> None:
        """A queue is gone; without any, so is the hub."""
        del self._shares[number]
        if not self._shares:
            self._end()

    def _end(self) -> None:
        self.is_closed = True
        for client in list(self._clients.values()):
            client.close()
        self._clients.clear()
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
                records.extend(RECORD.iter_unpack(unread[0]))
                unread.popleft()
            while records:
                if records[0][0] == Up.ADMIT:
                    self._admit_run(records)
                else:
                    self._take(*records.popleft())
        while self._recalled or self._deferred:
            self._settle()
        self.stale_at = time.perf_counter() + _STALE_S

    def _take(self, kind: int, flag: int, number: int, *said: int) -> None:
        """Take the step that a record asks for."""
        client = self._clients.get(number)
        if client is None:
            return
        try:
            self._steps[kind](client, flag, *said)
        except (ProtocolError, KeyError):
            client.sock.shutdown(socket.SHUT_RDWR)  # its end follows

    def _admit_run(self, records: deque[tuple[int, ...]]) -> None:
        """Take the records of one queue that need no answer all in one step: the way of most elements."""
        queue, tokens = records[0][3], []
        clients = self._clients
        core: QueueCore | None = None
        while records and records[0][0] == Up.ADMIT and records[0][3] == queue:
            _kind, size_class, number, _queue, call, count, seq = records.popleft()
            client = clients.get(number)
            if client is None:
                continue
            try:
                producer = client.producers[queue]
                if seq <= producer.limit or seq <= producer.promise:
                    producer.received = seq
                    core = client.cores[queue]
                    if count == 1 and not client.filled:
                        tokens.append(client.granted[size_class].popleft())
                    else:
                        client.fill(size_class, count)
                        tokens += client.filled
                        client.filled.clear()
                    continue
            except (ProtocolError, KeyError, IndexError):
                client.sock.shutdown(socket.SHUT_RDWR)  # its end follows
                continue
            records.appendleft((Up.ENQUEUE, size_class, number, queue, call, count, seq))  # beyond its window
            break
        if core is not None:
            self._touched.add(self._shares[queue])
            core.admit(tokens)

    def _settle(self) -> None:
        """The pipe was read after the recalls: those who asked for them may go on."""
        while self._recalled:
            self._recalled.pop().settle()
        deferred, self._deferred = self._deferred, []
        for step in deferred:
            step()

    def recall(self, share: Share) -> None:
        """Windows of this queue were recalled: to be settled when the pipe has been read."""
        self._recalled.append(share)

    def extend(self) -> None:
        """Open the windows of all queues that something has happened to."""
        for share in self._touched:
            core = share.core
            if core is not None:
                share.extend(core)
        self._touched.clear()

    def _collect(self) -> None:
        while self.freed:
            size_class, blocks = self.freed.popleft()
            if size_class >= 0:
                self.arena.give_alike(size_class, blocks)
            else:
                self.arena.give(blocks)

    def _attach(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        core = self.find(queue)
        if core is None:
            error = CancelledError(None, None, "the queue is gone: nothing refers to it in the process that owned it")
            client.answer(Down.FAILED, number, *encode_error(error))
            return
        share = self._shares[queue]
        client.shares[queue], client.cores[queue] = share, core
        if client not in share.windows.producers:
            if not self._places:
                first = offset_of(self.arena.take(class_for(_WORDS_BYTES), 1)[0])
                self._places = list(range(first // 8, (first + _WORDS_BYTES) // 8))
            client.places.append(self._places.pop())
            client.producers[queue] = share.windows.add(client, client.places[-1])
        producer = client.producers[queue]
        client.answer(Down.DONE, number, producer.place, producer.received)

    def _want(self, client: Client, size_class: int, _q: int, number: int, count: int, _b: int) -> None:
        self._collect()
        try:
            try:
                tokens = self.arena.take(size_class, count)
            except SharedMemoryFull:
                tokens = self.arena.take(size_class, 1)
        except SharedMemoryFull as error:
            client.answer(Down.FAILED, number, *encode_error(error))
            return
        client.granted.setdefault(size_class, deque()).extend(tokens)
        client.answer(Down.BLOCKS, number, size_class, 0, np.array(tokens, np.int64).tobytes())

    def _filled(self, client: Client, size_class: int, _q: int, _number: int, count: int, _b: int) -> None:
        client.fill(size_class, count)

    def _enqueue(self, client: Client, size_class: int, queue: int, number: int, count: int, seq: int) -> None:
        client.fill(size_class, count)
        tokens, client.filled = client.filled, []
        share, core, producer = client.shares[queue], client.cores[queue], client.producers[queue]
        producer.received = seq
        self._touched.add(share)
        if seq <= producer.limit or seq <= producer.promise:
            core.admit(tokens)
            client.answer(Down.DONE, number)
            return
        request = EnqueueRequest(tokens)
        self._submit(client, share, number, request, partial(self._enqueued, client, number, request))

    def _confirm(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        def confirm() -> None:
            if number not in client.waiting:
                client.answer(Down.DONE, number)

        if client.shares[queue].is_recalling:
            self._deferred.append(confirm)  # behind the call itself
        else:
            confirm()

    def _dequeue(self, client: Client, fewer: int, queue: int, number: int, count: int, _b: int) -> None:
        if count < 1:
            raise ProtocolError(f"a dequeue of {count} elements")
        request = DequeueRequest(count, bool(fewer))
        share = client.shares[queue]
        self._touched.add(share)
        self._submit(client, share, number, request, partial(self._dequeued, client, number, request, share))

    def _close(self, client: Client, cancel: int, queue: int, number: int, _a: int, _b: int) -> None:
        share, core, request = client.shares[queue], client.cores[queue], CloseRequest()
        if not cancel:
            self._submit(client, share, number, request, partial(self._finished, client, number, request))
            return

        def close_now() -> None:
            core.close_now()
            client.answer(Down.DONE, number)

        if share.make_way(core, request):
            close_now()
        else:
            self._deferred.append(close_now)

    def _submit(
        self,
        client: Client,
        share: Share,
        number: int,
        request: EnqueueRequest | CloseRequest | DequeueRequest,
        notify: Callable[[], None],
    ) -> None:
        core = client.cores[share.number]
        request.owner, request.queue, request.notify = client, share.number, notify

        def submit() -> None:
            if not client.is_gone:
                client.waiting[number] = request
                core.step(request, None)
            elif isinstance(request, EnqueueRequest):
                self.arena.give(list(request.tokens))

        if share.make_way(core, request):
            submit()
        else:
            self._deferred.append(submit)

    def _withdraw(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        share, core = client.shares[queue], client.cores[queue]

        def withdraw() -> None:
            request = client.waiting.get(number)
            if request is not None:
                core.withdraw(request, WITHDRAWN)

        if share.is_recalling:
            self._deferred.append(withdraw)  # behind the call itself, which may wait there
        else:
            withdraw()

    def _ask(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        core = client.cores[queue]
        client.answer(Down.STATE, number, *core.state)

    def _find(self, client: Client, size_class: int, _q: int, number: int, length: int, _b: int) -> None:
        client.fill(size_class, 1)
        token = client.filled.pop()
        at = offset_of(token)
        description = self.arena.segment.memory[at : at + length]
        self.arena.give([token])
        try:
            share = self._find_shared(description).share(self.share)
        except (OpError, TypeError, ValueError) as error:
            refused = error if isinstance(error, OpError) else InvalidArgumentError(None, None, str(error))
            client.answer(Down.FAILED, number, *encode_error(refused))
            return
        client.answer(Down.DONE, number, share.number)

    def _read(self, client: Client, _c: int, _queue: int, number: int, _a: int, _b: int) -> None:
        self.arena.give(client.delivered.pop(number))

    def _put_back(self, client: Client, _c: int, queue: int, number: int, _a: int, _b: int) -> None:
        client.cores[queue].put_back(list(client.delivered.pop(number)))

    # -- Ends of their calls; under the queue's lock, too

    def _enqueued(self, client: Client, number: int, request: EnqueueRequest) -> None:
        self.freed.append((-1, list(request.tokens[request.entered :])))
        self._finished(client, number, request)

    def _finished(self, client: Client, number: int, request: Request) -> None:
        client.waiting.pop(number, None)
        if request.error is None:
            client.answer(Down.DONE, number)
        else:
            client.answer(Down.FAILED, number, *encode_error(_own(request.error)))

    def _dequeued(self, client: Client, number: int, request: DequeueRequest, share: Share) -> None:
        if request.error is not None:
            self._finished(client, number, request)
            return
        client.waiting.pop(number, None)
        try:
            blocks = self._as_blocks(request.taken, share)
        except SharedMemoryFull as error:
            taken, request.taken = request.taken, []
            self._deferred.append(partial(client.cores[share.number].put_back, taken))
            self.watch.poke()
            client.answer(Down.FAILED, number, *encode_error(error))
            return
        client.delivered[number] = blocks
        client.answer(Down.TAKEN, number, len(blocks), 0, np.array(blocks, np.int64).tobytes())

    def _as_blocks(self, tokens: list[Any], share: Share) -> list[int]:
        """Elements that threads of this process enqueued are written to blocks now."""
        blocks, made = list(tokens), []
        try:
            for place, token in enumerate(tokens):
                if type(token) is not int:
                    size_class, pieces = share.storage.to_block(token)
                    made += self.arena.take(size_class, 1)
                    share.storage.codec.write(made[-1], pieces)
                    blocks[place] = made[-1]
        except BaseException:
            self.arena.give(made)
            raise
        return blocks


def _own(error: OpError) -> OpError | None:
    return None if error is WITHDRAWN else error


_READABLE, _WRITABLE = 0x001 | 0x2000, 0x004  # EPOLLIN | EPOLLRDHUP, EPOLLOUT


def _enlarge(pipe: int) -> None:
    with contextlib.suppress(OSError):  # the user's share of pipe memory is used up: the usual size does
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)


def _clear(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return  # cleared by another thread
