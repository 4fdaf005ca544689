"""State that the kernels of one session share: that behind variables, queues, readers and random streams.

A kernel that makes a queue or a reader gives a *handle* to it, a value of type `resource`, which other kernels take.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from mpqueue.engine.queue_address import QueueDirectory
from mpqueue.system.locks import RLock
from mpqueue.tf1.coordination.cancellation import CancellationScope

_State = TypeVar("_State")


class SessionState:
    """The half of a session that kernels see.

    State is kept under the operation (or the shared name) that stands for it; it is made when it is first used.

    Attributes:
        queue_directory: The server that has the queues with shared names; None: the session itself.
    """

    def __init__(self, queue_directory: QueueDirectory | None = None) -> None:
        self.queue_directory = queue_directory
        self.state: dict[Any, Any] = {}  # changed only while `lock` is held
        self.lock = RLock()
        self.scope = CancellationScope()

    def resource(self, key: Any, make: Callable[[], _State]) -> _State:
        """The state under ``key``, made at first use."""
        # Made under the lock: two runs that begin at once must not have a queue each.
        with self.lock:
            if key not in self.state:
                self.state[key] = make()
            return self.state[key]  # type: ignore[no-any-return]


class Running(Protocol):
    """The run that a kernel is called by."""

    @property
    def session(self) -> SessionState:
        """Whose state the kernel uses."""

    def execute(self, plan: Any, values: Any) -> list[Any]:
        """Carry out another plan within this run; see `Run`."""


def handle_of(thing: Any) -> np.ndarray:
    """A handle that leads to ``thing``."""
    array = np.empty((), object)
    array[()] = thing
    array.flags.writeable = False
    return array


def held(handle: np.ndarray) -> Any:
    """Return the object that a handle leads to."""
    return handle.item()
