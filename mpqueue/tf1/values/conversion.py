"""Conversion of values to arrays, by those rules of TensorFlow that only its own API needs.

`mpqueue.values.conversion.to_array` converts to a given dtype. `infer_array` chooses the dtype, and `feed_array`
converts the values that are fed in place of tensors, where literals are cast as arrays are.
"""

from typing import Any, NoReturn

import numpy as np

from mpqueue.errors import InvalidArgumentError
from mpqueue.values.conversion import Array, cast, is_array, to_array, to_text
from mpqueue.values.dtypes import TEXT_KINDS, DType, as_dtype

_INT32 = np.iinfo(np.int32)


def infer_array(value: Any, label: str, *, narrow: bool = True) -> Array:
    """Convert a value to an array of the dtype that TensorFlow gives it.

    Arrays keep their dtype. Python's integers become int32, or int64 where one does not fit, and its floats float32:
    NumPy alone would make them twice as wide.

    Args:
        value: An array, a literal or nested lists of literals.
        label: Names the value in errors.
        narrow: False keeps the width that NumPy gives to literals.

    Raises:
        ValueError: None, or ragged lists.
        TypeError: Neither numbers nor text, or both in one list.

    Follows: ``tf.constant`` without a dtype.
    """
    if value is None:
        raise ValueError(f"{label} is None: expected an array, or a list that makes one")
    is_typed = is_array(value)
    if not is_typed and isinstance(_first_leaf(value), str | bytes):
        return to_text(value, label)  # before NumPy decodes bytes beside text
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{label} makes no array: {error}") from error
    if array.dtype == object and not is_typed:
        raise TypeError(f"{label} is neither numbers nor text: {value!r:.200}")
    if array.dtype.kind in TEXT_KINDS:
        return to_text(value, label)
    as_dtype(array.dtype)
    return _narrowed(array) if narrow and not is_typed else array


def feed_array(value: Any, dtype: DType, label: str) -> Array:
    """Convert a value that replaces a tensor's; numbers are cast whatever they lose, but for a single integer.

    Args:
        value: An array, a literal or nested lists of literals.
        dtype: As `as_dtype` returns it.
        label: Names the value in errors.

    Raises:
        ValueError: Ragged lists, text that is no number, or None where text is expected.
        TypeError: Numbers where text is expected, no number at all, or a Python integer that does not fit the dtype.

    Follows: ``tf.Session.run``, which hands values to ``numpy.asarray``.
    """
    if isinstance(dtype, str):
        return to_array(value, dtype, label)
    try:
        array = cast(value, dtype, label)
    except OverflowError as error:
        raise TypeError(str(error)) from error
    if isinstance(value, int) and array != value:
        raise TypeError(f"{label} does not fit {dtype}: {value} would become {array}")
    return array


def invalid(message: str) -> NoReturn:
    """Refuse a value that is known only while running."""
    raise InvalidArgumentError(None, None, message)


def _first_leaf(value: Any) -> Any:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return value


def _narrowed(array: Array) -> Array:
    if array.dtype == np.int64 and (not array.size or (array.min() >= _INT32.min and array.max() <= _INT32.max)):
        return array.astype(np.int32)
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):  # beyond the range of float32 is infinity
            return array.astype(np.float32)
    return array
