"""Arithmetic on static shapes, with the errors that TensorFlow's shape functions raise."""

import math
from collections.abc import Container, Iterable

from mpqueue.tf1.values import shapes
from mpqueue.values.shapes import Shape

Dims = Shape
is_known, merged, merged_size, text = shapes.is_fully_known, shapes.merged, shapes.merged_size, shapes.text


def merged_all(shapes: Iterable[Dims]) -> Dims:
    """Merge several partially known shapes of one array.

    Raises:
        ValueError: The shapes contradict each other.
    """
    known: Dims = None
    for dims in shapes:
        known = merged(known, dims)
    return known


def count(dims: Dims) -> int | None:
    """Return the number of elements, or None if a size is unknown."""
    return math.prod(dims) if is_known(dims) else None


def without(dims: tuple[int | None, ...], axes: Container[int], *, keep_dims: bool) -> Dims:
    """Remove some axes from a shape, or set their sizes to 1."""
    if keep_dims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(dims))
    return tuple(size for axis, size in enumerate(dims) if axis not in axes)


def with_rank(dims: Dims, rank: int, what: str = "Shape") -> tuple[int | None, ...]:
    """Return the shape with a known rank.

    Raises:
        ValueError: The shape has another rank.
    """
    if dims is None:
        return (None,) * rank
    if len(dims) != rank:
        raise ValueError(f"{what} must be rank {rank} but is rank {len(dims)}: {text(dims)}")
    return dims


def axis_in(axis: int, rank: int, what: str = "axis") -> int:
    """Convert an axis that may count from the end to a non-negative axis.

    Raises:
        ValueError: The axis is not in [-rank, rank).
    """
    if not -rank <= axis < rank:
        raise ValueError(f"{what} {axis} is not in the interval [{-rank}, {rank}) for an array of {rank} axes")
    return axis % rank


def _broadcast_size(left: int | None, right: int | None) -> int | None:
    if left is not None and right is not None:
        if left != right and 1 not in (left, right):
            raise ValueError(f"Dimensions must be equal, but are {left} and {right}")
        return right if left == 1 else left
    known = right if left is None else left
    return known if known is not None and known > 1 else None  # with a size above 1, an unknown size is equal or 1


def broadcast(left: Dims, right: Dims) -> Dims:
    """Return the shape of an elementwise result.

    Raises:
        ValueError: The shapes do not broadcast.
    """
    if left is None or right is None:
        return None
    rank = max(len(left), len(right))
    left, right = ((1,) * (rank - len(dims)) + dims for dims in (left, right))
    try:
        return tuple(map(_broadcast_size, left, right))
    except ValueError as error:
        raise ValueError(f"{error}: shapes {text(left)} and {text(right)} do not broadcast") from None
