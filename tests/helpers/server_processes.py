"""A server in a separate process, and consumers with access to every record that they receive."""

import contextlib
import mmap
import os
import subprocess
import sys
import time
from collections import deque

import numpy as np

from helpers.consumer_requests import ConsumerRequest
from mpqueue.memory.layout import ReadSpec, base_over
from mpqueue.memory.segment import foreign_words
from mpqueue.service.protocol.handshake import Hello, Refusal, decode_answer
from mpqueue.service.protocol.records import (
    MAX_HANDSHAKE,
    MAX_MESSAGE,
    MAX_RELEASED,
    PICKLED,
    ToConsumer,
    ToServer,
    unpack_down,
)
from mpqueue.service.protocol.server_directory import ServerDirectory, greet, receive_answer
from mpqueue.service.protocol.specs import decode_spec
from mpqueue.system.descriptors import descriptors

DEADLOCK_S = 60


@contextlib.contextmanager
def served(*arguments):
    """Run ``mpqueue serve`` with these arguments; yield the process, and the folder that it has printed."""
    command = [sys.executable, "-m", "mpqueue", "serve", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().rstrip("\n")
        finally:
            process.kill()


def crash(process):
    """Kill a process, and wait for its end."""
    process.kill()
    process.wait()


def num_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


def connected(name, uid=None):
    """Return a new connection without a handshake. Close it with `descriptors.close_object`."""
    connection = ServerDirectory.of(name, uid).connect(time.monotonic() + DEADLOCK_S)
    connection.settimeout(DEADLOCK_S)
    return connection


class Refused(Exception):
    """The server's reason for rejecting a consumer."""


class CutOff(Exception):
    """The last message before the server closed the connection."""


class RawConsumer:
    """A consumer that speaks the protocol directly. It copies batches and releases their slots with the next `ASK`."""

    def __init__(self, name, hello=None, uid=None):
        self.sock = connected(name, uid)
        greet(self.sock, (hello or Hello()).encode())
        data, fds = receive_answer(self.sock, MAX_HANDSHAKE)
        self.welcome = decode_answer(data)
        if isinstance(self.welcome, Refusal):
            descriptors.close_object(self.sock)
            raise Refused(self.welcome.refused)
        self.epoch, self.taken, self.specs, self._waiting, self._held = self.welcome.epoch, 0, {}, deque(), []
        self._memory = mmap.mmap(fds[0], self.welcome.segment_bytes, prot=mmap.PROT_READ)
        self.word = foreign_words(fds[1])  # the number of taken batches; not used unless a test does
        for fd in fds:
            os.close(fd)

    def begin(self):
        self.say(ConsumerRequest(ToServer.BEGIN, self.epoch))

    def say(self, request):
        self.sock.send(request.pack())

    def next(self):
        """Return the next offer and a copy of its batch; at the end of the epoch, the end record and None."""
        while not self._waiting:
            self._waiting += self._heard()
        found = self._waiting.popleft()
        if found.kind == ToConsumer.END:
            self.epoch += 1
            return found, None
        batch = self._batch(found)
        self.taken += 1
        self._held.append(found.turn)
        return found, batch

    def ask(self):
        """Confirm the last batch, release its slot, and request the next one."""
        while True:
            released, self._held = self._held[:MAX_RELEASED], self._held[MAX_RELEASED:]
            self.say(ConsumerRequest(ToServer.ASK, self.taken, tuple(released)))
            if not self._held:
                return

    def epoch_through(self):
        """Return the positions and batches of one epoch in order of arrival."""
        self.begin()
        found = []
        while True:
            offer, batch = self.next()
            if offer.kind == ToConsumer.END:
                return found
            self.ask()
            found.append((offer.position, batch))

    def _heard(self):
        data = self.sock.recv(MAX_MESSAGE)
        if not data:
            raise CutOff
        found = unpack_down(data)
        if found[0].kind in (ToConsumer.OFFER, ToConsumer.END):
            return found
        if found[0].kind == ToConsumer.SPEC:
            text = found[0]
            self.specs[text.id] = ReadSpec(decode_spec(text.body, bool(text.flags & PICKLED), allow_pickle=False))
            return []
        raise CutOff(found[0].body.decode())

    def _batch(self, offer):
        start, spec = offer.slot * self.welcome.stride, self.specs[offer.spec]
        recipe = spec.recipes[self._memory[start + offer.header_offset : start + offer.nbytes]]
        return np.copy(spec.rebuild(recipe, base_over(self._memory, start, offer.nbytes, recipe.structure)))

    def close(self):
        """Leave the server, as a consumer does that uses no batch any longer."""
        with contextlib.suppress(OSError):
            self.say(ConsumerRequest(ToServer.LEAVE))
        self.drop()

    def drop(self):
        """Close the connection without a message."""
        descriptors.close_object(self.sock)
        self._memory.close()
        self.word = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
