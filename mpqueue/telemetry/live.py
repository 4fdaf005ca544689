"""All objects of this process that have statistics, for metrics; only weak references to them are kept."""

import itertools
import os
import weakref
from typing import Any, Protocol


class HasStatistics(Protocol):
    """A loader, an enqueuer, a server or a consumer."""

    def statistics(self) -> Any:
        """Return the counters; may be called from any thread."""


# Not a WeakKeyDictionary: its callbacks are Python code, see `mpqueue.system.signals.collected`.
_live: dict[weakref.ref[HasStatistics], str] = {}
_numbers = itertools.count()


def add(thing: HasStatistics, kind: str) -> None:
    """Register an object under a unique name, unless it is registered already."""
    reference = weakref.ref(thing, _live.pop)
    if reference not in _live:
        _live[reference] = f"{kind}-{next(_numbers)}"


def everything() -> dict[str, HasStatistics]:
    """Return all registered objects by name."""
    things = [(name, reference()) for reference, name in list(_live.items())]
    return {name: thing for name, thing in things if thing is not None}


os.register_at_fork(after_in_child=_live.clear)  # the objects belong to the parent
