"""What the engine and the queues have to know of each other; neither imports the other.

A worker is told where the queues of its trainer are, so that a queue with a shared name is the same one in both. And
the trainer knows which processes have used its queues: a generator function that did so is not replayed after a death,
for the queue knows what was taken, and would give the next elements to the replay.
"""

from collections.abc import Callable

users: set[int] = set()
"""Ids of the processes that have connected to the queues of this one."""

address: str | None = None
"""In a worker: where the trainer's queues are; empty if it had none that could be shared. None: this is no worker."""

_provider: Callable[[], str | None] | None = None


def provide(provider: Callable[[], str | None]) -> None:
    """Ask this for the address; queues do so when they are imported."""
    global _provider
    _provider = provider


def address_for_workers() -> str:
    """The address that workers are told; empty if there are no queues that they could ask for."""
    if address is not None:
        return address
    return (_provider() if _provider is not None else None) or ""


def set_address(told: str) -> None:
    """This process is a worker."""
    global address
    address = told
