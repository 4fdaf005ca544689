"""Helpers of shape functions: common rules, and looks at values that may be known."""

from typing import Any, NoReturn

import numpy as np

from mpqueue.compat.ops.dims import Dims, broadcast, with_rank
from mpqueue.compat.ops.registry import Known
from mpqueue.errors import InvalidArgumentError


def invalid(message: str) -> NoReturn:
    """Refuse an argument while running."""
    raise InvalidArgumentError(None, None, message)


def same(x: Known, *_others: Any, **_attrs: Any) -> Dims:
    """The shape of the first input."""
    return x.known_dims


def scalar(*_inputs: Any, **_attrs: Any) -> Dims:
    """No axes."""
    return ()


def unknown(*_inputs: Any, **_attrs: Any) -> Dims:
    """Nothing is known."""
    return None


def elementwise(x: Known, y: Known, **_attrs: Any) -> Dims:
    """The two shapes broadcast."""
    return broadcast(x.known_dims, y.known_dims)


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


def blank(shape: tuple[int, ...], like: np.ndarray) -> np.ndarray:
    """Zeros, or empty text, of the type of ``like``."""
    if like.dtype != object:
        return np.zeros(shape, like.dtype)
    out = np.empty(shape, object)
    out[...] = b""
    return out
