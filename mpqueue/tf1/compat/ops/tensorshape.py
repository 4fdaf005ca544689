"""Static shapes of arrays, which can be partially known, and their dimensions."""

import operator
from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex, overload

from mpqueue.tf1.compat.ops.dims import Dims, count, is_known, merged
from mpqueue.values import shapes


def _combining(combine: Callable[[int, int], Any], result: Callable[[Any], Any]) -> Any:
    """Create an operator of `Dimension`; if one operand is unknown, the result is ``result(None)``."""

    def method(self: "Dimension", other: Any) -> Any:
        try:
            other = as_dimension(other)
        except (TypeError, ValueError):
            return NotImplemented
        both = self.value, other.value
        return result(combine(*both) if is_known(both) else None)

    return method


def _arithmetic(combine: Callable[[int, int], int]) -> tuple[Any, Any]:
    """Create an operator and its reflected version; if one operand is unknown, so is the result."""
    forward = _combining(combine, lambda size: Dimension(size))  # noqa: PLW0108 - the class is defined below
    return forward, lambda self, other: forward(as_dimension(other), self)


def _comparison(compare: Callable[[int, int], bool]) -> Any:
    """Create a comparison; it returns None if one operand is unknown."""
    return _combining(compare, lambda holds: holds)


class Dimension:
    """One size of a `TensorShape`, an integer or unknown.

    A dimension calculates and compares like an integer; ``value`` is that integer, or None. With an unknown dimension,
    results are unknown, and comparisons return None.

    Args:
        value: A non-negative integer, an object with ``__index__``, a Dimension, or None.

    Raises:
        ValueError: The value is negative.
        TypeError: The value is not an integer.
    """

    __slots__ = ("value",)

    def __init__(self, value: "SupportsIndex | Dimension | None") -> None:
        self.value: int | None = shapes.as_size(value)

    __add__, __radd__ = _arithmetic(operator.add)
    __sub__, __rsub__ = _arithmetic(operator.sub)
    __mul__, __rmul__ = _arithmetic(operator.mul)
    __floordiv__, __rfloordiv__ = _arithmetic(operator.floordiv)
    __mod__, __rmod__ = _arithmetic(operator.mod)
    __eq__ = _comparison(operator.eq)
    __ne__ = _comparison(operator.ne)
    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)
    __hash__ = None  # type: ignore[assignment]  # == can return None

    def __truediv__(self, other: Any) -> Any:
        raise TypeError(f"Dimension supports only // for division, got / (by {other!r})")

    __rtruediv__ = __truediv__

    def __bool__(self) -> bool:
        return bool(self.value)

    def __index__(self) -> int:
        if self.value is None:
            raise TypeError("An unknown Dimension cannot be converted to an integer")
        return self.value

    __int__ = __index__

    def __str__(self) -> str:
        return "?" if self.value is None else str(self.value)

    def __repr__(self) -> str:
        return f"Dimension({self.value})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Dimension, (self.value,)

    def is_compatible_with(self, other: Any) -> bool:
        """Return whether both can be the same size: they are equal, or one is unknown."""
        other = as_dimension(other)
        return None in (self.value, other.value) or self.value == other.value

    def assert_is_compatible_with(self, other: Any) -> None:
        """Raise ValueError unless `is_compatible_with` holds."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Dimensions {self} and {as_dimension(other)} are not compatible")

    def merge_with(self, other: Any) -> "Dimension":
        """Return the known size of two dimensions that are the same; raise ValueError if they differ."""
        self.assert_is_compatible_with(other)
        return Dimension(other if self.value is None else self)


def as_dimension(value: Any) -> Dimension:
    """Convert a value to a `Dimension`."""
    return value if isinstance(value, Dimension) else Dimension(value)


def dimension_value(dimension: Any) -> Any:
    """Return the size of a `Dimension`, or None if unknown; other values are returned unchanged."""
    return dimension.value if isinstance(dimension, Dimension) else dimension


class TensorShape:
    """A shape with a possibly unknown rank or unknown sizes.

    Indexing and iteration return `Dimension` objects, as in TensorFlow 1; ``as_list()`` returns integers and None.

    Args:
        dims: An iterable of sizes (integers, `Dimension`, None for unknown), None for an unknown rank, one integer, or
            another TensorShape.

    Raises:
        ValueError: A size is negative.
        TypeError: The value is not a shape.

    Follows: ``tf.TensorShape`` with ``disable_v2_tensorshape``.
    """

    __slots__ = ("_dims",)

    def __init__(self, dims: Any) -> None:
        self._dims = shapes.as_shape(dims)

    @property
    def known(self) -> Dims:
        """The shape as a tuple of integers and None, or None. Not in TensorFlow."""
        return self._dims

    @property
    def dims(self) -> list[Dimension] | None:
        """The sizes as a list of `Dimension`, or None if the rank is unknown."""
        return None if self._dims is None else [Dimension(size) for size in self._dims]

    @property
    def ndims(self) -> int | None:
        """The number of dimensions, or None if unknown."""
        return None if self._dims is None else len(self._dims)

    rank = ndims

    def as_list(self) -> list[int | None]:
        """Return the sizes as integers, with None for unknown sizes.

        Raises:
            ValueError: The rank is unknown.
        """
        if self._dims is None:
            raise ValueError("as_list() is not defined on an unknown TensorShape.")
        return list(self._dims)

    def num_elements(self) -> int | None:
        """Return the number of elements of an array of this shape, or None if a size is unknown."""
        return count(self._dims)

    def is_fully_defined(self) -> bool:
        """Return whether the rank and all sizes are known."""
        return self._dims is not None and None not in self._dims

    def assert_is_fully_defined(self) -> None:
        """Raise ValueError unless the rank and all sizes are known."""
        if not self.is_fully_defined():
            raise ValueError(f"Shape {self} is not fully defined")

    def is_compatible_with(self, other: Any) -> bool:
        """Return whether an array can have both shapes."""
        try:
            self.merge_with(other)
        except ValueError:
            return False
        return True

    def assert_is_compatible_with(self, other: Any) -> None:
        """Raise ValueError unless an array can have both shapes."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {as_shape(other)} are incompatible")

    def merge_with(self, other: Any) -> "TensorShape":
        """Merge the known sizes of two shapes of the same array.

        Raises:
            ValueError: No array can have both shapes.
        """
        other = as_shape(other)
        try:
            return TensorShape(merged(self._dims, other.known))
        except ValueError:
            raise ValueError(f"Shapes {self} and {other} are not compatible") from None

    def most_specific_compatible_shape(self, other: Any) -> "TensorShape":
        """Return the common part of both shapes: different sizes, or a different rank, become unknown."""
        other = as_shape(other)
        if self._dims is None or other.known is None or len(self._dims) != len(other.known):
            return TensorShape(None)
        return TensorShape([a if a == b else None for a, b in zip(self._dims, other.known, strict=True)])

    def concatenate(self, other: Any) -> "TensorShape":
        """Append the sizes of the other shape; the result is unknown if a rank is unknown."""
        other = as_shape(other)
        if self._dims is None or other.known is None:
            return TensorShape(None)
        return TensorShape(self._dims + other.known)

    def with_rank(self, rank: int) -> "TensorShape":
        """Return this shape with the given rank; raise ValueError if it has another rank."""
        self.assert_has_rank(rank)
        return TensorShape([None] * rank) if self._dims is None else self

    def with_rank_at_least(self, rank: int) -> "TensorShape":
        """Return this shape; raise ValueError if its rank is less than ``rank``."""
        if self.ndims is not None and self.ndims < rank:
            raise ValueError(f"Shape {self} must have rank at least {rank}")
        return self

    def with_rank_at_most(self, rank: int) -> "TensorShape":
        """Return this shape; raise ValueError if its rank is greater than ``rank``."""
        if self.ndims is not None and self.ndims > rank:
            raise ValueError(f"Shape {self} must have rank at most {rank}")
        return self

    def assert_has_rank(self, rank: int) -> None:
        """Raise ValueError if the shape is known to have another rank."""
        if self.ndims not in (None, rank):
            raise ValueError(f"Shape {self} must have rank {rank}")

    def assert_same_rank(self, other: Any) -> None:
        """Raise ValueError if the ranks are known to differ."""
        other = as_shape(other)
        if None not in (self.ndims, other.ndims) and self.ndims != other.ndims:
            raise ValueError(f"Shapes {self} and {other} must have the same rank")

    def __len__(self) -> int:
        if self._dims is None:
            raise ValueError("Cannot take the length of shape with unknown rank.")
        return len(self._dims)

    def __bool__(self) -> bool:
        return self._dims is not None

    def __iter__(self) -> Iterator[Dimension]:
        if self._dims is None:
            raise ValueError("Cannot iterate over a shape with unknown rank.")
        return iter([Dimension(size) for size in self._dims])

    @overload
    def __getitem__(self, key: int) -> Dimension: ...
    @overload
    def __getitem__(self, key: slice) -> "TensorShape": ...
    def __getitem__(self, key: int | slice) -> "Dimension | TensorShape":
        if self._dims is None:
            return TensorShape(_slice_of_unknown(key)) if isinstance(key, slice) else Dimension(None)
        if isinstance(key, slice):
            return TensorShape(self._dims[key])
        return Dimension(self._dims[key])

    def __add__(self, other: Any) -> "TensorShape":
        return self.concatenate(other)

    def __radd__(self, other: Any) -> "TensorShape":
        return as_shape(other).concatenate(self)

    def __eq__(self, other: object) -> bool:
        try:
            return self._dims == as_shape(other).known
        except (TypeError, ValueError):
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self._dims)

    def __str__(self) -> str:
        if self._dims is None:
            return "<unknown>"
        sizes = ["?" if size is None else str(size) for size in self._dims]
        return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"

    def __repr__(self) -> str:
        return f"TensorShape({self.dims})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorShape, (self._dims,)


def _slice_of_unknown(key: slice) -> Dims:
    """Slice a shape of unknown rank from the left; like TensorFlow, assume that the slice is within the shape."""
    if key.step is not None:
        raise ValueError("Steps are not yet handled")
    start = 0 if key.start is None else operator.index(key.start)
    if key.stop is None or start < 0 or key.stop < 0:
        return None
    return (None,) * (operator.index(key.stop) - start)


def as_shape(value: Any) -> TensorShape:
    """Convert a value to a `TensorShape`."""
    return value if isinstance(value, TensorShape) else TensorShape(value)
