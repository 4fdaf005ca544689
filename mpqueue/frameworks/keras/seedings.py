"""Detect that the program has called `keras.utils.set_random_seed`, which neither Keras nor `random` reports.

The state of Python's `random` does not show it: from Keras 3.16 on, a shuffled fit does not draw from it, and two calls
with the same seed lead to the same state. So Keras's global seed is replaced by an equal integer of a subclass.
"""

import sys
from typing import Any

_MODULE, _NAME = "keras.src.backend.common.global_state", "global_random_seed"


class SeenSeed(int):
    """Keras's global seed, until it is set again."""


def latest_seeding() -> SeenSeed | None:
    """Return an object that changes with each `keras.utils.set_random_seed`; None: it was never called."""
    state: Any = sys.modules.get(_MODULE)
    seed = None if state is None else state.get_global_attribute(_NAME)
    if type(seed) is int:
        seed = SeenSeed(seed)
        state.set_global_attribute(_NAME, seed)
    return seed if type(seed) is SeenSeed else None
