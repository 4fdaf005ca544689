"""Python functions as nodes."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from mpqueue.errors import (
    InternalError,
    InvalidArgumentError,
    OpError,
    OutOfRangeError,
    ResourceExhaustedError,
    UnimplementedError,
    UnknownError,
)
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.kernels import of_values
from mpqueue.tf1.compat.graph import convert_to_tensor, custom
from mpqueue.tf1.compat.graph.run import owned
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype, string
from mpqueue.tf1.compat.ops.infer import invalid
from mpqueue.tf1.compat.ops.literals import to_array

_ERRORS: Final[tuple[tuple[type[BaseException], Callable[[None, None, str], OpError]], ...]] = (
    (StopIteration, OutOfRangeError),
    (MemoryError, ResourceExhaustedError),
    (NotImplementedError, UnimplementedError),
    (ValueError, InvalidArgumentError),
    (TypeError, InvalidArgumentError),
)
"""The errors that exceptions of the function become; any other is an `UnknownError`."""


@public("py_func(...)")
def py_func(
    func: Callable[..., Any], inp: Sequence[Any], Tout: Any, stateful: bool = True, name: str | None = None
) -> Any:
    """A node that calls a Python function.

    Args:
        func: Is given arrays that it may write into (object arrays for text), NumPy scalars for scalars and ``bytes``
            for scalar text; gives what has the promised types exactly: 1 is int64, 1.5 is float64.
        inp: Its arguments, a list of tensors.
        Tout: The type of its result, or a list of types.
        stateful: It may give another result at the same arguments, or be seen to have been called. If False, it may be
            called in worker processes, see `use_processes`.

    Returns: A tensor of unknown rank, or a list of them if ``Tout`` is a list; an operation for an empty list.

    Raises:
        ValueError: ``func`` is no function.

    While running, ValueError and TypeError inside the function, and results of other types or another number than
    promised, become `InvalidArgumentError`; StopIteration `OutOfRangeError`; MemoryError `ResourceExhaustedError`;
    NotImplementedError `UnimplementedError`; anything else, errors of this package too, `UnknownError`. The original
    exception is the cause.
    """
    if not callable(func):
        raise ValueError(f"func must be a function, got {func!r}")  # noqa: TRY004 - as TensorFlow
    several = isinstance(Tout, list | tuple)
    kinds = [as_dtype(each) for each in (Tout if several else [Tout])]
    inputs = [convert_to_tensor(each) for each in inp]
    kernel = of_values(lambda *values: _results(func, _called(func, values), kinds))
    made = custom("PyFunc", inputs, [(kind, None) for kind in kinds], kernel, name=name, bound=stateful)
    return made if not made.outputs else list(made.outputs) if several else made.outputs[0]


def _called(func: Callable[..., Any], values: Sequence[np.ndarray]) -> Any:
    try:
        # A function may write into its arguments: constants and what is fed are copied.
        return func(*(owned(each)[()] for each in values))
    except Exception as error:
        table = () if isinstance(error, OpError) else _ERRORS
        kind = next((ours for theirs, ours in table if isinstance(error, theirs)), UnknownError)
        raise kind(None, None, f"{type(error).__name__}: {error}, raised by {_name(func)}") from error


def _name(func: Callable[..., Any]) -> str:
    return getattr(func, "__qualname__", repr(func))


def _results(func: Callable[..., Any], result: Any, kinds: list[DType]) -> list[np.ndarray]:
    items = result if isinstance(result, list | tuple) else [] if result is None else [result]
    if len(items) != len(kinds):
        invalid(f"{_name(func)} was to return {len(kinds)} values, got {result!r}")
    return [_checked(func, item, kind) for item, kind in zip(items, kinds, strict=True)]


def _checked(func: Callable[..., Any], value: Any, kind: DType) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=object if isinstance(value, bytes | str) else None)
        own = as_dtype(array.dtype)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(None, None, f"{_name(func)} returned {value!r}: {error}") from error
    if own is string:
        array = _text(func, array)
    if own is not kind:
        invalid(f"{_name(func)} returned {own.name}, but {kind.name} was promised")
    return array if array is not value else array.copy()  # the function may go on writing into its array


def _text(func: Callable[..., Any], array: np.ndarray) -> np.ndarray:
    try:
        return to_array(array)
    except TypeError as error:
        raise InternalError(None, None, f"{_name(func)} returned unsupported objects: {error}") from error
