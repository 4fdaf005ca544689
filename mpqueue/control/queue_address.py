"""Facts that the engine and the queues exchange; neither imports the other.

A worker gets the address of its trainer's queues, so that a queue with a shared name is the same one in both. The
trainer knows which processes have used its queues: a generator function that did so is not replayed after a death,
because the queue knows what was taken, and would give the next elements to the replay.
"""

from collections.abc import Callable

users: set[int] = set()
"""Ids of the processes that have connected to the queues of this one."""

address: str | None = None
"""In a worker: the address of the trainer's queues, empty if it had none that could be shared. Elsewhere None."""

_provider: Callable[[], str | None] | None = None


def provide(provider: Callable[[], str | None]) -> None:
    """Ask this for the address; queues call it when they are imported."""
    global _provider
    _provider = provider


def address_for_workers() -> str:
    """Return the address for workers; empty if there are no queues that they could use."""
    if address is not None:
        return address
    return (_provider() if _provider is not None else None) or ""


def set_address(of_trainer: str) -> None:
    """Make this process a worker of the trainer whose queues have this address."""
    global address
    address = of_trainer
