"""Static shapes of components: validation, comparison and merging."""

from collections.abc import Sequence
from typing import Any, TypeGuard

from mpqueue.values.shapes import Shape, as_shape


def as_shapes(value: Any, count: int) -> list[Shape]:
    """Return one shape for each component. A single shape is accepted for one component.

    Raises:
        TypeError: The value is not a sequence, or one of its items is not a shape.
        ValueError: The number of shapes is not ``count``.
    """
    if hasattr(value, "as_list"):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"shapes must be a list of shapes, one for each component, got {value!r}.")
    if all(item is None or hasattr(item, "__index__") for item in value):
        value = [value]
    if len(value) != count:
        raise ValueError(f"Expected {count} shapes, one for each dtype, got {len(value)}.")
    return [as_shape(item) for item in value]


def as_known_shapes(value: Any, count: int, class_name: str) -> list[Shape] | None:
    """Return shapes as `as_shapes` does, or None for None; raise `ValueError` if a dimension is unknown."""
    if value is None:
        return None
    shapes = as_shapes(value, count)
    for shape in shapes:
        if not is_fully_known(shape):
            raise ValueError(
                f"{class_name} requires fully known shapes, got {shape}. Use PaddingFIFOQueue for dimensions that "
                "vary, or give no shapes and dequeue elements one by one."
            )
    return shapes


def is_fully_known(shape: Shape) -> TypeGuard[tuple[int, ...]]:
    """Return whether the rank and every dimension are known."""
    return shape is not None and None not in shape


def is_compatible(shape: Sequence[int | None] | None, known: Shape) -> bool:
    """Return whether an array can have both shapes. An unknown rank or dimension matches any."""
    if known is None or shape is None:
        return True
    return len(shape) == len(known) and all(
        expected is None or size is None or size == expected for size, expected in zip(shape, known, strict=True)
    )


def common_shape(one: Shape, other: Shape) -> Shape:
    """Return a shape that covers both. Different dimensions or ranks become None."""
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(left if left == right else None for left, right in zip(one, other, strict=True))


def merged_size(left: int | None, right: int | None) -> int | None:
    """Return the size of a dimension from two sources, where None is unknown.

    Raises:
        ValueError: Both sizes are known, and they differ.
    """
    if left is None or right is None:
        return right if left is None else left
    if left != right:
        raise ValueError(f"Dimensions must be equal, but are {left} and {right}.")
    return left


def merged(left: Shape, right: Shape) -> Shape:
    """Return a shape from two sources, which may be partially known.

    Raises:
        ValueError: No array has both shapes.
    """
    if left is None or right is None:
        return right if left is None else left
    if not is_compatible(left, right):
        raise ValueError(f"Shapes {text(left)} and {text(right)} are not compatible.")
    return tuple(map(merged_size, left, right))


def text(shape: Shape) -> str:
    """Format a shape for a message: ``[2,?]``, or ``<unknown>``."""
    if shape is None:
        return "<unknown>"
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"
