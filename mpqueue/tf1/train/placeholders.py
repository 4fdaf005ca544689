"""Placeholders, which are named inputs, and `run`, which calls functions with values for them.

A placeholder is a `Source` without a value. `run` feeds it a value for the duration and the thread of its call: an
enqueue op, a source derived by ``map``, or a function that calls the placeholder gets that value. Values are converted
as in TensorFlow's ``Session.run``, which casts arrays without a warning.
"""

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.system.signals.contexts import context_manager
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.train.arrays import as_constant
from mpqueue.tf1.values.conversion import feed_array, invalid
from mpqueue.tf1.values.shapes import is_compatible
from mpqueue.values.dtypes import DType, as_dtype
from mpqueue.values.shapes import Shape, as_shape
from mpqueue.values.sparse import SparseTensorValue

_fed: ContextVar[Mapping[int, Any]] = ContextVar("mpqueue_fed", default=MappingProxyType({}))


class Placeholder(Source):
    """A value that must be fed by `run`; created by `placeholder` and `placeholder_with_default`.

    Attributes:
        dtype: NumPy dtype, or "string".
        shape: Static shape. None for a dimension means that it is unknown; None for the shape, that the rank is
            unknown.
        name: The name passed to the constructor, or "Placeholder".
    """

    def __init__(self, dtype: Any, shape: Any, name: str | None, default: Callable[[], Any] | None = None) -> None:
        self.dtype: DType = as_dtype(dtype)
        self.shape: Shape = as_shape(shape)
        self.name = name or "Placeholder"
        self._default = default
        super().__init__(self._value, self.dtype, [self.shape])

    def check(self, value: Any) -> NDArray[Any]:
        """Convert a value to the array to feed, with the placeholder's dtype and a compatible shape.

        Raises:
            TypeError: Strings and numbers are mixed, or a single Python integer is out of the range of the dtype.
            ValueError: The shape is incompatible, rows have different lengths, or a string is not a number.
        """
        array = feed_array(value, self.dtype, repr(self.name))
        if not is_compatible(array.shape, self.shape):
            raise ValueError(f"{self.name!r} must be fed an array of shape {self.shape}, got shape {array.shape}")
        return array

    def _value(self) -> Any:
        fed = _fed.get()
        if id(self) in fed:
            return fed[id(self)]
        if self._default is None:
            invalid(f"{self.name!r} must be fed: run(..., feed_dict={{placeholder: value of {self.dtype}}})")
        return self._default()

    def __repr__(self) -> str:
        return f"<Placeholder {self.name!r}: {self.dtype}, shape {self.shape}>"


class SparsePlaceholder:
    """A sparse value that must be fed by `run`; created by `sparse_placeholder`.

    Attributes:
        dtype: NumPy dtype of the values, or "string".
        shape: Static dense shape, or None if unknown.
        name: The name passed to the constructor, or "SparsePlaceholder".
    """

    def __init__(self, dtype: Any, shape: Any, name: str | None) -> None:
        self.dtype: DType = as_dtype(dtype)
        self.shape: Shape = as_shape(shape)
        self.name = name or "SparsePlaceholder"

    def check(self, value: Any) -> SparseTensorValue:
        """Convert a value to the sparse value to feed; its three arrays are not checked against each other.

        Args:
            value: A `SparseTensorValue`, or ``(indices, values, dense_shape)``.

        Raises:
            TypeError: The value is not such a tuple, or strings and numbers are mixed.
            ValueError: An array has the wrong rank.
        """
        if not isinstance(value, tuple | list) or len(value) != 3:
            raise TypeError(
                f"{self.name!r} must be fed a SparseTensorValue or (indices, values, shape), got {value!r:.80}"
            )
        rank = None if self.shape is None else len(self.shape)
        parts = (
            ("indices", np.int64, (None, rank)),
            ("values", self.dtype, (None,)),
            ("dense_shape", np.int64, (rank,)),
        )
        arrays = [
            Placeholder(dtype, shape, f"{self.name}/{part}").check(item)
            for (part, dtype, shape), item in zip(parts, value, strict=True)
        ]
        return SparseTensorValue(*arrays)

    def __call__(self) -> SparseTensorValue:
        """Return the fed value.

        Raises:
            InvalidArgumentError: No value is fed.
        """
        fed = _fed.get()
        if id(self) not in fed:
            problem = f"{self.name!r} must be fed: run(..., feed_dict={{placeholder: (indices, values, shape)}})"
            invalid(problem)
        value: SparseTensorValue = fed[id(self)]
        return value

    def __repr__(self) -> str:
        return f"<SparsePlaceholder {self.name!r}: {self.dtype}, shape {self.shape}>"


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Placeholder:
    """Return a named input that must be fed a value by `run`.

    Example:
        A value that is fed in each run::

            import mpqueue

            factor = mpqueue.train.placeholder("float32", [])
            double = mpqueue.train.Source(lambda: 2 * factor(), "float32", [()])
            assert mpqueue.train.run(double, {factor: 4.0}) == 8

    Args:
        dtype: NumPy dtype, or "string".
        shape: The shape of the value. None for a dimension accepts any size; None accepts any shape.
        name: Used in error messages.

    Returns:
        A `Source` of that value, which can be passed to `enqueue_op`, used with ``map``, and called.

    Raises:
        TypeError: ``dtype`` is not a dtype, or ``shape`` is not a shape.
        ValueError: A dimension is negative.

    Follows: ``tf.compat.v1.placeholder``.
    """
    return Placeholder(dtype, shape, name)


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Placeholder:
    """Return a named input with a default value, which is used if `run` does not feed a value.

    Args:
        input: The default value: an array, a list that can be converted to one, or a `Source` of one array, which is
            called only if no value is fed.
        shape: The shape of a fed value, see `placeholder`.
        name: Used in error messages.

    Raises:
        TypeError: ``input`` is not an array, or ``shape`` is not a shape.
        ValueError: ``input`` is incompatible with ``shape``, or its dtype is unknown.

    Follows: ``tf.compat.v1.placeholder_with_default``.
    """
    label = name or "PlaceholderWithDefault"
    if isinstance(input, Source):
        if input.dtypes is None or input.shapes is None or len(input.dtypes) != 1:
            raise ValueError(
                f"The default of {label!r} must be a source of one array with a known dtype, got {input!r}"
            )
        dtype, default_shape = input.dtypes[0], input.shapes[0]
        default: Callable[[], Any] = input
    else:
        array = as_constant(input, label)
        dtype, default_shape, default = array.dtype, array.shape, array.copy
    made = Placeholder(dtype, shape, label, default)
    if not is_compatible(default_shape, made.shape):
        raise ValueError(f"The default of {label!r} must have shape {made.shape}, got {default_shape}")
    return made


