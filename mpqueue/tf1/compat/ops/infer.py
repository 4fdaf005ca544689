"""Rules of shapes: the language in which a signature says them, and helpers of those that are written by hand.

Behind the type of an input or output stand the sizes of its axes in brackets, with spaces between::

    "contents: string[] -> uint8[_ _ channels]"

    3              that size
    n              one size wherever it stands; in an output also an attribute, or the value of a scalar input
    _              any size
    ...            any number of axes in front of the others; what stands for it in several inputs is broadcast
    *shape         in an output: the sizes that the value of the vector ``shape`` says

An attribute of 0 or None is a size that is not known. Nothing is said of an input without brackets.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.tf1.compat.ops.dims import Dims, broadcast, merged_size, text, with_rank
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype
from mpqueue.tf1.values.conversion import invalid as invalid  # noqa: PLC0414 - for those who refuse in a run

Array = np.ndarray


class Known:
    """An input as rules of shapes see it: an array itself, or a node of a graph."""

    @property
    @abstractmethod
    def dtype(self) -> DType:
        """The type of its elements."""

    @property
    @abstractmethod
    def known_dims(self) -> Dims:
        """Its shape, as far as known."""

    @abstractmethod
    def known_entries(self) -> np.ndarray | None:
        """Its value; where only some entries are known, an object array of ints, with None for the others."""

    def known_value(self) -> np.ndarray | None:
        """Its value, if all of it follows from constants and known shapes."""
        entries = self.known_entries()
        if entries is None or entries.dtype != object or not self.dtype.is_integer:
            return entries
        if any(item is None for item in entries.reshape(-1).tolist()):
            return None
        return entries.astype(self.dtype.as_numpy_dtype)

    def known_as_shape(self) -> Dims:
        """Its value, if it is a vector that stands for a shape; entries that are unknown, or below 0, become None."""
        entries = self.known_entries()
        if entries is None:
            dims = self.known_dims
            return None if dims is None or len(dims) != 1 or dims[0] is None else (None,) * dims[0]
        flat = entries.reshape(-1).tolist()
        return tuple(None if item is None or item < 0 else int(item) for item in flat)


class Constant(Known):
    """An array as an input of which everything is known."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return as_dtype(self._array.dtype)

    @property
    def known_dims(self) -> Dims:
        """The array's shape."""
        return self._array.shape

    def known_entries(self) -> np.ndarray:
        """The array."""
        return self._array


Sizes = tuple[str, ...] | None
"""The sizes in brackets; None where there are no brackets."""


def bound(patterns: Mapping[str, Sizes], shapes: Sequence[Any]) -> dict[str, Any]:
    """The sizes of the names in the patterns of inputs, given the shapes that these have (of a list, a list).

    Raises:
        ValueError: A shape does not fit its pattern, or the others.
    """
    found: dict[str, Any] = {"...": ()}
    for (what, pattern), dims in zip(patterns.items(), shapes, strict=True):
        for each in dims if isinstance(dims, list) else [dims]:
            if pattern is not None:
                _bind(found, pattern, each, what)
    return found


def _bind(found: dict[str, Any], pattern: tuple[str, ...], dims: Dims, what: str) -> None:
    if pattern[:1] == ("...",):
        pattern = pattern[1:]
        outer = None if dims is None else len(dims) - len(pattern)
        if outer is not None and outer < 0:
            raise ValueError(f"{what} must be at least rank {len(pattern)}, got shape {text(dims)}")
        found["..."] = broadcast(found["..."], None if dims is None else dims[:outer])
        dims = None if dims is None else dims[outer:]
    for name, size in zip(pattern, with_rank(dims, len(pattern), what), strict=True):
        if name != "_":
            try:
                found[name] = merged_size(int(name) if name.isdigit() else found.get(name), size)
            except ValueError:
                wanted = f"{what} must have shape [{' '.join(pattern)}]"
                raise ValueError(f"{wanted}, where {name} is {found.get(name, name)}, got {text(dims)}") from None


def shaped(pattern: tuple[str, ...], found: Mapping[str, Any], given: Mapping[str, Any]) -> Dims:
    """The shape of an output, from what `bound` has found, and the inputs and attributes by name."""
    out: list[int | None] = []
    for name in pattern:
        if name == "..." or name[0] == "*":
            dims = found[name] if name == "..." else shape_of(given[name[1:]], name[1:])
            if dims is None:
                return None
            out += dims
        elif name == "_" or name.isdigit():
            out.append(None if name == "_" else int(name))
        elif name in found:
            out.append(found[name])
        else:
            out.append(int_of(given[name]) if isinstance(given[name], Known) else given[name] or None)
    return tuple(out)


def int_of(x: Known) -> int | None:
    """The value of a scalar (or of a single element), None if unknown."""
    value = x.known_value()
    return None if value is None else int(np.asarray(value).reshape(-1)[0])


def ints_of(x: Known) -> list[int] | None:
    """The values of a vector, of a scalar as of a vector of one; None if unknown."""
    value = x.known_value()
    return None if value is None else [int(item) for item in np.asarray(value).reshape(-1)]


def shape_of(x: Known, what: str = "shape") -> Dims:
    """The shape that a vector describes, as far as known.

    Raises:
        ValueError: It is no vector, or an entry is below -1.
    """
    if x.known_dims == () and int_of(x) == -1:
        return None  # TensorFlow's sign for a shape of unknown rank
    with_rank(x.known_dims, 1, what)
    value = x.known_value()
    if value is not None and (value < -1).any():
        raise ValueError(f"sizes of {what} must be >= -1, got {value.tolist()}")
    return x.known_as_shape()
