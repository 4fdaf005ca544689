"""Static shapes: tuples whose None is an unknown dimension; None alone is a shape of which nothing is known."""

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

Shape: TypeAlias = tuple[int | None, ...] | None


def as_shape(value: Any) -> Shape:
    """A shape from a sequence of sizes and None, a single size, None, or an object with ``as_list``.

    Raises:
        TypeError: A size is no integer.
        ValueError: A size is negative, or an object with ``as_list`` refuses because its rank is unknown.
    """
    if value is None:
        return None
    if hasattr(value, "as_list"):  # TensorFlow's TensorShape, whose as_list raises when the rank is unknown
        return None if getattr(value, "rank", 0) is None else tuple(_size(size) for size in value.as_list())
    if isinstance(value, str | bytes):
        raise TypeError(f"{value!r} is no shape: give a sequence of sizes")
    return tuple(_size(size) for size in value) if _is_sequence(value) else (_size(value),)


def as_shapes(value: Any, count: int) -> list[Shape]:
    """One shape for each of ``count`` components; a single shape stands for a list of one.

    Raises:
        TypeError: It is no sequence, or holds what is no shape.
        ValueError: The number of shapes is not ``count``.
    """
    if hasattr(value, "as_list"):
        value = [value]
    if not _is_sequence(value):
        raise TypeError(f"shapes must be a list of shapes, one for each component, got {value!r}")
    if all(item is None or _is_size(item) for item in value):
        value = [value]
    if len(value) != count:
        raise ValueError(f"got {len(value)} shapes for {count} components: give one shape for each dtype")
    return [as_shape(item) for item in value]


def as_known_shapes(value: Any, count: int, class_name: str) -> list[Shape] | None:
    """As `as_shapes`, or None for None; `ValueError` if any dimension is unknown."""
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
    """True if the rank and every dimension are known."""
    return shape is not None and None not in shape


def is_compatible(shape: Sequence[int | None] | None, known: Shape) -> bool:
    """True if an array of ``shape`` may be one of ``known``; unknown parts of either fit everything."""
    if known is None or shape is None:
        return True
    return len(shape) == len(known) and all(
        expected is None or size is None or size == expected for size, expected in zip(shape, known, strict=True)
    )


def common_shape(one: Shape, other: Shape) -> Shape:
    """What is known of both: dimensions that differ become None, ranks that differ leave nothing."""
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(left if left == right else None for left, right in zip(one, other, strict=True))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_size(value: Any) -> bool:
    return hasattr(value, "__index__")


def _size(value: Any) -> int | None:
    if value is None:
        return None
    value = getattr(value, "value", value)  # TensorFlow 1's Dimension
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"{value!r} is no size of a dimension: give an integer or None") from None
    if size < 0:
        raise ValueError(f"a dimension cannot have the size {size}: give None where it is unknown")
    return size