def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparsePlaceholder:
    """Return a named input that must be fed a sparse value by `run`.

    Args:
        dtype: NumPy dtype of the values, or "string".
        shape: The dense shape. As in TensorFlow, only its rank is checked when a value is fed.
        name: Used in error messages.

    Raises:
        TypeError: ``dtype`` is not a dtype, or ``shape`` is not a shape.
        ValueError: A dimension is negative.

    Follows: ``tf.compat.v1.sparse_placeholder``.
    """
    return SparsePlaceholder(dtype, shape, name)


def run(fetches: Any, feed_dict: Mapping[Any, Any] | None = None) -> Any:
    """Call ``fetches`` with values for placeholders, and return the results.

    Args:
        fetches: A callable without arguments (a placeholder, a `Source`, an enqueue op, ``queue.dequeue``), or nested
            lists, tuples and dicts of callables. A callable that occurs twice is called once.
        feed_dict: Placeholders and their values, see `Placeholder.check`.

    Returns:
        The results in the structure of ``fetches``.

    Raises:
        TypeError: An entry of ``fetches`` is not callable, ``feed_dict`` is not a dict, or one of its keys is not a
            placeholder.
        ValueError: A value is incompatible with its placeholder.
        InvalidArgumentError: A placeholder without a value is called.
        Exception: Errors of the called functions.

    Follows: ``tf.compat.v1.Session.run``.
    """
    with _feeding(feed_dict or {}):
        return _fetched(fetches, {})


@context_manager
def _feeding(feed_dict: Mapping[Any, Any]) -> Iterator[None]:
    if not isinstance(feed_dict, Mapping):
        raise TypeError(f"feed_dict must be a dict of placeholders and values, got {feed_dict!r}")
    values = dict(_fed.get())
    for key, value in feed_dict.items():
        if not isinstance(key, Placeholder | SparsePlaceholder):
            raise TypeError(f"The keys of feed_dict must be placeholders, got {key!r}")
        values[id(key)] = key.check(value)
    token = _fed.set(values)
    try:
        yield
    finally:
        _fed.reset(token)


def _fetched(fetches: Any, known: dict[int, Any]) -> Any:
    if isinstance(fetches, dict):
        return {key: _fetched(item, known) for key, item in fetches.items()}
    if isinstance(fetches, list | tuple):
        items = [_fetched(item, known) for item in fetches]
        return type(fetches)(*items) if hasattr(fetches, "_fields") else type(fetches)(items)
    if not callable(fetches):
        raise TypeError(f"fetches must be callable, got {fetches!r}")
    if id(fetches) not in known:
        known[id(fetches)] = fetches()
    return known[id(fetches)]
