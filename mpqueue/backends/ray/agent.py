"""The agent of one node: runs workers there on behalf of a trainer on another machine.

    trainer <--- one connection ---> agent ---- fork server ---- workers
                                       |                       |
                                       +---- mirrored ring ----+

An agent is a Ray actor, one per node. It has a fork server and a ring like a trainer, starts the workers that the
trainer requests, and forwards grants and reports (`mpqueue.backends.ray.hosted`). One loop waits for the connection and
for all pipes. The agent keeps no work items, so it has no state to recover: when the connection ends, the agent exits,
and the trainer has the batches computed elsewhere.

The agent exits when the connection ends, when its raylet crashes, when its fork server crashes (which it reports
first), or when Ray kills it. The kernel then kills the fork server and the workers, too.
"""

import contextlib
import hashlib
import os
import pickle
import socket
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mpqueue.backends.ray import wire
from mpqueue.backends.ray.hosted import Hosted
from mpqueue.backends.ray.mirror import Mirror
from mpqueue.backends.ray.wire import FROM_AGENT, TO_AGENT, AgentTerms, FromAgent, ToAgent
from mpqueue.backends.sending.source_send import Patch
from mpqueue.backends.start.launcher import ForkServer, LauncherGone, ProcessEvent
from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes import hash_seed
from mpqueue.system.processes.processes import has_pidfds
from mpqueue.transport.framing import Incoming, Messages, Outgoing
from mpqueue.transport.poller import READABLE, WRITABLE, close_poller, make_poller
from mpqueue.transport.records import Bytes, ProtocolError
from mpqueue.worker import failures
from mpqueue.worker.config import WorkerConfig, WorkerEnds
from mpqueue.worker.queue_address import QueueDirectory
from mpqueue.worker.records import GRANT, GrantKind

_CONNECT_S = 20.0


def serve(terms: AgentTerms) -> None:
    """Serve the trainer until its connection ends.

    Raises:
        OSError: The trainer cannot be reached, or another process listens at its address.
    """
    _settle(terms)
    sock = _connect(terms)
    try:
        agent = Agent(sock, terms)
    except Exception as error:
        # The trainer waits for messages on this connection, and would only find that it is silent.
        _complain(sock, Outgoing(sock), error)
        sock.close()
        raise
    try:
        agent.run()
    except Exception as error:
        # Also an OSError: shared memory may be exhausted. If the connection was closed, this has no effect.
        _complain(sock, agent._outgoing, error)
    finally:
        agent.close()


def _settle(terms: AgentTerms) -> None:
    """Make this process like the trainer, as far as its own machine allows."""
    with contextlib.suppress(OSError):  # the folder may not exist on this machine
        os.chdir(terms.cwd)
    # Appended: the packages of this machine take precedence, because the trainer's paths may hold other versions here.
    sys.path += [entry for entry in terms.path if entry not in sys.path and os.path.exists(entry)]
    sys.argv = terms.argv  # not `sys.argv` of Ray's worker: the fork server copies it for the workers
    # For the interpreters that this process starts. Its own hash seed is fixed since its start.
    os.environ[hash_seed.VARIABLE] = terms.hash_seed
    # Ray sets it after the start, to the CPUs of all workers of this node, unless the program has set it.
    with open("/proc/self/environ", "rb") as file:
        if b"\0OMP_NUM_THREADS=" not in b"\0" + file.read():
            os.environ.pop("OMP_NUM_THREADS", None)


def _connect(terms: AgentTerms) -> socket.socket:
    sock = socket.socket()
    try:
        wire.enlarge_buffers(sock)
        sock.settimeout(_CONNECT_S)
        sock.connect(terms.address)
        if wire.uses_tls():
            sock = wire.wrap(sock, is_server=False)
        wire.greet(sock, terms.token, terms.link_index)
        wire.prepare(sock, terms.deadline_s)
    except BaseException:
        sock.close()
        raise
    return sock


def _complain(sock: socket.socket, outgoing: Outgoing, error: Exception) -> None:
    packed = failures.pack(error, "raised in the agent of a node")
    with contextlib.suppress(OSError):
        sock.settimeout(_CONNECT_S)
        outgoing.put(FROM_AGENT.pack(FromAgent.FAULT, 0, len(packed)) + packed)
        outgoing.flush()


