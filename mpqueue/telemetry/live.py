"""All that has statistics in this process, for whoever collects metrics; nothing is kept alive by that."""

import itertools
import os
import weakref
from typing import Any, Protocol


class HasStatistics(Protocol):
    """A loader, an enqueuer, a server or a consumer."""

    def statistics(self) -> Any:
        """Return what was counted, from any thread."""
        ...


# No WeakKeyDictionary: its callbacks are Python code, in which an interrupt is lost; see `mpqueue.system.collected`.
_found: dict[weakref.ref[HasStatistics], str] = {}
_numbers = itertools.count()


def add(thing: HasStatistics, kind: str) -> None:
    """Enter something under a name of its own; nothing if it is known."""
    reference = weakref.ref(thing, _found.pop)
    if reference not in _found:
        _found[reference] = f"{kind}-{next(_numbers)}"


def everything() -> dict[str, HasStatistics]:
    """Return all that there is, by its name."""
    found = [(name, reference()) for reference, name in list(_found.items())]
    return {name: thing for name, thing in found if thing is not None}


os.register_at_fork(after_in_child=_found.clear)  # they are the parent's
