"""Values as callers have them, converted to an array of a component's dtype by TensorFlow's rules.

Three kinds of values, three rules:

* An array (anything that knows its dtype) is cast without a word, as NumPy's ``astype`` does: 2.7 becomes 2, too big
  an integer wraps. It has been typed before, and TensorFlow trusts it.
* A literal (Python numbers and text, in lists or alone) must fit in kind: 2.0 is no integer, 1 is no boolean.
* Text is UTF-8; only text becomes text.
"""

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.values.dtypes import STRING, DType

Array = NDArray[Any]

_LITERALS: dict[str, tuple[type, ...]] = {
    "b": (bool, np.bool_),
    "i": (numbers.Integral, np.bool_),
    "u": (numbers.Integral, np.bool_),
    "f": (numbers.Real, np.bool_),
    "V": (numbers.Real, np.bool_),  # bfloat16 and its kin
    "c": (numbers.Complex, np.bool_),
}
_ARRAY_KINDS = {"b": "b", "i": "biu", "u": "biu", "f": "biufV", "V": "biufV", "c": "biufVc"}


def to_array(value: Any, dtype: DType, label: str) -> Array:
    """``value`` as an array of ``dtype``; it may share memory with ``value``.

    Args:
        value: An array, a literal or nested lists of literals.
        dtype: As `as_dtype` gives it.
        label: What the value is for, said in errors.

    Raises:
        ValueError: None, ragged lists, or text in an array that is no number.
        TypeError: A literal of another kind: text for a number, 2.0 for an integer, a number for text.
        OverflowError: A Python integer that no number of the machine holds.
    """
    if type(value) is np.ndarray and value.dtype is dtype:
        return value
    if value is None:
        raise ValueError(f"{label} is None: expected a value of dtype {dtype}")
    try:
        return _to_text(value, label) if isinstance(dtype, str) else _to_numbers(value, dtype, label)
    except OverflowError as error:
        raise OverflowError(f"{label} does not fit {dtype}: {error}") from error


def _to_numbers(value: Any, dtype: np.dtype[Any], label: str) -> Array:
    if isinstance(value, np.ndarray) and value.dtype == dtype:
        return np.asarray(value)
    if not _knows_its_dtype(value):
        _check_literals(value, dtype, label)
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fcVO":
            return array.astype(dtype, copy=False)
        with np.errstate(all="ignore"):  # too big, not a number: NumPy would warn
            return array.astype(dtype, copy=False)
    except TypeError as error:
        raise TypeError(f"{label} cannot become {dtype}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{label} cannot become {dtype}: {error}") from error


def _to_text(value: Any, label: str) -> Array:
    """Always a new array."""
    # np.bytes_ knows its dtype, but would lose trailing zeros as an array.
    if isinstance(value, str | bytes) or not _knows_its_dtype(value):
        _check_literals(value, STRING, label)
        value = np.array(value, dtype=object)
    array = np.asarray(value)
    items = array.reshape(-1).tolist()
    if array.dtype == object and set(map(type, items)) == {bytes}:
        return array.copy()
    out = np.empty(array.shape, dtype=object)
    # Item by item: assigned as a list, bytes would pass through NumPy's own text, which drops trailing zeros.
    flat = out.reshape(-1)
    for place, item in enumerate(items):
        flat[place] = _as_bytes(item, label)
    return out


def _knows_its_dtype(value: Any) -> bool:
    return hasattr(value, "__array__") or hasattr(value, "__array_interface__") or isinstance(value, memoryview)


def _check_literals(value: Any, dtype: DType, label: str) -> None:
    if isinstance(value, list | tuple | range):
        for item in value:
            _check_literals(item, dtype, label)
    elif not _fits(value, dtype):
        raise TypeError(f"{label} is to be {dtype}, but holds {value!r} of type {type(value).__name__!r}")


def _fits(leaf: Any, dtype: DType) -> bool:
    if isinstance(dtype, str):
        return isinstance(leaf, str | bytes) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OSUT")
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind in _ARRAY_KINDS[dtype.kind]
    return isinstance(leaf, _LITERALS[dtype.kind])


def _as_bytes(item: Any, label: str) -> bytes:
    if isinstance(item, bytes):
        return bytes(item)
    if isinstance(item, str):
        return item.encode("utf-8")
    if isinstance(item, list | tuple):
        raise ValueError(f"{label} has rows of different lengths")  # noqa: TRY004 - as for ragged numbers
    raise TypeError(f"{label} is to be text, but holds {item!r} of type {type(item).__name__!r}")
