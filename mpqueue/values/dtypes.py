"""Dtypes by name: NumPy's, and ``"string"`` for strings.

Strings are stored in an object array of ``bytes``. NumPy has several string dtypes, but none of them can hold bytes of
any length with trailing zeros. So all of them mean one dtype here, ``"string"``.
"""

from typing import Any, Final, TypeAlias

import numpy as np

STRING: Final = "string"
DType: TypeAlias = np.dtype[Any] | str  # the only str is STRING

TEXT_KINDS: Final = "OSUT"  # object, bytes, str, and NumPy 2's StringDType
_NUMBER_KINDS = "biufc"


def as_dtype(value: Any) -> DType:
    """Return the dtype that ``value`` names.

    Args:
        value: A NumPy dtype, its name, a scalar type such as ``np.float32`` or ``int``, ``"string"`` (``bytes``,
            ``str`` and ``object`` mean the same), or an object with ``as_numpy_dtype`` such as TensorFlow's dtypes.

    Returns:
        A `numpy.dtype` in native byte order, or ``"string"``.

    Raises:
        TypeError: The dtype does not exist, or is not a dtype of numbers, booleans or strings.

    Follows: ``tf.as_dtype``, except that ``float`` is NumPy's float64.
    """
    if isinstance(value, str) and value == STRING:
        return STRING
    dtype = _numpy_dtype(getattr(value, "as_numpy_dtype", value))
    if dtype.kind in TEXT_KINDS:
        return STRING
    # The float formats of ml_dtypes (bfloat16 and others) have kind V, like raw bytes and records, which are not
    # numbers and have the type np.void.
    if dtype.kind in _NUMBER_KINDS or (dtype.kind == "V" and dtype.type is not np.void):
        return np.dtype(dtype.type)  # in native byte order, and always the same object
    raise TypeError(f"{value!r} is not a supported dtype: expected a dtype of numbers, booleans or strings ('string')")


def _numpy_dtype(value: Any) -> np.dtype[Any]:
    try:
        # np.dtype(None) is float64; a missing dtype is an error.
        if value is not None:
            dtype: np.dtype[Any] = np.dtype(value)
            return dtype
    except (TypeError, ValueError, SyntaxError):  # the last one for an open bracket in a string
        pass
    raise TypeError(f"{value!r} is not a dtype: expected a NumPy dtype, its name, or 'string'")
