"""Conversion of Python values to arrays, by TensorFlow's rules.

Two kinds of values have different rules:

* An *array* is any object with a dtype. TensorFlow casts it without a warning: 2.7 becomes 2, an integer out of range
  wraps, a complex number keeps its real part.
* A *literal* is a Python number or string, alone or in lists. Its kind must match the dtype: 2.0 is not an integer, and
  1 is not a boolean.

Strings become an object array of ``bytes`` in UTF-8, because NumPy's string dtypes drop trailing zero bytes.

`to_array` converts a value to a given dtype. `mpqueue.tf1.values.conversion` has the other rules of TensorFlow.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.values.dtypes import STRING, TEXT_KINDS, DType

Array = np.ndarray[Any, Any]

_LITERALS: dict[str, tuple[type, ...]] = {
    "b": (bool, np.bool_),
    "i": (numbers.Integral, np.bool_),
    "u": (numbers.Integral, np.bool_),
    "f": (numbers.Real, np.bool_),
    "V": (numbers.Real, np.bool_),  # bfloat16 and the other formats of ml_dtypes
    "c": (numbers.Complex, np.bool_),
}
_ARRAY_KINDS = {"b": "b", "i": "biu", "u": "biu", "f": "biufV", "V": "biufV", "c": "biufVc"}
_PLAIN = frozenset({bool, int, float, complex, str, bytes, list, tuple, range, type(None)})


def to_array(value: Any, dtype: DType, label: str) -> Array:
    """Convert a value to an array of a given dtype; the array may share memory with the value.

    Args:
        value: An array, a literal or nested lists of literals.
        dtype: A dtype returned by `as_dtype`.
        label: Name of the value in errors.

    Raises:
        ValueError: The value is None, ragged lists, or an array with a string that is not a number.
        TypeError: A literal has another kind: a string for a number, 2.0 for an integer, a number for a string.
        OverflowError: A Python integer is out of the range of every integer dtype.

    Follows: ``tf.constant`` with a dtype, in eager mode.
    """
    # `as_dtype` and NumPy return one object for each dtype, so that most values in a pipeline end here.
    if type(value) is np.ndarray and value.dtype is dtype:
        return value
    if value is None:
        raise ValueError(f"{label} is None: expected a value of dtype {dtype}")
    if isinstance(dtype, str):
        return to_text(value, label)
    if not is_array(value):
        _check_literals(value, dtype, label)
    return cast(value, dtype, label)


def is_array(value: Any) -> bool:
    """Return True if a value has a dtype, so that NumPy converts it without inspecting its items."""
    if type(value) in _PLAIN:
        return False
    if callable(getattr(value, "__array__", None)) or isinstance(getattr(value, "__array_interface__", None), dict):
        return True
    return isinstance(value, bytearray | memoryview)


def cast(value: Any, dtype: np.dtype[Any], label: str) -> Array:
    """Cast a value as ``astype`` does, without a warning; raises the errors of `to_array`."""
    try:
        array = np.asarray(value)
        kind = array.dtype.kind
        # Only these kinds can warn, and suppressing warnings takes longer than casting a small array.
        if kind not in "fcVO":
            return array.astype(dtype, copy=False)
        if kind == "c" and dtype.kind != "c":
            array = array.real  # NumPy would warn that the imaginary part is lost
        with np.errstate(all="ignore"):  # NumPy would warn of numbers that are too large, and of nan
            return array.astype(dtype, copy=False)
    except OverflowError as error:
        raise OverflowError(f"{label} does not fit {dtype}: {error}") from error
    except TypeError as error:
        raise TypeError(f"{label} cannot become {dtype}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{label} cannot become {dtype}: {error}") from error


def text_array(items: Sequence[bytes]) -> Array:
    """Return a vector of these bytes, unchanged: NumPy's string dtypes would drop trailing zero bytes."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def to_text(value: Any, label: str) -> Array:
    """Return a new object array of bytes."""
    # np.bytes_ has a dtype, but would lose trailing zeros as an array.
    if isinstance(value, str | bytes) or not is_array(value):
        _check_literals(value, STRING, label)
        value = np.array(value, dtype=object)
    array = np.asarray(value)
    items = array.reshape(-1).tolist()
    if array.dtype == object and set(map(type, items)) == {bytes}:
        return array.copy()
    out = np.empty(array.shape, dtype=object)
    # Item by item: assigning a list would convert bytes to NumPy's string dtype, which drops trailing zeros.
    flat = out.reshape(-1)
    for position, item in enumerate(items):
        flat[position] = _as_bytes(item, label)
    return out


def _check_literals(value: Any, dtype: DType, label: str) -> None:
    if isinstance(value, list | tuple | range):
        for item in value:
            _check_literals(item, dtype, label)
    elif not _fits(value, dtype):
        raise TypeError(f"{label} must be of dtype {dtype}, got {value!r} of type {type(value).__name__!r}")


def _fits(leaf: Any, dtype: DType) -> bool:
    if isinstance(dtype, str):
        return isinstance(leaf, str | bytes) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind in TEXT_KINDS)
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind in _ARRAY_KINDS[dtype.kind]
    if isinstance(leaf, _LITERALS[dtype.kind]):
        return True
    # For objects such as TensorFlow's Dimension. Arrays have the method, too, for every dtype.
    return dtype.kind in "iu" and hasattr(leaf, "__index__") and not is_array(leaf)


def _as_bytes(item: Any, label: str) -> bytes:
    if isinstance(item, bytes):
        return bytes(item)
    if isinstance(item, str):
        return item.encode("utf-8")
    if isinstance(item, list | tuple):
        raise ValueError(f"{label} has rows of different lengths")  # noqa: TRY004 - as for ragged numbers
    raise TypeError(f"{label} must be of dtype string, got {item!r} of type {type(item).__name__!r}")
