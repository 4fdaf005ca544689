"""A link to one node with an agent, and the thread that carries its messages.

    consumer's thread                       relay's thread                            agent
    -----------------                       --------------                            -----
    start_worker, kill, set_image ------->  messages ------------------------------>
    grants --pipes----------------------->  `RemoteWorker.read` -------------------->
    the ring <----------------------------  the bytes of batches <-------------------
    reports <--pipes----------------------  `RemoteWorker.enter` <-------------------
    events <------------------------------  starts and exits of workers <------------

Any thread may use a `NodeLink`. It begins without a connection, and workers can already be started on it: such requests
wait as *commands* until the agent has connected. Then a `Relay` executes them.

There is one thread per node, because its main work, receiving into the ring, does not need the GIL. The thread owns the
connection and the workers' ends of their pipes. Other threads queue commands and wake it. It reports workers through
launcher events. The exit of each worker is reported exactly once, after its last report was forwarded: from then on,
the thread does not write into the worker's slots.

*Loss of a node.* If the connection ends, or the agent sends invalid data or no data for `deadline_s`, the node is lost.
Each of its workers is reported as lost. If the agent is still running, it notices the end of the connection and exits.
The agent sends a message at least every third of `deadline_s`. It does not limit the trainer's silence, because a
trainer may be busy, or suspended in a debugger: the kernels probe each other instead.
"""

import contextlib
import enum
import pickle
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from mpqueue.backends.ray import wire
from mpqueue.backends.ray.remote_worker import RemoteWorker
from mpqueue.backends.ray.wire import FROM_AGENT, TO_AGENT, FromAgent, ToAgent
from mpqueue.backends.sending.source_send import SourceImage, find_digests
from mpqueue.backends.start.launcher import ProcessEvent
from mpqueue.errors import ClusterError
from mpqueue.system.descriptors import descriptors
from mpqueue.system.log import warn
from mpqueue.system.processes.processes import Process
from mpqueue.system.processes.wakeup import Wakeup
from mpqueue.system.signals.locks import RLock
from mpqueue.transport.framing import Incoming, Messages, Outgoing
from mpqueue.transport.poller import READABLE, WRITABLE, close_poller, make_poller
from mpqueue.transport.records import Bytes, ProtocolError
from mpqueue.worker import failures
from mpqueue.worker.config import WorkerConfig
from mpqueue.worker.records import GRANT, OUTCOMES, REPORT, GrantKind


class LinkState(enum.Enum):
    """The state of a link: STARTING → UP → LOST."""

    STARTING = "starting"
    UP = "up"
    LOST = "lost"


