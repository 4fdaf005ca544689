"""A server that follows the script of a test, or serves numbered batches itself and checks the consumer's messages.

It speaks the protocol of `mpqueue.service.protocol.records` over a real socket in a real server directory. Its ring is a memfd.
"""

import contextlib
import os
import select
import socket
import threading
from collections import deque

import numpy as np

from helpers.consumer_requests import ConsumerRequest
from mpqueue.memory.layout import flatten, spec_of
from mpqueue.memory.segment import Segment, shared_words
from mpqueue.memory.writer import SlotWriter
from mpqueue.service.protocol.handshake import Hello, Refusal, Welcome
from mpqueue.service.protocol.records import (
    MAX_BODY,
    MAX_HANDSHAKE,
    MAX_MESSAGE,
    MORE,
    OFFER,
    PICKLED,
    Offer,
    Text,
    ToConsumer,
    ToServer,
)
from mpqueue.service.protocol.server_directory import ServerDirectory
from mpqueue.service.protocol.specs import encode_spec
from mpqueue.transport.records import ProtocolError

STRIDE = 1 << 20


def batch_of(number):
    """Return the batch that an `AutoServer` serves at this position."""
    return np.full((4, 3), number, np.int64), {"number": np.array([number, number + 1])}


class ScriptedServer:
    """A server with one ring, one listener, and one consumer at a time.

    Args:
        folder: Path of its server directory.
        num_slots: Number of slots of its ring.
        shares_taken: Give the consumer memory for the number of taken batches, as ``word``.
        welcome: Fields of its `Welcome` that differ from the defaults.
    """

    def __init__(self, folder, num_slots=24, *, is_open_to_others=False, shares_taken=False, **welcome):
        self.path, self._num_slots = str(folder), num_slots
        self.segment, self.read_only, self.turn = None, -1, 0
        self._claim = ServerDirectory.of(self.path).claim(is_open_to_others=is_open_to_others)
        self.peer, self._shares = None, shares_taken
        self.restart()
        self.window = welcome.pop("window", 8)
        self.fields = {
            "name": "scripted", "mode": "broadcast", "world": None, "job": "job", "length": None, "epoch": 0,
            "segment_bytes": num_slots * STRIDE, "stride": STRIDE,
            "pid": os.getpid(),
        } | welcome  # fmt: skip

    def restart(self):
        """Become a new server of the same name, with a new ring."""
        self._release_ring()
        fd = os.memfd_create("mpqueue-scripted")
        os.ftruncate(fd, self._num_slots * STRIDE)
        self.segment = Segment(fd, self._num_slots * STRIDE, "memfd")
        self.read_only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        self._writer = SlotWriter(self.segment, STRIDE, None)
        self.free = list(range(self._num_slots))[::-1]
        self._specs, self.number = {}, 0
        self.held = {}  # slots that were offered and not released, by turn

    def _release_ring(self):
        self.word = None
        if self.segment is not None:
            os.close(self.read_only)
            self.segment.close()
            self.segment = self._writer = None  # the writer's arrays would keep the ring mapped

    # -- Handshake

    def greet(self, *, refusal=None, answer=None, with_ring=True):
        """Accept the next consumer; return its `Hello`."""
        assert select.select([self._claim.listener], [], [], 60)[0]
        self.hang_up()
        self.peer, _ = self._claim.listener.accept()
        self.peer.settimeout(60)
        handshake = self.peer.recv(MAX_HANDSHAKE)
        if not handshake:
            raise ConnectionResetError("the consumer disconnected before it sent a message")
        hello = Hello.decode(handshake)
        if refusal is not None:
            self.send(Refusal(refused=refusal).encode())
            self.hang_up()
            return hello
        data = Welcome(**self.fields).encode() if answer is None else answer
        if self._shares:
            self.word, fd = shared_words()
            socket.send_fds(self.peer, [data], [self.read_only, fd])
            os.close(fd)
        else:
            socket.send_fds(self.peer, [data], [self.read_only] if with_ring else [])
        return hello

    # -- Messages to the consumer

    def spec(self, batch, flags=0):
        """Send the spec of a batch if it is new; return its number."""
        spec = spec_of(flatten(batch, [], []), [])
        if spec not in self._specs:
            self._specs[spec] = len(self._specs)
            body, is_pickled = encode_spec(spec)
            self.send_spec(self._specs[spec], body, flags | (PICKLED if is_pickled else 0))
        return self._specs[spec]

    def send_spec(self, number, body, flags, part=MAX_BODY):
        parts = [body[at : at + part] for at in range(0, len(body), part)]
        for point, text in enumerate(parts):
            more = MORE if point < len(parts) - 1 else 0
            self.send(Text(ToConsumer.SPEC, flags | more, number, text).pack())

    def offer_of(self, batch, epoch=0, position=0, flags=0):
        """Write a batch into a free slot; return its offer."""
        spec = self.spec(batch)
        slot = self.free.pop()
        self._writer.begin(slot, 0)
        self._writer.take([batch])
        placed = self._writer.place()
        self.turn, self.number = self.turn + 1, self.number + 1
        self.held[self.turn] = slot
        header = placed.header_offset + (16 if placed.new_spec else 0)
        return Offer(
            ToConsumer.OFFER, flags, spec, self.number, self.turn, slot, epoch, position, header, placed.nbytes
        )  # fmt: skip

    def offer(self, *batches, epoch=0, position=0, flags=0):
        """Offer batches in one message."""
        offers = [self.offer_of(batch, epoch, position + at, flags) for at, batch in enumerate(batches)]
        self.send(b"".join(OFFER.pack(*offer) for offer in offers))
        return offers

    def end(self, epoch=0, count=0):
        self.send(OFFER.pack(ToConsumer.END, 0, 0, 0, 0, 0, epoch, count, 0, 0))

    def raised(self, body, flags=0, epoch=0, position=-1):
        self.number += 1
        self.send(Text(ToConsumer.RAISED, flags, self.number, body, epoch, position).pack())

    def cut(self, flag, why="because"):
        self.send(Text(ToConsumer.CUT, flag, 0, why.encode()).pack())

    def send(self, message):
        self.peer.send(message)

    # -- Messages from the consumer

    def hear(self):
        """Return the consumer's next request, or None if it has disconnected."""
        data = self.peer.recv(MAX_MESSAGE)
        request = ConsumerRequest.unpack(data) if data else None
        for turn in request.released if request else ():
            self.free.append(self.held.pop(turn))
        return request

    def hear_all(self):
        """Return all requests that have arrived."""
        found = []
        while select.select([self.peer], [], [], 0)[0]:
            request = self.hear()
            if request is None:
                break
            found.append(request)
        return found

    # -- Shutdown

    def stop_listening(self):
        """Release the name, as a server that ends does; the connection remains."""
        self._claim.close()

    def hang_up(self):
        """Close the connection, as a server that crashes does."""
        if self.peer is not None:
            self.peer.close()
            self.peer = None

    def close(self):
        self.hang_up()
        self._claim.close()
        self._release_ring()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class AutoServer(ScriptedServer):
    """A server that serves epochs of numbered batches in a thread or in a process, and records errors of its consumer.

    Attributes:
        faults: Violations of the protocol.
        taken: Positions that were taken, over all consumers and epochs.
    """

    def __init__(self, folder, num_batches, *, batch=batch_of, dies_after=None, **options):
        super().__init__(folder, **options)
        self._num_batches, self._batch = num_batches, batch
        self._thread = None
        self.dies_after = dies_after
        self.faults, self.taken = [], []
        self._stop = os.pipe()

    def start(self):
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()
        return self

    def serve(self):
        """Serve one consumer after another, until `close`, or until the crash that ``dies_after`` requests."""
        while self.has_consumer():
            try:
                self.restart()
                hello = self.greet()
                resume = hello.resume
                epoch, at = (0, 0) if resume is None else (resume.epoch, resume.count)
                self._serve_one(epoch, at)
            except ConnectionError:  # the consumer has closed
                continue
            except (OSError, KeyError, ProtocolError, AssertionError) as error:
                self.faults.append(repr(error))
            finally:
                self.hang_up()

    def has_consumer(self):
        """Wait for a consumer; return False if the server must end instead."""
        ready, _, _ = select.select([self._claim.listener, self._stop[0]], [], [])
        return self._stop[0] not in ready

    def _serve_one(self, epoch, at):
        untaken, num_taken, has_begun, has_end = deque(), 0, False, False
        while True:
            while has_begun and not has_end and len(untaken) < self.window:
                if at == self._num_batches:
                    self.end(epoch, at)
                    has_end = True
                    break
                if self.free:
                    (offer,) = self.offer(self._batch(at), epoch=epoch, position=at)
                    untaken.append(offer)
                    at += 1
                    continue
                break
            request = self.hear()
            if request is None or request.kind == ToServer.LEAVE:
                return
            if request.kind == ToServer.BEGIN:
                if has_begun or request.value != epoch:
                    self.faults.append(f"began {request.value} in {epoch}, {has_begun}")
                has_begun = True
                continue
            if not num_taken <= request.value <= num_taken + len(untaken):
                self.faults.append(f"took {request.value} after {num_taken} of {len(untaken)} more")
            while num_taken < request.value:
                num_taken += 1
                self.taken.append((epoch, untaken.popleft().position))
            if has_end and not untaken:
                epoch, at, has_begun, has_end = epoch + 1, 0, False, False
            if self.dies_after is not None and len(self.taken) >= self.dies_after:
                self.dies_after = None
                return

    def close(self):
        if self.segment is not None:
            os.close(self._stop[1])
            if self._thread is not None:
                self._thread.join(60)
                assert not self._thread.is_alive()
            os.close(self._stop[0])
        super().close()


def fill_connection(consumer):
    """Send requests to a server that does not read, until the socket of the consumer is full."""
    connection = consumer._attachment.link._connection
    with contextlib.suppress(BlockingIOError):
        while True:
            connection.send(ConsumerRequest(ToServer.ASK).pack(), socket.MSG_DONTWAIT)


@contextlib.contextmanager
def attached(server, **options):
    """Yield a consumer that is attached to a scripted server; close it at the end."""
    import mpqueue

    found = []

    def attach():
        try:
            found.append(mpqueue.attach(server.path, timeout=60, **options))
        except BaseException as error:
            found.append(error)

    handshake = threading.Thread(target=attach)
    handshake.start()
    server.greet()
    handshake.join(60)
    if isinstance(found[0], BaseException):
        raise found[0]
    consumer = found.pop()
    with consumer:
        yield consumer
