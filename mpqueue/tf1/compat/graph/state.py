"""State that the kernels of one session share: the state of variables, queues, readers and random streams.

A kernel that creates a queue or a reader returns a *handle* to it, a value of type `resource`. Other kernels take it.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from mpqueue.system.signals.locks import RLock
from mpqueue.tf1.coordination.cancellation import CancellationScope

_State = TypeVar("_State")


class SessionState:
    """The part of a session that kernels use.

    State is stored under an operation or a shared name, and is created on first use.
    """

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {}  # changed only while `lock` is held
        self.lock = RLock()
        self.scope = CancellationScope()

    def resource(self, key: Any, make: Callable[[], _State]) -> _State:
        """Return the state under ``key``, created on first use."""
        # Created under the lock: two runs that start at the same time must not get a queue each.
        with self.lock:
            if key not in self.state:
                self.state[key] = make()
            state: _State = self.state[key]
            return state


class Running(Protocol):
    """The run that calls a kernel."""

    @property
    def session(self) -> SessionState:
        """The session with the state of the kernel."""

    def left_s(self) -> float | None:
        """Return the seconds until the time limit of the run, or None if it has no limit."""

    def execute(self, plan: Any, values: Any) -> list[Any]:
        """Execute another plan within this run; see `Run`."""


def handle_of(thing: Any) -> np.ndarray:
    """Return a handle that refers to ``thing``."""
    array = np.empty((), object)
    array[()] = thing
    array.flags.writeable = False
    return array


def held(handle: np.ndarray) -> Any:
    """Return the object that a handle refers to."""
    return handle.item()
