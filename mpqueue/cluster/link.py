"""A link: one node that has, or is to have, an agent of ours, as all threads may use it.

A link begins without a connection. Workers may be started on it all the same: what is asked of it waits until its agent
is there. Whoever carries it out then is the `Carrier`, the thread of the connection; see `mpqueue.cluster.relay`.
"""

import enum
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from mpqueue.cluster.remote_worker import RemoteWorker
from mpqueue.system.locks import RLock
from mpqueue.system.wakeup import Wakeup
from mpqueue.worker.config import WorkerConfig
from mpqueue.workers.launcher import ProcessEvent
from mpqueue.workers.source_send import SourceImage


class Carrier(Protocol):
    """Does what is asked of a link that is up, in the thread of its connection."""

    def start_worker(self, worker: RemoteWorker, config: WorkerConfig, *, with_stacks: bool) -> None:
        """Have the agent start a worker."""
        ...

    def kill(self, key: int, number: int) -> None:
        """Have a signal sent to a worker."""
        ...

    def send_image(self, image: SourceImage, sent: threading.Event) -> None:
        """Send what the agent lacks of a source, and set the event then."""
        ...

    def give_up(self, reason: str) -> None:
        """Take the node for lost."""
        ...

    def stop(self) -> None:
        """End the agent, and the connection."""
        ...


Command = Callable[[Carrier], None]


class LinkState(enum.Enum):
    """State of a link: STARTING → UP → LOST."""

    STARTING = "starting"
    UP = "up"
    LOST = "lost"


class NodeLink:
    """One node that has, or is to have, an agent of ours; used by any thread.

    Args:
        node: Its id.
        name: For people.
        emit: Takes events of its workers, in any thread.
        is_late: Nobody waits for it to come up.

    Attributes:
        node, name, is_late: As given.
        state: Of the link.
        workers: Its workers, by key.
        num_batches: Batches that came over it,
        num_bytes: and their bytes.
        image: The source that its workers are started with; None: there is none yet.
    """

    def __init__(self, node: str, name: str, emit: Callable[[ProcessEvent], None], *, is_late: bool) -> None:
        self.node, self.name, self.is_late = node, name, is_late
        self.state = LinkState.STARTING
        self.workers: dict[int, RemoteWorker] = {}
        self.num_batches = self.num_bytes = 0
        self.image: SourceImage | None = None
        self.emit = emit
        self._commands: deque[Command] = deque()
        self._lock = RLock()
        self._sending: list[threading.Event] = []  # images on their way
        self.wakeup = Wakeup()

    def _ask(self, command: Command) -> None:
        self._commands.append(command)
        self.wakeup.wake()

    def take_commands(self) -> list[Command]:
        """Return what the relay is to do; only its thread asks."""
        taken = []
        while self._commands:
            taken.append(self._commands.popleft())
        return taken

    def start_worker(self, worker: RemoteWorker, config: WorkerConfig, *, with_stacks: bool) -> None:
        """Have a worker started; events follow."""
        with self._lock:
            if self.state is LinkState.LOST:
                worker.close()
                self.emit(ProcessEvent(worker.key, lost=f"node {self.name} was lost before it was started"))
                return
            self.workers[worker.key] = worker
        self._ask(lambda relay: relay.start_worker(worker, config, with_stacks=with_stacks))

    def kill(self, key: int, number: int) -> None:
        """Have a signal sent; a worker of a node without an agent yet has ended with that."""
        with self._lock:
            worker = self.workers.pop(key, None) if self.state is LinkState.STARTING else None
        if worker is None:
            self._ask(lambda relay: relay.kill(key, number))
        else:
            self.emit(ProcessEvent(key, exitcode=-number))
            worker.close()

    def set_image(self, image: SourceImage) -> threading.Event:
        """Have the agent get what it lacks of a source; return what is set when that is sent, or the node is lost."""
        sent = threading.Event()
        with self._lock:
            self.image = image
            if self.state is not LinkState.UP:  # it gets it when it comes up
                sent.set()
            else:
                self._sending = [other for other in self._sending if not other.is_set()] + [sent]
                self._ask(lambda relay: relay.send_image(image, sent))
        return sent

    def come_up(self) -> bool:
        """STARTING → UP; False if it is lost already."""
        with self._lock:
            if self.state is not LinkState.STARTING:
                return False
            self.state = LinkState.UP
            return True

    def lose(self, reason: str, error: BaseException | None = None, exitcode: int | None = None) -> None:
        """→ LOST: report all its workers as lost; or why they cannot be started; or how they have ended."""
        with self._lock:
            was_lost, self.state = self.state is LinkState.LOST, LinkState.LOST
            workers, self.workers = list(self.workers.values()), {}
            for sent in self._sending:
                sent.set()
        if not was_lost:
            self.wakeup.close()
        for worker in workers:
            worker.flush()
            is_known = error is not None or exitcode is not None
            self.emit(ProcessEvent(worker.key, exitcode=exitcode, error=error, lost="" if is_known else reason))
            worker.close()

    def give_up(self, reason: str) -> None:
        """Have the node lost."""
        self._ask(lambda relay: relay.give_up(reason))

    def close(self) -> None:
        """No worker is left, or is to be left: end the agent, and the relay with it."""
        self._ask(lambda relay: relay.stop())
