"""Static shapes: the known part of an array's shape before the array exists.

A shape is a tuple of sizes, with None for an unknown dimension. None alone is a shape of unknown rank.
"""

import operator
from typing import Any, TypeAlias

Shape: TypeAlias = tuple[int | None, ...] | None


def as_shape(value: Any) -> Shape:
    """Convert an iterable of sizes and None, a single size, None, or an object with ``as_list`` to a shape.

    Raises:
        TypeError: A size is not an integer.
        ValueError: A size is negative.
    """
    if value is None:
        return None
    if isinstance(value, str | bytes):
        raise TypeError(f"{value!r} is not a shape: expected a sequence of sizes")
    if hasattr(value, "as_list"):  # TensorFlow's TensorShape, where as_list raises if the rank is unknown
        return None if getattr(value, "rank", 0) is None else tuple(as_size(size) for size in value.as_list())
    is_single = not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0
    return (as_size(value),) if is_single else tuple(as_size(size) for size in value)


def as_size(value: Any) -> int | None:
    """Convert an integer, None for an unknown size, or TensorFlow 1's ``Dimension`` to a size.

    Raises:
        TypeError: The value is not an integer.
        ValueError: The value is negative.
    """
    if value is None:
        return None
    value = getattr(value, "value", value)  # a Dimension has None for an unknown size
    if value is None:
        return None
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"{value!r} is not a size of a dimension: expected an integer or None") from None
    if size < 0:
        raise ValueError(f"a dimension must have at least 0 elements, got {size}: pass None if the size is unknown")
    return size