class Agent:
    """The agent of one trainer; see the module's docstring.

    Args:
        sock: The connection, non-blocking.
        terms: The instructions of the trainer.
    """

    def __init__(self, sock: socket.socket, terms: AgentTerms) -> None:
        self._sock, self._terms = sock, terms
        self._mirror: Mirror | None = None
        self._hosted: dict[int, Hosted] = {}
        self._handlers: dict[int, Callable[[], object]] = {}  # by descriptor
        self._outgoing = Outgoing(sock)
        self._incoming = Incoming(sock, self._messages())
        with contextlib.ExitStack() as undo:
            self._fork_server = ForkServer(spawn=terms.spawn)
            undo.callback(self._fork_server.end)
            self._fork_server.settle()
            self._poller = make_poller()
            undo.callback(close_poller, self._poller)
            # A killed raylet would leave this process and its workers running: on Linux they are not part of its
            # session. Without pidfds, only the end of the connection ends them.
            self._raylet = os.pidfd_open(os.getppid()) if has_pidfds() else -1
            undo.pop_all()
        self._is_over = self._has_lost_fork_server = False
        self._said_at = time.monotonic()

    def run(self) -> None:
        """Forward messages until the end.

        Raises:
            OSError: The connection was closed, or shared memory, processes or descriptors are exhausted.
        """
        self._listen(self._sock.fileno(), self._take_messages)
        self._listen(self._fork_server.fileno(), self._take_events)
        if self._raylet >= 0:
            self._listen(self._raylet, self._end)
        tick_s = self._terms.deadline_s / 3  # on a busy machine, two ticks may be late before the node counts as lost
        wants_room = False
        while not self._is_over:
            for fd, _ in self._poller.poll(tick_s):
                # An earlier handler of the same wait may have stopped a worker and unregistered this pipe.
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler()
            now = time.monotonic()
            if now - self._said_at >= tick_s:
                self._put(FromAgent.TICK, 0)
            self._outgoing.flush()
            # Watch for writability only while data is queued: a socket with room is always ready, and this loop would
            # spin.
            if wants_room is self._outgoing.is_empty:
                wants_room = not wants_room
                self._poller.modify(self._sock.fileno(), READABLE | (WRITABLE if wants_room else 0))

    def _listen(self, fd: int, handler: Callable[[], object]) -> None:
        self._handlers[fd] = handler
        self._poller.register(fd, READABLE)

    def _deafen(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def _put(self, kind: int, key: int, body: Bytes = b"", *payloads: Bytes) -> None:
        self._outgoing.put(FROM_AGENT.pack(kind, key, len(body)) + body, *payloads)
        self._said_at = time.monotonic()

    def _end(self) -> None:
        self._is_over = True

    def close(self) -> None:
        """Stop the workers and release all resources."""
        if not self._has_lost_fork_server:
            self._fork_server.end()
        for hosted in self._hosted.values():
            hosted.pipes.close()
        self._sock.close()
        if self._raylet >= 0:
            os.close(self._raylet)
        close_poller(self._poller)
        if self._mirror is not None:
            self._mirror.close()

    # -- From the trainer

    def _take_messages(self) -> None:
        if not self._incoming.take():
            self._is_over = True

    def _messages(self) -> Messages:
        """Parse the trainer's messages."""
        while True:
            kind, key, nbytes = TO_AGENT.parse((yield TO_AGENT.size))
            # Most messages are grants. Unpickling is safe here: the sender has proven that it knows the token, see
            # `wire`.
            if kind == ToAgent.GRANTS:
                self._grant(key, (yield nbytes))
            elif kind == ToAgent.FILLED:
                yield from self._take_filled(key, nbytes - GRANT.size)
            elif kind == ToAgent.SOURCE:
                yield from self._take_source(nbytes)
            elif kind == ToAgent.START:
                self._start(key, pickle.loads((yield nbytes)))
            elif kind == ToAgent.CLOSE:
                if key in self._hosted:
                    self._hosted[key].close_grants()
            elif kind == ToAgent.KILL:
                self._kill(key, int.from_bytes((yield nbytes), "little"))
            else:  # STOP
                self._end()

    def _grant(self, key: int, grants: bytes) -> None:
        hosted = self._hosted.get(key)
        if hosted is not None:  # otherwise it has exited, and the trainer has not been notified yet
            hosted.grant(grants)

    def _take_filled(self, key: int, nbytes: int) -> Messages:
        """Receive a grant and the bytes of its slot, and forward the grant."""
        grant = yield GRANT.size
        mirror, (_magic, kind, slot, *_) = self._mirror, GRANT.unpack(grant)
        assert mirror is not None
        # In use from here on: otherwise a worker that lacks memory, or this grant itself, would free the bytes.
        mirror.begin(slot)
        if not mirror.reserve(slot, nbytes):
            raise MemoryError(
                f"{nbytes:,} bytes of shared memory for a list of samples or a new source are not available"
            )
        # Receive the bytes before forwarding the grant: the worker may read them as soon as it has the grant.
        yield mirror.view(slot, nbytes)
        if kind == GrantKind.STATE:
            mirror.source_slot = slot
        self._grant(key, grant)
        mirror.end(slot)

    def _take_source(self, nbytes: int) -> Messages:
        """Receive a patch of the source and pass it to the fork server; this process keeps no copy."""
        # As a view: `Incoming` limits a message that it returns as bytes, and a source has any size.
        head = bytearray(nbytes)
        yield memoryview(head)
        num_bytes, sizes, old, digests = pickle.loads(head)
        data = bytearray(num_bytes)
        yield memoryview(data)
        new: dict[int, memoryview] = {}
        for index, size in sizes:
            new[index] = np.empty(size, np.uint8).data
            yield new[index]
        # For a node that joined late, no thread of the trainer waits until its buffers are sent, so they may have
        # changed.
        for index, digest in digests.items():
            if hashlib.sha256(new[index]).digest() != digest:
                raise ProtocolError("the source was changed while it was sent to this node")
        self._tell_fork_server(self._fork_server.send_patch, Patch(bytes(data), new, old))

    def _start(self, key: int, config: WorkerConfig) -> None:
        try:
            if self._mirror is None:
                self._mirror = Mirror(config.segment_bytes, config.stride)
            hosted = Hosted(key, self._mirror)
        except OSError as error:
            self._put(FromAgent.FAILED, key, failures.pack(error, "raised when a worker was started"))
            return
        self._hosted[key] = hosted
        segment = self._mirror.segment
        grants, reports, stacks = hosted.pipes.worker_ends
        # Queues of the trainer cannot be reached from this machine.
        config = config._replace(segment_kind=segment.kind, queue_directory=QueueDirectory())
        ends = WorkerEnds(grants, reports, segment.fd, stacks)
        self._tell_fork_server(self._fork_server.start_worker, key, config, ends)
        # The fork server has duplicates. With these open, the pipe of reports would never report the end of the file.
        hosted.pipes.close_worker_ends()
        if self._has_lost_fork_server:
            return  # during this request; its workers were finished, and their pipes are closed
        self._listen(hosted.pipes.reports, partial(self._forward, hosted))
        self._listen(hosted.pipes.stacks, partial(self._forward_stacks, hosted))

    def _kill(self, key: int, number: int) -> None:
        if key in self._hosted:
            self._tell_fork_server(self._fork_server.kill, key, number)

    def _tell_fork_server(self, call: Callable[..., None], *args: Any) -> None:
        try:
            call(*args)
        except LauncherGone:
            self._lose_fork_server()

    # -- From the workers

    def _forward(self, hosted: Hosted) -> bool:
        """Send a worker's reports to the trainer; return False if there were none."""
        result = hosted.read()
        if not hosted.hears:
            self._deafen(hosted.pipes.reports)
        if result is None:
            return False
        reports, payloads = result
        if reports:
            assert self._mirror is not None
            self._put(FromAgent.REPORTS, hosted.key, reports, *(view for _, view in payloads))
            # The bytes are sent directly from the slots, so their memory must be kept until then.
            for slot, _ in payloads:
                self._outgoing.when_sent(partial(self._mirror.end, slot))
        if hosted.has_written_other_data:
            # Without the data: it may contain reports of batches with bytes that are not sent.
            self._put(FromAgent.RAW, hosted.key)
        return True

    def _forward_stacks(self, hosted: Hosted) -> None:
        data = os.read(hosted.pipes.stacks, 1 << 15)
        if data:
            self._put(FromAgent.STACKS, hosted.key, data)
        else:
            self._deafen(hosted.pipes.stacks)

    # -- From the fork server

    def _take_events(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                events = self._fork_server.events()
            except LauncherGone:
                self._lose_fork_server()
                return
        # The trainer logs them, where the user sees them.
        for warning in caught:
            self._put(FromAgent.NOTE, 0, str(warning.message).encode())
        for event in events:
            self._take_event(event)

    def _take_event(self, event: ProcessEvent) -> None:
        key = event.key
        if event.process is not None:
            self._put(FromAgent.STARTED, key, wire.PID.pack(event.process.pid))
            if event.process.sentinel >= 0:
                # The fork server reports the exit. The trainer gets no descriptor over the network, only the process
                # id.
                descriptors.close(event.process.sentinel)
            return
        # Send its last reports before its exit: after the exit, the trainer grants its slots to other workers.
        unread = self._finish(self._hosted.pop(key))
        if event.error is not None:
            self._put(FromAgent.FAILED, key, failures.pack(event.error, "raised when a worker was started"))
        else:
            assert event.exitcode is not None
            self._put(FromAgent.EXITED, key, wire.EXIT.pack(event.exitcode, event.peak_bytes) + unread)

    def _finish(self, hosted: Hosted) -> bytes:
        """Forward the last reports of an exited worker; return the grants that it has not read."""
        # All of them: a finished batch is valid, although its worker has exited.
        while hosted.hears and self._forward(hosted):
            pass
        self._deafen(hosted.pipes.reports)
        self._deafen(hosted.pipes.stacks)
        unread = hosted.take_unread()
        hosted.pipes.close()
        return unread

    def _lose_fork_server(self) -> None:
        """Report that the fork server has crashed, with all workers, and end."""
        if self._has_lost_fork_server:
            return
        self._is_over = self._has_lost_fork_server = True
        exitcode = self._fork_server.end()
        # Forward finished batches, so that they are not computed again elsewhere.
        for hosted in self._hosted.values():
            self._finish(hosted)
        self._hosted.clear()
        self._put(FromAgent.ENDED, 0, wire.PID.pack(-9 if exitcode is None else exitcode))
        self._sock.settimeout(_CONNECT_S)
        self._outgoing.flush()
