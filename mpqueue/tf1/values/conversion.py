"""Conversion of values to arrays, by rules that only the TensorFlow API needs.

`mpqueue.values.conversion.to_array` converts to a known dtype. `infer_array` chooses the dtype. `feed_array` converts
values that are fed in place of tensors, where literals are cast like arrays.
"""

from typing import Any, NoReturn

import numpy as np

from mpqueue.errors import InvalidArgumentError
from mpqueue.values.conversion import Array, cast, is_array, to_array, to_text
from mpqueue.values.dtypes import TEXT_KINDS, DType, as_dtype

_INT32 = np.iinfo(np.int32)


def infer_array(value: Any, label: str, *, narrow: bool = True) -> Array:
    """Convert a value to an array of the dtype that TensorFlow chooses.

    Arrays keep their dtype. Python integers become int32, or int64 if one does not fit, and Python floats become
    float32. NumPy alone would make them twice as wide.

    Args:
        value: An array, a literal or nested lists of literals.
        label: Name of the value for error messages.
        narrow: False keeps NumPy's width of literals.

    Raises:
        ValueError: The value is None or a ragged list.
        TypeError: The value is neither numeric nor a string, or mixes both.

    Follows: ``tf.constant`` without a dtype.
    """
    if value is None:
        raise ValueError(f"{label} must be an array or a list, got None.")
    is_typed = is_array(value)
    if not is_typed and isinstance(_first_leaf(value), str | bytes):
        return to_text(value, label)  # NumPy would decode bytes that are in a list with strings
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{label} cannot be converted to an array: {error}") from error
    if array.dtype == object and not is_typed:
        raise TypeError(f"{label} must be numeric or a string, got {value!r:.200}.")
    if array.dtype.kind in TEXT_KINDS:
        return to_text(value, label)
    as_dtype(array.dtype)
    return _narrowed(array) if narrow and not is_typed else array


def feed_array(value: Any, dtype: DType, label: str) -> Array:
    """Convert a value that replaces a tensor. Numbers are cast even if they lose precision, except a single integer.

    Args:
        value: An array, a literal or nested lists of literals.
        dtype: A dtype as returned by `as_dtype`.
        label: Name of the value for error messages.

    Raises:
        ValueError: A list is ragged, a string is not a number, or None was passed for a string.
        TypeError: A number was passed for a string, the value is not numeric, or a Python integer does not fit.

    Follows: ``tf.Session.run``, which passes values to ``numpy.asarray``.
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
    """Raise `InvalidArgumentError` for a value that is only known at run time."""
    raise InvalidArgumentError(None, None, message)


def _first_leaf(value: Any) -> Any:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return value


def _narrowed(array: Array) -> Array:
    if array.dtype == np.int64 and (not array.size or (array.min() >= _INT32.min and array.max() <= _INT32.max)):
        return array.astype(np.int32)
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):  # values beyond the range of float32 become infinity
            return array.astype(np.float32)
    return array
