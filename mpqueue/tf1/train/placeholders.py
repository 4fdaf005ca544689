"""Named inputs, and `run`, which calls things with values for them.

A placeholder is a `Source` without a value of its own. `run` feeds it a value for the time and the thread of its call:
whatever is called meanwhile (an enqueue op, a source made by ``map``, a function that calls the placeholder) gets that
value. Values are converted as by TensorFlow's ``Session.run``, which casts arrays without a warning.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.train.arrays import as_constant
from mpqueue.tf1.values.conversion import feed_array
from mpqueue.tf1.values.shapes import is_compatible
from mpqueue.values.dtypes import DType, as_dtype
from mpqueue.values.shapes import Shape, as_shape
from mpqueue.values.sparse import SparseTensorValue

_fed: ContextVar[Mapping[int, Any]] = ContextVar("mpqueue_fed", default=MappingProxyType({}))


class Placeholder(Source):
    """A value that `run` must be fed; made by `placeholder` and `placeholder_with_default`.

    Attributes:
        dtype: NumPy dtype, or "string".
        shape: Static shape; None in it is an unknown dimension, None alone an unknown rank.
        name: The name that was given, or "Placeholder".
    """

    def __init__(self, dtype: Any, shape: Any, name: str | None, default: Callable[[], Any] | None = None) -> None:
        self.dtype: DType = as_dtype(dtype)
        self.shape: Shape = as_shape(shape)
        self.name = name or "Placeholder"
        self._default = default
        super().__init__(self._value, self.dtype, [self.shape])

    def check(self, value: Any) -> NDArray[Any]:
        """Return the array that ``value`` would be fed as: of this dtype, and checked against this shape.

        Raises:
            TypeError: Text and numbers are mixed up, or a single Python integer does not fit the dtype.
            ValueError: The shape disagrees, rows have different lengths, or text is no number.
        """
        array = feed_array(value, self.dtype, repr(self.name))
        if not is_compatible(array.shape, self.shape):
            raise ValueError(f"{self.name!r} has the shape {self.shape}, cannot feed it an array of {array.shape}")
        return array

    def _value(self) -> Any:
        fed = _fed.get()
        if id(self) in fed:
            return fed[id(self)]
        if self._default is None:
            raise InvalidArgumentError(
                None, None, f"{self.name!r} must be fed: run(..., feed_dict={{placeholder: value of {self.dtype}}})"
            )
        return self._default()

    def __repr__(self) -> str:
        return f"<Placeholder {self.name!r}: {self.dtype}, shape {self.shape}>"


class SparsePlaceholder:
    """A sparse value that `run` must be fed; made by `sparse_placeholder`.

    Attributes:
        dtype: NumPy dtype of the values, or "string".
        shape: Static dense shape; None if nothing is known of it.
        name: The name that was given, or "SparsePlaceholder".
    """

    def __init__(self, dtype: Any, shape: Any, name: str | None) -> None:
        self.dtype: DType = as_dtype(dtype)
        self.shape: Shape = as_shape(shape)
        self.name = name or "SparsePlaceholder"

    def check(self, value: Any) -> SparseTensorValue:
        """Return the triple that ``value`` would be fed as; its three arrays need not agree.

        Args:
            value: A `SparseTensorValue`, or ``(indices, values, dense_shape)``.

        Raises:
            TypeError: It is no such triple, or text and numbers are mixed up.
            ValueError: An array has the wrong rank.
        """
        if not isinstance(value, tuple | list) or len(value) != 3:
            raise TypeError(f"{self.name!r} takes a SparseTensorValue, or (indices, values, shape), got {value!r:.80}")
        rank = None if self.shape is None else len(self.shape)
        parts = (
            ("indices", np.int64, (None, rank)),
            ("values", self.dtype, (None,)),
            ("dense_shape", np.int64, (rank,)),
        )
        arrays = [
            Placeholder(dtype, shape, f"{self.name}/{part}").check(given)
            for (part, dtype, shape), given in zip(parts, value, strict=True)
        ]
        return SparseTensorValue(*arrays)

    def __call__(self) -> SparseTensorValue:
        """Return the value that was fed.

        Raises:
            InvalidArgumentError: None was.
        """
        fed = _fed.get()
        if id(self) not in fed:
            text = f"{self.name!r} must be fed: run(..., feed_dict={{placeholder: (indices, values, shape)}})"
            raise InvalidArgumentError(None, None, text)
        value: SparseTensorValue = fed[id(self)]
        return value

    def __repr__(self) -> str:
        return f"<SparsePlaceholder {self.name!r}: {self.dtype}, shape {self.shape}>"


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Placeholder:
    """Return a named input that `run` must be fed a value for.

    Example:
        A value that each run is given::

            import mpqueue

            factor = mpqueue.train.placeholder("float32", [])
            double = mpqueue.train.Source(lambda: 2 * factor(), "float32", [()])
            assert mpqueue.train.run(double, {factor: 4.0}) == 8

    Args:
        dtype: NumPy dtype, or "string".
        shape: The shape of the value; None in it lets a dimension vary, None alone all of it.
        name: Used in errors.

    Returns:
        A `Source` of that value, for `enqueue_op`, for ``map``, and to be called.

    Raises:
        TypeError: ``dtype`` or ``shape`` is none.
        ValueError: A dimension is negative.

    Follows: ``tf.compat.v1.placeholder``.
    """
    return Placeholder(dtype, shape, name)


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Placeholder:
    """Return a named input that has a value when `run` is fed none.

    Args:
        input: The value, an array or a list that makes one; or a `Source` of one array, called only if nothing is fed.
        shape: The shape of a fed value, see `placeholder`.
        name: Used in errors.

    Raises:
        TypeError: ``input`` is no array, or ``shape`` is none.
        ValueError: ``input`` does not fit ``shape``, or its dtype is not known.

    Follows: ``tf.compat.v1.placeholder_with_default``.
    """
    label = name or "PlaceholderWithDefault"
    if isinstance(input, Source):
        if input.dtypes is None or input.shapes is None or len(input.dtypes) != 1:
            raise ValueError(
                f"the default of {label!r} must be a source of one array with a known dtype, got {input!r}"
            )
        dtype, default_shape = input.dtypes[0], input.shapes[0]
        default: Callable[[], Any] = input
    else:
        array = as_constant(input, label)
        dtype, default_shape, default = array.dtype, array.shape, array.copy
    made = Placeholder(dtype, shape, label, default)
    if not is_compatible(default_shape, made.shape):
        raise ValueError(f"the default of {label!r} has the shape {default_shape}, which does not fit {made.shape}")
    return made


def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparsePlaceholder:
    """Return a named input that `run` must be fed a sparse value for.

    Args:
        dtype: NumPy dtype of the values, or "string".
        shape: The dense shape. As in TensorFlow, only its rank is checked when a value is fed.
        name: Used in errors.

    Raises:
        TypeError: ``dtype`` or ``shape`` is none.
        ValueError: A dimension is negative.

    Follows: ``tf.compat.v1.sparse_placeholder``.
    """
    return SparsePlaceholder(dtype, shape, name)


def run(fetches: Any, feed_dict: Mapping[Any, Any] | None = None) -> Any:
    """Call ``fetches`` with values for placeholders, and return the results.

    Args:
        fetches: A callable without arguments (a placeholder, a `Source`, an enqueue op, ``queue.dequeue``), or a
            structure of lists, tuples and dicts of callables. One that occurs twice is called once.
        feed_dict: Placeholders and their values, see `Placeholder.check`.

    Returns:
        The results in the same structure.

    Raises:
        TypeError: Something in ``fetches`` is not callable, or a key of ``feed_dict`` no placeholder.
        ValueError: A value does not fit its placeholder.
        InvalidArgumentError: A placeholder that is called has no value.
        Exception: Errors of the functions that are called.

    Follows: ``tf.compat.v1.Session.run``.
    """
    with _feeding(feed_dict or {}):
        return _fetched(fetches, {})


@contextmanager
def _feeding(feed_dict: Mapping[Any, Any]) -> Iterator[None]:
    values = dict(_fed.get())
    for key, value in feed_dict.items():
        if not isinstance(key, Placeholder | SparsePlaceholder):
            raise TypeError(f"the keys of feed_dict are placeholders, got {key!r}")
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
        raise TypeError(f"run takes callables, and cannot call {fetches!r}")
    if id(fetches) not in known:
        known[id(fetches)] = fetches()
    return known[id(fetches)]
