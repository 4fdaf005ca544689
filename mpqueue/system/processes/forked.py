"""Objects that disable themselves in forked children, because the parent owns their workers."""

import os
from typing import Protocol

from mpqueue.system.signals.weak_sets import Living


class Disownable(Protocol):
    """An object that a forked child must not use."""

    def disown(self) -> None:
        """Disable this copy in a forked child."""


# Weak, because an entry must not keep a stream and its workers in existence.
_living: Living[Disownable] = Living()


def watch(owner: Disownable) -> None:
    """Call the object's `disown` in every child that is forked during its lifetime."""
    _living.add(owner)


def _disown_all() -> None:
    for owner in _living:
        owner.disown()


os.register_at_fork(after_in_child=_disown_all)
