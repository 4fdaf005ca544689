"""Global random generators, Python's `random` and NumPy's: seeded for a batch, their states kept and put back."""

import random
from typing import Any

import numpy as np

from mpqueue.seeding import twisters


def seed_globals(seed: int, epoch: int, unit: int) -> None:
    """Seed `random` and NumPy's global generator for one batch."""
    # The hash of a tuple of ints is defined by CPython's xxHash variant and not salted.
    mixed = hash((seed, epoch, unit)) & 0xFFFFFFFF
    if not twisters.seed_both(mixed):
        _seed_slowly(mixed)


def _seed_slowly(mixed: int) -> None:
    """Give both generators the same numbers as `twisters.seed_both`, where they are not the usual ones."""
    words = np.random.RandomState(mixed).get_state()[1][::-1].tolist()  # type: ignore[index]
    random.setstate((3, (*words, twisters.NUM_WORDS), None))
    np.random.seed(mixed)  # noqa: NPY002 - whatever bit generator the user has put there


class GlobalState:
    """The state of the global generators, to be put back after a batch was computed in the trainer."""

    def __init__(self) -> None:
        self._python: Any = random.getstate()
        self._numpy: Any = np.random.get_state()  # noqa: NPY002

    def has_changed(self) -> bool:
        """Return whether one of them is in another state now."""
        of_numpy: Any = np.random.get_state()  # noqa: NPY002
        kind, words, *others = self._numpy
        is_same = (kind, *others) == (of_numpy[0], *of_numpy[2:]) and np.array_equal(words, of_numpy[1])
        return not is_same or random.getstate() != self._python

    def restore(self) -> None:
        """Put both generators back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002