class NodeLink:
    """A link to one node with an agent; used by any thread.

    Args:
        node: Id of the node.
        name: Name of the node for messages.
        emit: Receives events of its workers; called from any thread.
        is_late: The pool does not wait for it at its start.

    Attributes:
        node, name, is_late: The arguments.
        state: The state of the link.
        workers: Its workers, by key.
        num_batches: Number of batches received over it.
        num_bytes: Number of bytes of these batches.
        image: The source of its workers; None if absent yet.
    """

    def __init__(self, node: str, name: str, emit: Callable[[ProcessEvent], None], *, is_late: bool) -> None:
        self.node, self.name, self.is_late = node, name, is_late
        self.state = LinkState.STARTING
        self.workers: dict[int, RemoteWorker] = {}
        self.num_batches = self.num_bytes = 0
        self.image: SourceImage | None = None
        self.emit = emit
        self._commands: deque[Callable[[Relay], None]] = deque()
        self._lock = RLock()
        self._sending: list[threading.Event] = []  # of images that are being sent
        self.wakeup = Wakeup()

    def _ask(self, command: Callable[["Relay"], None]) -> None:
        # Before the wake-up: the relay takes all commands after it has read the wake-up, so no command is lost.
        self._commands.append(command)
        self.wakeup.wake()

    def take_commands(self) -> list[Callable[["Relay"], None]]:
        """Return the queued commands; called by the relay's thread only."""
        taken = []
        while self._commands:
            taken.append(self._commands.popleft())
        return taken

    def start_worker(self, worker: RemoteWorker, config: WorkerConfig) -> None:
        """Start a worker; events follow."""
        with self._lock:
            if self.state is LinkState.LOST:
                worker.close()
                self.emit(ProcessEvent(worker.key, lost=f"node {self.name} was lost before it was started"))
                return
            self.workers[worker.key] = worker
        self._ask(lambda relay: relay.start_worker(worker, config))

    def kill(self, key: int, number: int) -> None:
        """Send a signal to a worker; if the node has no agent yet, the worker has exited with that."""
        with self._lock:
            worker = self.workers.pop(key, None) if self.state is LinkState.STARTING else None
        if worker is None:
            self._ask(lambda relay: relay._put(ToAgent.KILL, key, number.to_bytes(2, "little")))
        else:
            self.emit(ProcessEvent(key, exitcode=-number))
            worker.close()

    def set_image(self, image: SourceImage) -> threading.Event:
        """Send the agent the changed parts of a source; return an event that is set once the buffers may change."""
        sent = threading.Event()
        with self._lock:
            self.image = image
            if self.state is not LinkState.UP:  # the image is sent when the agent has connected
                sent.set()
            else:
                self._sending = [other for other in self._sending if not other.is_set()] + [sent]
                self._ask(lambda relay: relay.send_image(image, sent))
        return sent

    def come_up(self) -> bool:
        """Change from STARTING to UP; return False if the link is lost already."""
        with self._lock:
            if self.state is not LinkState.STARTING:
                return False
            self.state = LinkState.UP
            return True

    def lose(self, **ending: Any) -> None:
        """Change to LOST, and report all workers with ``lost``, ``error`` or ``exitcode`` of `ProcessEvent`."""
        with self._lock:
            was_lost, self.state = self.state is LinkState.LOST, LinkState.LOST
            workers, self.workers = list(self.workers.values()), {}
            # The consumer's thread waits for these events, and the images will not be sent anymore.
            for sent in self._sending:
                sent.set()
        if not was_lost:
            self.wakeup.close()
        for worker in workers:
            # Forward the reports that have arrived: the pool reads them before it processes the exit.
            worker.flush()
            self.emit(ProcessEvent(worker.key, **ending))
            worker.close()

    def give_up(self, reason: str) -> None:
        """Mark the node as lost."""
        self._ask(lambda relay: relay.end(lost=f"node {self.name} was given up: {reason}"))

    def close(self) -> None:
        """Stop the agent and the relay; all workers have exited or must exit."""
        self._ask(lambda relay: relay.stop())


