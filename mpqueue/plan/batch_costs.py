"""The costs of finished batches, for a balance of a stream. Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Attention:
    """A function of a batch: the sum of the squared lengths of its segments.

    Args:
        name: The field of the batch with the number of the segment of each token, by row; 0: padding.
    """

    name: str

    def __call__(self, batch: Any) -> int:
        """Return the cost of a batch."""
        ids = np.atleast_2d(_field(batch, self.name))
        if not ids.size:
            return 0
        ids = ids.reshape(-1, ids.shape[-1])
        # Runs of equal ids first: sorting all tokens would take much longer.
        begins = np.ones(ids.shape, bool)
        begins[:, 1:] = ids[:, 1:] != ids[:, :-1]
        starts = np.flatnonzero(begins)
        found, lengths = ids.ravel()[starts], np.diff(starts, append=ids.size)
        # Tokens attend to each other if their ids are equal, also in several runs of a row.
        segments = np.stack([starts // ids.shape[1], found])[:, found != 0]
        order = np.lexsort(segments)
        segments, lengths = segments[:, order], lengths[found != 0][order]
        is_new = (segments[:, 1:] != segments[:, :-1]).any(axis=0)
        totals = np.add.reduceat(lengths, np.flatnonzero([True, *is_new])) if len(lengths) else lengths
        return int(np.square(totals).sum())


def function_of(cost: Any) -> Callable[[Any], Any]:
    """Return the function of a batch that a user passed, or that counts the non-zero values of a field."""
    return partial(_count, cost) if isinstance(cost, str) else cost


def checked_cost(cost: Any, position: int) -> float:
    """Return the cost of a batch as a float.

    Raises:
        TypeError: It is not a number.
        ValueError: It is negative, NaN or infinite.
    """
    if not isinstance(cost, Real):
        raise TypeError(f"the cost of batch {position} must be a number, got {cost!r}")
    found = float(cost)
    if not 0 <= found < math.inf:
        raise ValueError(f"the cost of batch {position} must be a finite number of 0 or more, got {cost}")
    return found


def _count(name: str, batch: Any) -> int:
    return int(np.count_nonzero(_field(batch, name)))


def _field(batch: Any, name: str) -> Any:
    fields = batch if isinstance(batch, Mapping) else getattr(batch, "_asdict", dict)()
    if name not in fields:
        known = f"its fields are {', '.join(map(str, fields))}" if fields else f"it is a {type(batch).__name__}"
        raise ValueError(f"a batch has no field {name!r}, whose values are its cost: {known}")
    return np.asarray(fields[name])
