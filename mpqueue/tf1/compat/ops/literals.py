"""Conversion of values to the arrays of graph constants, by the rules of ``tf.constant``.

The rules are as in `mpqueue.values.conversion`, with three exceptions of TensorFlow's graph mode: a shape can be
requested, lists must not contain arrays, and a NumPy boolean in a list is not a literal.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.values.conversion import infer_array
from mpqueue.values import conversion
from mpqueue.values.dtypes import as_dtype

_LABEL = "the value of a tensor"


def to_array(
    value: Any, dtype: DType | None = None, shape: Iterable[Any] | None = None, *, verify_shape: bool = False
) -> np.ndarray:
    """Return the array of a constant with the given value.

    Args:
        value: A scalar, a string, nested lists or tuples of these, or an array-like object.
        dtype: The requested type. If None, it is inferred from the value.
        shape: The requested shape. The last element of a shorter value is repeated to fill it.
        verify_shape: ``value`` must have exactly that shape.

    Returns:
        A new array, or a view of the given one; strings as an object array of ``bytes``.

    Raises:
        TypeError: The elements have another kind or mixed kinds, or the shape to verify is different.
        ValueError: The value is None, its lists have unequal lengths, or it has more elements than ``shape``.

    Follows: ``tf.constant``, ``tf.make_tensor_proto``.
    """
    sizes = None if shape is None else tuple(int(size) for size in shape)
    is_typed = conversion.is_array(value)
    if value is not None and not is_typed and sizes is not None and 0 in sizes:
        array = np.empty(sizes, np.float32 if dtype is None else dtype.as_numpy_dtype)
    else:
        array = _converted(value, dtype) if is_typed else _from_python(value, dtype)
    return array if sizes is None else _filled(array, sizes, verify_shape)


def leaves(value: Any) -> Iterator[Any]:
    """Yield the elements of nested lists, tuples and dicts."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def mapped(function: Callable[..., Any], structure: Any, *others: Any) -> Any:
    """Apply ``function`` to corresponding elements of nested structures, and return the results in the same nesting."""
    if isinstance(structure, list | tuple):
        items = [mapped(function, *each) for each in zip(structure, *others, strict=True)]
        return type(structure)(*items) if hasattr(structure, "_fields") else type(structure)(items)
    if isinstance(structure, Mapping):
        return {key: mapped(function, *(each[key] for each in (structure, *others))) for key in structure}
    return function(structure, *others)


def _converted(value: Any, dtype: DType | None) -> np.ndarray:
    if dtype is None:
        return infer_array(value, _LABEL)
    return conversion.to_array(value, as_dtype(dtype), _LABEL)


def _from_python(value: Any, dtype: DType | None) -> np.ndarray:
    if dtype is not None and any(isinstance(leaf, np.bool_) for leaf in leaves(value)):
        raise TypeError(f"Expected {dtype.name}, but {value!r} contains a NumPy boolean: convert it to an array.")
    if not isinstance(value, list | tuple | str | bytes | Mapping) and hasattr(value, "__getitem__"):
        raise ValueError(f"{value!r} is not a list: convert it to a list or an array")
    array = _converted(value, dtype)
    if list(array.shape) != _nesting(value):
        raise ValueError(f"Expected {value!r} to have shape {_nesting(value)}, got {list(array.shape)}")
    return array


def _nesting(value: Any) -> list[int]:
    if not isinstance(value, list | tuple):
        return []
    return [len(value), *_nesting(value[0])] if value else [0]


def blank(shape: tuple[int, ...], like: np.ndarray) -> np.ndarray:
    """Return zeros, or empty strings, of the type of ``like``."""
    return np.full(shape, b"", object) if like.dtype == object else np.zeros(shape, like.dtype)


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
        array = blank((total,), array)
    return array.reshape(sizes)