class Relay:
    """The thread of one connected link, from the agent's handshake to the end.

    Args:
        link: The link.
        sock: The connection, after its handshake.
        deadline_s: Seconds of silence after which the node is lost.
    """

    def __init__(self, link: NodeLink, sock: socket.socket, deadline_s: float) -> None:
        self._link, self._sock, self._deadline_s = link, sock, deadline_s
        self._outgoing = Outgoing(sock)
        self._incoming = Incoming(sock, self._messages())
        self._poller = make_poller()
        self._readers: dict[int, RemoteWorker] = {}  # workers with watched grants, by descriptor
        self._writers: dict[int, RemoteWorker] = {}  # workers with a full pipe of reports
        self._digests: list[bytes] = []
        self._states: set[int] = set()  # turns of the new source states that the agent has
        self._is_over = False
        self._ending: dict[str, Any] = {"lost": f"node {link.name} was lost: the connection to its agent has ended"}
        self._heard_at = time.monotonic()
        self._touched: set[RemoteWorker] = set()

    def run(self) -> None:
        """Carry messages until the node is lost or the link is closed."""
        try:
            with contextlib.suppress(OSError):  # the connection is closed
                self._loop()
        except ProtocolError as error:
            self.end(lost=f"node {self._link.name} was lost: {error}")
        except Exception as error:
            self.end(error=ClusterError(f"node {self._link.name}: {type(error).__name__}: {error}"))
        finally:
            descriptors.close_object(self._sock)
            # Before the workers are reported as lost: afterwards, no data may be received into their slots.
            close_poller(self._poller)
            self._link.lose(**self._ending)

    def end(self, **ending: Any) -> None:
        """End the loop, and then the link; see `NodeLink.lose` for the argument."""
        self._is_over, self._ending = True, ending

    def _loop(self) -> None:
        sock = self._sock.fileno()
        self._poller.register(sock, READABLE)
        self._poller.register(self._link.wakeup.fd, READABLE)
        if self._link.image is not None:
            self.send_image(self._link.image, threading.Event(), is_checked=self._link.is_late)
        wants_room = False
        while not self._is_over:
            for command in self._link.take_commands():
                command(self)
            self._settle()
            self._outgoing.flush()
            # Watch for writability only while data is queued, as in the agent: a socket with room is always ready.
            if wants_room is self._outgoing.is_empty:
                wants_room = not wants_room
                self._poller.modify(sock, READABLE | (WRITABLE if wants_room else 0))
            silent_in_s = self._heard_at + self._deadline_s - time.monotonic()
            # Do not wait once the relay must end: the agent may not send anything anymore.
            events = self._poller.poll(0 if self._is_over else max(0.0, silent_in_s))
            self._take(events, sock)
            # Only if the wait returned no event: this thread may have been suspended, with unread data in the socket.
            if not events and not self._is_over and time.monotonic() - self._heard_at >= self._deadline_s:
                raise ProtocolError(f"it sent no message for {self._deadline_s:g} s")

    def _take(self, events: list[tuple[int, int]], sock: int) -> None:
        for fd, event in events:
            if fd == sock:
                if event & ~WRITABLE:
                    if not self._incoming.take():
                        self._is_over = True
                    self._heard_at = time.monotonic()
            elif fd == self._link.wakeup.fd:
                self._link.wakeup.clear()
            elif fd in self._readers:
                self._pass_grants(self._readers[fd])
            elif fd in self._writers:
                self._touched.add(self._writers[fd])

    def _put(self, kind: int, key: int, body: Bytes = b"", *payloads: Bytes) -> None:
        self._outgoing.put(TO_AGENT.pack(kind, key, len(body)) + body, *payloads)

    # -- Commands

    def start_worker(self, worker: RemoteWorker, config: WorkerConfig) -> None:
        """Send the agent the request to start a worker, and watch its grants."""
        if self._link.workers.get(worker.key) is not worker:
            return  # it was killed before its start
        self._put(ToAgent.START, worker.key, pickle.dumps(config, 5))
        self._touched.add(worker)

    def send_image(self, image: SourceImage, sent: threading.Event, *, is_checked: bool = False) -> None:
        """Send the agent the changed parts of a source.

        Args:
            image: The source; its buffers are the trainer's own memory.
            sent: Set when the buffers may change.
            is_checked: No thread waits for `sent`: the agent must check whether the buffers have changed.
        """
        patch = image.patch(find_digests(image, self._digests))
        self._digests = image.digests
        sizes = [(index, buffer.nbytes) for index, buffer in patch.new.items()]
        digests = {index: image.digests[index] for index in patch.new} if is_checked else {}
        head = pickle.dumps((len(patch.data), sizes, patch.old, digests), 5)
        self._put(ToAgent.SOURCE, 0, head, patch.data, *(buffer.cast("B") for buffer in patch.new.values()))
        # The buffers are sent from the source's own memory. A change before that would send a mixture of both versions.
        self._outgoing.when_sent(sent.set)

    def stop(self) -> None:
        """Ask the agent to exit, then end."""
        self._put(ToAgent.STOP, 0)
        with contextlib.suppress(OSError):
            self._outgoing.flush()
        self.end(lost=f"the link to node {self._link.name} was closed")

    # -- Down

    def _pass_grants(self, worker: RemoteWorker) -> None:
        grants = worker.read()
        self._touched.add(worker)
        if grants is None:
            self._poller.unregister(worker.grants)
            del self._readers[worker.grants]
            worker.close_grants()
            self._put(ToAgent.CLOSE, worker.key)
            return
        plain = bytearray()
        for grant, payload in grants:
            if payload is None or self._is_there(grant):
                plain += grant
                continue
            # Keep the order of the grants: the worker processes them in this order.
            self._put_grants(worker, plain)
            plain = bytearray()
            nbytes = GRANT.size + payload.nbytes
            self._outgoing.put(TO_AGENT.pack(ToAgent.FILLED, worker.key, nbytes), grant, payload)
        self._put_grants(worker, plain)

    def _put_grants(self, worker: RemoteWorker, grants: bytearray) -> None:
        if grants:
            self._put(ToAgent.GRANTS, worker.key, bytes(grants))

    def _is_there(self, grant: bytes) -> bool:
        """Return whether a grant refers to a new source that the agent already has from another worker's grant."""
        _magic, kind, _slot, turn, *_ = GRANT.unpack(grant)
        if kind != GrantKind.STATE or turn in self._states:
            return bool(kind == GrantKind.STATE)
        self._states = {turn}
        return False

    def _settle(self) -> None:
        """Write the reports of changed workers, and update which of their pipes are watched."""
        while self._touched:
            worker = self._touched.pop()
            if self._link.workers.get(worker.key) is worker:
                is_flushed = worker.flush()
                self._watch(self._writers, worker.reports, worker, WRITABLE, wanted=not is_flushed)
                wants_grants = worker.grants >= 0 and worker.num_wanted > 0
                self._watch(self._readers, worker.grants, worker, READABLE, wanted=wants_grants)

    def _watch(
        self, watched: dict[int, RemoteWorker], fd: int, worker: RemoteWorker, event: int, *, wanted: bool
    ) -> None:
        if wanted and fd not in watched:
            self._poller.register(fd, event)
            watched[fd] = worker
        elif not wanted and watched.pop(fd, None) is not None:
            self._poller.unregister(fd)

    # -- Up

    def _messages(self) -> Messages:
        """Parse the agent's messages."""
        while True:
            kind, key, nbytes = FROM_AGENT.parse((yield FROM_AGENT.size))
            body = yield nbytes
            if kind == FromAgent.REPORTS:
                yield from self._take_reports(key, body)
            elif kind != FromAgent.TICK:
                self._take_message(kind, key, body)

    def _take_reports(self, key: int, body: bytes) -> Messages:
        worker, link = self._link.workers.get(key), self._link
        for report in REPORT.iter_unpack(body):
            if report[1] not in OUTCOMES or not report[7]:  # the end of a lane usually has no bytes
                if worker is not None:
                    worker.enter(report)
                continue
            # If the worker's exit was reported, its slots belong to other workers: receive its bytes to drop them.
            view = memoryview(bytearray(report[7])) if worker is None else worker.place_for(report)
            yield view
            if worker is not None:
                worker.enter(report, view)
                link.num_bytes += report[6]
        if worker is not None:
            link.num_batches += sum(report[1] in OUTCOMES for report in REPORT.iter_unpack(body))
            self._touched.add(worker)

    def _take_message(self, kind: int, key: int, body: bytes) -> None:
        link = self._link
        worker = link.workers.get(key)
        if kind == FromAgent.NOTE:
            warn(f"node {link.name}: {body.decode('utf-8', 'replace')}")
        elif kind == FromAgent.ENDED:
            self.end(exitcode=int(*wire.PID.parse(body)))
        elif kind == FromAgent.FAULT:
            reason = failures.unpack(body)
            self.end(lost=f"node {link.name} was lost: {type(reason).__name__}: {reason}")
        elif worker is None:
            raise ProtocolError(f"a message of kind {kind} about an unknown worker")
        elif kind == FromAgent.STARTED:
            link.emit(ProcessEvent(key, Process(int(*wire.PID.parse(body)), -1, link.name)))
        elif kind == FromAgent.RAW:
            worker.send_other_data()
            self._touched.add(worker)
        elif kind == FromAgent.STACKS:
            worker.send_stacks(body)
        elif kind == FromAgent.FAILED:
            self._drop(worker, ProcessEvent(key, error=failures.unpack(body)))
        else:  # EXITED
            exitcode, peak_bytes = wire.EXIT.parse(body[: wire.EXIT.size])
            # The pool attributes a crash to the first grant that was read. It looks for unread ones in the pipe.
            worker.give_back(body[wire.EXIT.size :])
            self._drop(worker, ProcessEvent(key, exitcode=exitcode, peak_bytes=peak_bytes))

    def _drop(self, worker: RemoteWorker, event: ProcessEvent) -> None:
        """Report the exit of a worker. Batches of reports that do not fit into its pipe are computed again."""
        worker.flush()
        self._watch(self._writers, worker.reports, worker, WRITABLE, wanted=False)
        self._watch(self._readers, worker.grants, worker, READABLE, wanted=False)
        # Remove the worker before the event: from then on its slots are granted to others, and no data may be received
        # into them.
        del self._link.workers[worker.key]
        self._link.emit(event)
        worker.close()
