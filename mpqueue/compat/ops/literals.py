"""Python values as arrays, by the rules of ``tf.constant``.

NumPy arrays and scalars keep their type, or are cast to the one asked for, whatever is lost. Python values are checked
against the type asked for (1.5 is no int32); without one, floats become float32 and ints int32 where they fit. Lists
of NumPy scalars count as Python values.
"""

import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.compat.ops.dimension import Dimension
from mpqueue.compat.ops.dtypes import DType, Kind, as_dtype, float32, string

_FITS: Mapping[Kind, tuple[type, ...]] = {
    Kind.FLOAT: (numbers.Real, np.integer, np.floating),
    Kind.INT: (numbers.Integral, np.integer, Dimension),
    Kind.UINT: (numbers.Integral, np.integer, Dimension),
    Kind.COMPLEX: (numbers.Complex, np.number),
    Kind.BOOL: (bool,),
    Kind.TEXT: (bytes, str),
}


def to_array(
    value: Any, dtype: DType | None = None, shape: Iterable[Any] | None = None, *, verify_shape: bool = False
) -> np.ndarray:
    """The array that a constant made of ``value`` has.

    Args:
        value: A scalar, text, nested lists or tuples of them, or something array-like.
        dtype: The type wanted, None for the one that the value suggests.
        shape: The shape wanted. The last element of a shorter value is repeated to fill it.
        verify_shape: ``value`` must have that very shape.

    Returns:
        A new array, or a view of the given one; text as an object array of ``bytes``.

    Raises:
        TypeError: The value has another kind of elements, or mixed ones, or not the shape to be verified.
        ValueError: None, lists of unequal lengths, or more elements than ``shape`` has.

    Follows: ``tf.constant``, ``tf.make_tensor_proto``.
    """
    if value is None:
        raise ValueError("None values not supported.")
    sizes = None if shape is None else tuple(int(size) for size in shape)
    if is_array_like(value):
        array = np.asarray(value)
        array = array if dtype is None else _cast(array, dtype)
    elif sizes is not None and 0 in sizes:
        array = np.empty(sizes, np.float32 if dtype is None else dtype.as_numpy_dtype)
    else:
        array = _from_python(value, dtype)
    if as_dtype(array.dtype) is string:
        array = _as_bytes(array, value)
    return array if sizes is None else _filled(array, sizes, verify_shape)


def is_array_like(value: Any) -> bool:
    """Whether NumPy would take ``value`` as one array, without looking into it as into a list."""
    if callable(getattr(value, "__array__", None)) or isinstance(getattr(value, "__array_interface__", None), dict):
        return True
    return isinstance(value, bytearray | memoryview)


def leaves(value: Any) -> Iterator[Any]:
    """The elements of nested lists, tuples and dicts."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def _from_python(value: Any, dtype: DType | None) -> np.ndarray:
    array = _gathered(value, dtype)
    if list(array.shape) != _nesting(value):
        raise ValueError(f"expected {value!r} to have shape {_nesting(value)}, got {list(array.shape)}")
    if dtype is not None:
        return array
    if array.dtype == np.float64:
        return _cast(array, float32)
    if array.dtype == np.int64:
        small = array.astype(np.int32)
        return small if np.array_equal(small, array) else array
    return array


def _gathered(value: Any, dtype: DType | None) -> np.ndarray:
    with np.errstate(over="ignore"):
        if dtype is None:
            return np.array(value, object if _is_text(value) else None)
        _check_elements(value, dtype)
        try:
            return np.array(value, dtype.as_numpy_dtype)
        except OverflowError:  # an int that does not fit is cut, as in an array
            return np.array(value).astype(dtype.as_numpy_dtype)


def _is_text(value: Any) -> bool:
    """NumPy's own text types would lose trailing zero bytes."""
    return any(isinstance(leaf, bytes | str) for leaf in leaves(value))


def _check_elements(value: Any, dtype: DType) -> None:
    for leaf in leaves(value):
        fits = _FITS[dtype.kind]
        if not (isinstance(leaf, fits) or (isinstance(leaf, np.ndarray) and issubclass(leaf.dtype.type, fits))):
            raise TypeError(f"Expected {dtype.name}, but got {leaf!r} of type {type(leaf).__name__!r}.")


def _nesting(value: Any) -> list[int]:
    if not isinstance(value, list | tuple):
        return []
    return [len(value), *_nesting(value[0])] if value else [0]


def _cast(array: np.ndarray, dtype: DType) -> np.ndarray:
    if dtype is string:
        return array.astype(object) if array.dtype.kind not in "OSU" else array
    if array.dtype.kind == "c" and not dtype.is_complex:
        array = array.real  # NumPy would warn of what TensorFlow does silently
    with np.errstate(all="ignore"):
        return array.astype(dtype.as_numpy_dtype, copy=False)


def _as_bytes(array: np.ndarray, value: Any) -> np.ndarray:
    out = np.empty(array.shape, object)
    flat = out.reshape(-1)
    for place, item in enumerate(array.ravel().tolist()):
        if not isinstance(item, bytes | str):
            raise TypeError(f"cannot make a tensor of {value!r}: expected text or numbers of one kind, got {item!r}")
        flat[place] = item.encode() if isinstance(item, str) else item
    return out


def _filled(array: np.ndarray, sizes: Sequence[int], verify_shape: bool) -> np.ndarray:
    total = int(np.prod(sizes, dtype=np.int64))
    if verify_shape and array.shape != tuple(sizes):
        raise TypeError(f"Expected a tensor of shape {tuple(sizes)}, but got {array.shape}.")
    if array.size > total:
        raise ValueError(f"Too many elements provided. Takes at most {total}, but got {array.size}.")
    if 0 < array.size < total:
        flat = array.ravel()
        array = np.concatenate([flat, np.repeat(flat[-1:], total - array.size)])
    elif array.size < total:
        array = np.zeros(total, array.dtype) if array.dtype != object else _blank(total)
    return array.reshape(sizes)


def _blank(total: int) -> np.ndarray:
    out = np.empty(total, object)
    out[:] = b""
    return out
