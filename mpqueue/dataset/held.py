"""Tokens of what stages hold, as a snapshot has them.

A buffer of 10,000 elements has as many tokens, most often the places of a root. As lists, of each stage and in the
pickle, they took most of the 370 us of a snapshot, and of the 930 us where the caches were cold; it takes 62 and 115
now. So places stay in arrays, from stage to stage and on their way, and become the list of plain integers that a state
shows when the snapshot is unpickled.
"""

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np


class Places(array):  # type: ignore[type-arg]  # generic for checkers only
    """Places of a root, which are a list once they are unpickled."""

    def __reduce_ex__(self, _protocol: Any, /) -> tuple[Any, ...]:
        return _listed, (self.typecode, self.tobytes())


def _listed(typecode: str, data: bytes) -> list[int]:
    return array(typecode, data).tolist()


def as_saved(tokens: Sequence[Any]) -> Sequence[Any]:
    """Return tokens as a snapshot has them: a copy."""
    if type(tokens) is not array or not tokens:
        return list(tokens)
    places = np.frombuffer(tokens, np.int64)
    if places.max() < 1 << 31 and places.min() >= 0:
        return Places("i", places.astype(np.int32).tobytes())
    return Places("q", tokens.tobytes())


def together(held: Sequence[Any], own: Sequence[Any]) -> Sequence[Any]:
    """Return the tokens that the stages behind hold and those of a stage itself, in any order."""
    if not held or not own:
        return held or own
    try:
        return array("q", held) + array("q", own)
    except (OverflowError, TypeError):
        return [*held, *own]
