"""Static shapes: what is known of an array's shape before it exists.

A shape is a tuple of sizes in which None is an unknown dimension; None alone is a shape of unknown rank.
"""

import operator
from typing import Any, TypeAlias

Shape: TypeAlias = tuple[int | None, ...] | None


def as_shape(value: Any) -> Shape:
    """Make a shape of an iterable of sizes and None, of a single size, of None, or of an object with ``as_list``.

    Raises:
        TypeError: A size is no integer.
        ValueError: A size is negative.
    """
    if value is None:
        return None
    if isinstance(value, str | bytes):
        raise TypeError(f"{value!r} is no shape: give a sequence of sizes")
    if hasattr(value, "as_list"):  # TensorFlow's TensorShape, whose as_list raises where the rank is unknown
        return None if getattr(value, "rank", 0) is None else tuple(as_size(size) for size in value.as_list())
    is_single = not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0
    return (as_size(value),) if is_single else tuple(as_size(size) for size in value)


def as_size(value: Any) -> int | None:
    """Make a size of an integer, of None for an unknown one, or of TensorFlow 1's ``Dimension``.

    Raises:
        TypeError: It is no integer.
        ValueError: It is negative.
    """
    if value is None:
        return None
    value = getattr(value, "value", value)  # of a Dimension, None where it is unknown
    if value is None:
        return None
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"{value!r} is no size of a dimension: give an integer or None") from None
    if size < 0:
        raise ValueError(f"a dimension cannot have the size {size}: give None where it is unknown")
    return size
