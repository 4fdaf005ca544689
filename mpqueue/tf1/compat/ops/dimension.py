"""One size of a shape, perhaps not known."""

import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

from mpqueue.tf1.values.shapes import as_size


def _combining(combine: Callable[[int, int], Any], result: Callable[[Any], Any]) -> Any:
    """An operator of `Dimension`; the result of what is not known on either side is ``result(None)``."""

    def method(self: "Dimension", other: Any) -> Any:
        try:
            other = as_dimension(other)
        except (TypeError, ValueError):
            return NotImplemented
        both = self.value, other.value
        return result(None if None in both else combine(*both))  # type: ignore[arg-type]

    return method


def _arithmetic(combine: Callable[[int, int], int]) -> tuple[Any, Any]:
    """An operator and its mirror image: not known on either side makes the result not known."""
    forward = _combining(combine, lambda size: Dimension(size))  # noqa: PLW0108 - the class comes later
    return forward, lambda self, other: forward(as_dimension(other), self)


def _comparison(compare: Callable[[int, int], bool]) -> Any:
    """A comparison: None, neither true nor false, where a side is not known."""
    return _combining(compare, lambda holds: holds)


class Dimension:
    """One size of a `TensorShape`: an int, or not known.

    Counts and compares like its int; ``value`` is that int, or None. A dimension that is not known makes every result
    not known, and every comparison None.

    Args:
        value: An int from 0, something with ``__index__``, a Dimension, or None.

    Raises:
        ValueError: Below 0.
        TypeError: No int.
    """

    __slots__ = ("value",)

    def __init__(self, value: "SupportsIndex | Dimension | None") -> None:
        self.value: int | None = as_size(value)

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
    __hash__ = None  # type: ignore[assignment]  # == may be None

    def __truediv__(self, other: Any) -> Any:
        raise TypeError(f"a Dimension divides with // only, not / (by {other!r})")

    __rtruediv__ = __truediv__

    def __bool__(self) -> bool:
        return bool(self.value)

    def __index__(self) -> int:
        if self.value is None:
            raise TypeError("an unknown Dimension is no int")
        return self.value

    __int__ = __index__

    def __str__(self) -> str:
        return "?" if self.value is None else str(self.value)

    def __repr__(self) -> str:
        return f"Dimension({self.value})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Dimension, (self.value,)

    def is_compatible_with(self, other: Any) -> bool:
        """Tell if both may be one size: equal, or one not known."""
        other = as_dimension(other)
        return None in (self.value, other.value) or self.value == other.value

    def assert_is_compatible_with(self, other: Any) -> None:
        """Check `is_compatible_with`, with a ValueError if they differ."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Dimensions {self} and {as_dimension(other)} are not compatible")

    def merge_with(self, other: Any) -> "Dimension":
        """Return what is known of a size that both are; a ValueError if they differ."""
        self.assert_is_compatible_with(other)
        return Dimension(other if self.value is None else self)


def as_dimension(value: Any) -> Dimension:
    """A `Dimension` as it is, anything else made one."""
    return value if isinstance(value, Dimension) else Dimension(value)


def dimension_value(dimension: Any) -> Any:
    """The size that a `Dimension` is, None if unknown; anything else as it is."""
    return dimension.value if isinstance(dimension, Dimension) else dimension
