"""Copies in forked children: they learn that the workers are the parent's, and refuse to be used."""

import os
import weakref
from typing import Protocol


class Disownable(Protocol):
    """An object that a forked child must not use."""

    def disown(self) -> None:
        """This is a copy in a forked child."""
        ...


# No WeakSet: its callbacks are Python code, in which an interrupt is lost; see `mpqueue.system.collected`.
_living: set[weakref.ref[Disownable]] = set()


def watch(owner: Disownable) -> None:
    """Call its `disown` in every child that is forked from now on, as long as it lives."""
    _living.add(weakref.ref(owner, _living.discard))


def _disown_all() -> None:
    # A copy: what a garbage collection finalizes here leaves the set, and the loop over it would break off.
    for owner in [reference() for reference in _living.copy()]:
        if owner is not None:
            owner.disown()


os.register_at_fork(after_in_child=_disown_all)
