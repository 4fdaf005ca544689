"""Shape inference: the notation for shapes in signatures, and helpers for inference functions.

The type of an input or output can be followed by the sizes of its axes, in brackets and separated by spaces::

    "contents: string[] -> uint8[_ _ channels]"

    3              this size
    n              the same size at each occurrence; in an output also an attribute, or the value of a scalar input
    _              any size
    ...            any number of leading axes; if it appears in several inputs, these axes are broadcast
    *shape         in an output: the sizes in the value of the vector ``shape``

An attribute of 0 or None is an unknown size. An input without brackets can have any shape.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.tf1.compat.ops.dims import Dims, broadcast, merged_size, text, with_rank
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype
from mpqueue.tf1.values.conversion import invalid as invalid  # noqa: PLC0414 - re-exported for kernels

Array = np.ndarray


class Known:
    """The statically known facts about an input, which is an array or a node of a graph."""

    @property
    @abstractmethod
    def dtype(self) -> DType:
        """The type of the elements."""

    @property
    @abstractmethod
    def known_dims(self) -> Dims:
        """The static shape."""

    @abstractmethod
    def known_entries(self) -> np.ndarray | None:
        """Return the known value; if only some entries are known, an object array with None for unknown ones."""

    def known_value(self) -> np.ndarray | None:
        """Return the value if all of it follows from constants and known shapes."""
        entries = self.known_entries()
        if entries is None or entries.dtype != object or not self.dtype.is_integer:
            return entries
        if any(item is None for item in entries.reshape(-1).tolist()):
            return None
        return entries.astype(self.dtype.as_numpy_dtype)

    def known_as_shape(self) -> Dims:
        """Return the value of a vector that describes a shape; unknown and negative entries become None."""
        entries = self.known_entries()
        if entries is None:
            dims = self.known_dims
            return None if dims is None or len(dims) != 1 or dims[0] is None else (None,) * dims[0]
        flat = entries.reshape(-1).tolist()
        return tuple(None if item is None or item < 0 else int(item) for item in flat)


class Constant(Known):
    """An array as a completely known input."""

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
        """Return the array."""
        return self._array


Sizes = tuple[str, ...] | None
"""The sizes in brackets, or None without brackets."""


def bound(patterns: Mapping[str, Sizes], shapes: Sequence[Any]) -> dict[str, Any]:
    """Return the sizes of the names in the patterns of inputs, given the shapes (for a list, a list of shapes).

    Raises:
        ValueError: A shape does not match its pattern, or contradicts another shape.
    """
    sizes: dict[str, Any] = {"...": ()}
    for (what, pattern), dims in zip(patterns.items(), shapes, strict=True):
        for each in dims if isinstance(dims, list) else [dims]:
            if pattern is not None:
                _bind(sizes, pattern, each, what)
    return sizes


def _bind(sizes: dict[str, Any], pattern: tuple[str, ...], dims: Dims, what: str) -> None:
    if pattern[:1] == ("...",):
        pattern = pattern[1:]
        outer = None if dims is None else len(dims) - len(pattern)
        if outer is not None and outer < 0:
            raise ValueError(f"{what} must be at least rank {len(pattern)}, got shape {text(dims)}")
        sizes["..."] = broadcast(sizes["..."], None if dims is None else dims[:outer])
        dims = None if dims is None else dims[outer:]
    for name, size in zip(pattern, with_rank(dims, len(pattern), what), strict=True):
        if name != "_":
            try:
                sizes[name] = merged_size(int(name) if name.isdigit() else sizes.get(name), size)
            except ValueError:
                problem = f"{what} must have shape [{' '.join(pattern)}]"
                raise ValueError(f"{problem}, where {name} is {sizes.get(name, name)}, got {text(dims)}") from None


def shaped(pattern: tuple[str, ...], sizes: Mapping[str, Any], arguments: Mapping[str, Any]) -> Dims:
    """Return the shape of an output, from the result of `bound`, and the inputs and attributes by name."""
    out: list[int | None] = []
    for name in pattern:
        if name == "..." or name[0] == "*":
            dims = sizes[name] if name == "..." else shape_of(arguments[name[1:]], name[1:])
            if dims is None:
                return None
            out += dims
        elif name == "_" or name.isdigit():
            out.append(None if name == "_" else int(name))
        elif name in sizes:
            out.append(sizes[name])
        else:
            argument = arguments[name]
            out.append(int_of(argument) if isinstance(argument, Known) else argument or None)
    return tuple(out)


def int_of(x: Known) -> int | None:
    """Return the value of a scalar or of a single element, or None if unknown."""
    value = x.known_value()
    return None if value is None else int(np.asarray(value).reshape(-1)[0])


def ints_of(x: Known) -> list[int] | None:
    """Return the values of a vector or scalar as a list, or None if unknown."""
    value = x.known_value()
    return None if value is None else [int(item) for item in np.asarray(value).reshape(-1)]


def shape_of(x: Known, what: str = "shape") -> Dims:
    """Return the static shape that a vector describes.

    Raises:
        ValueError: The input is not a vector, or an entry is below -1.
    """
    if x.known_dims == () and int_of(x) == -1:
        return None  # TensorFlow's representation of a shape of unknown rank
    with_rank(x.known_dims, 1, what)
    value = x.known_value()
    if value is not None and (value < -1).any():
        raise ValueError(f"sizes of {what} must be >= -1, got {value.tolist()}")
    return x.known_as_shape()
