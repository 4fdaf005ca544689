"""Copies in forked children: they learn that the workers are the parent's, and refuse to be used."""

import os
from typing import Protocol

from mpqueue.system.living import Living


class Disownable(Protocol):
    """An object that a forked child must not use."""

    def disown(self) -> None:
        """This is a copy in a forked child."""
        ...


_living: Living[Disownable] = Living()


def watch(owner: Disownable) -> None:
    """Call its `disown` in every child that is forked from now on, as long as it lives."""
    _living.add(owner)


def _disown_all() -> None:
    for owner in _living:
        owner.disown()


os.register_at_fork(after_in_child=_disown_all)
