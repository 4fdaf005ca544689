"""Calls that wait in a queue's lines: what each asks for, and how far it has come.

Whoever makes a request sets ``notify`` to learn of its end: a thread's lock is released, a message is sent to another
process. The machine only marks the end; whoever drives the machine then calls `notify`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from mpqueue.errors import OpError

Token: TypeAlias = Any
"""An element as the machine sees it: a reference, a place in memory, anything that a storage can follow."""


class Request:
    """A call in line.

    Attributes:
        finished: True once the call has its outcome, which then never changes.
        error: The outcome if it failed, else None.
        notify: Called once by whoever drives the machine when the request has finished; None while nobody waits.
        owner: Whose call it is; `QueueMachine.withdraw_owner` ends all calls of one owner.
        queue: What the owner calls the queue.
    """

    # Defaults of the class, because most requests finish at once and need none of them.
    finished: bool = False
    error: OpError | None = None
    notify: Callable[[], None] | None = None
    owner: object = None
    queue: int = 0


class EnqueueRequest(Request):
    """Puts elements in, as far as there is room, in order.

    Attributes:
        tokens: The elements; only taken by slices, in order, so that they may be made when they are asked for.
        entered: How many of them are in the queue (or were).
    """

    entered: int = 0

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens

    def __str__(self) -> str:
        return f"enqueue of {len(self.tokens)} elements, of which {self.entered} went in and stay in"


class CloseRequest(Request):
    """Closes the queue once it is first in the line of enqueues."""

    def __str__(self) -> str:
        return "close behind pending enqueues"


class DequeueRequest(Request):
    """Takes elements out as they come, until it has all it wants.

    Attributes:
        num_wanted: Number of elements, at least 1.
        takes_fewer: With a closed queue, be content with what is left, if anything is.
        taken: The elements, empty again if the request failed.
    """

    def __init__(self, num_wanted: int, takes_fewer: bool = False) -> None:
        self.num_wanted = num_wanted
        self.takes_fewer = takes_fewer
        self.taken: list[Token] = []

    def __str__(self) -> str:
        return f"dequeue of {self.num_wanted} elements"


def notify(finished: list[Request]) -> None:
    """Tell the callers of these requests, which have just finished."""
    for request in finished:
        if request.notify is not None:
            request.notify()
