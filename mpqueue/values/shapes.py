"""Static shapes: what is known of an array's shape before it exists.

A shape is a tuple of sizes in which None is an unknown dimension; None alone is a shape of unknown rank.
"""

import operator
from collections.abc import Sequence
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


def as_shapes(value: Any, count: int) -> list[Shape]:
    """Make one shape for each of ``count`` components; a single shape stands for a list of one.

    Raises:
        TypeError: It is no sequence, or holds what is no shape.
        ValueError: The number of shapes is not ``count``.
    """
    if hasattr(value, "as_list"):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"shapes must be a list of shapes, one for each component, got {value!r}")
    if all(item is None or hasattr(item, "__index__") for item in value):
        value = [value]
    if len(value) != count:
        raise ValueError(f"got {len(value)} shapes for {count} components: give one shape for each dtype")
    return [as_shape(item) for item in value]


def as_known_shapes(value: Any, count: int, class_name: str) -> list[Shape] | None:
    """Make shapes as `as_shapes`, or None of None; `ValueError` if any dimension is unknown."""
    if value is None:
        return None
    shapes = as_shapes(value, count)
    for shape in shapes:
        if not is_fully_known(shape):
            raise ValueError(
                f"a {class_name} needs fully known shapes, got {shape}: use a PaddingFIFOQueue for dimensions that "
                "vary, or give no shapes and dequeue one by one"
            )
    return shapes


def is_fully_known(shape: Shape) -> bool:
    """Tell if the rank and every dimension are known."""
    return shape is not None and None not in shape


def is_compatible(shape: Sequence[int | None] | None, known: Shape) -> bool:
    """Tell if one array may have both shapes; what is unknown of either fits everything."""
    if known is None or shape is None:
        return True
    return len(shape) == len(known) and all(
        expected is None or size is None or size == expected for size, expected in zip(shape, known, strict=True)
    )


def common_shape(one: Shape, other: Shape) -> Shape:
    """Return what two shapes have in common: dimensions that differ are unknown, and so is a rank that differs."""
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(left if left == right else None for left, right in zip(one, other, strict=True))


def merged_size(left: int | None, right: int | None) -> int | None:
    """Return what two statements about one size say together.

    Raises:
        ValueError: They differ.
    """
    if left is None or right is None:
        return right if left is None else left
    if left != right:
        raise ValueError(f"Dimensions must be equal, but are {left} and {right}.")
    return left


def merged(left: Shape, right: Shape) -> Shape:
    """Return what two statements about one shape say together.

    Raises:
        ValueError: No array has both shapes.
    """
    if left is None or right is None:
        return right if left is None else left
    if not is_compatible(left, right):
        raise ValueError(f"Shapes {text(left)} and {text(right)} are not compatible")
    return tuple(map(merged_size, left, right))


def text(shape: Shape) -> str:
    """Format a shape for a message: ``[2,?]``, or ``<unknown>``."""
    if shape is None:
        return "<unknown>"
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"
