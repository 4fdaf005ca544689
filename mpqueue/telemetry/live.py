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


_found: "weakref.WeakKeyDictionary[HasStatistics, str]" = weakref.WeakKeyDictionary()
_numbers = itertools.count()


def add(thing: HasStatistics, kind: str) -> None:
    """Enter something under a name of its own; nothing if it is known."""
    if thing not in _found:
        _found[thing] = f"{kind}-{next(_numbers)}"


def everything() -> dict[str, HasStatistics]:
    """Return all that there is, by its name."""
    return {name: thing for thing, name in list(_found.items())}


os.register_at_fork(after_in_child=_found.clear)  # they are the parent's
