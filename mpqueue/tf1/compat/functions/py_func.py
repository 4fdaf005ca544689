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
from mpqueue.system.signals.exceptions import matches
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.exception_texts import text_of
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.kernels import of_values
from mpqueue.tf1.compat.graph import convert_to_tensor, custom
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
"""The errors that exceptions of the function are converted to; others become an `UnknownError`."""


@public("py_func(...)")
def py_func(
    func: Callable[..., Any], inp: Sequence[Any], Tout: Any, stateful: bool = True, name: str | None = None
) -> Any:
    """Create a node that calls a Python function.

    Args:
        func: Receives arrays that it may modify (object arrays for strings), NumPy scalars for scalars and ``bytes``
            for scalar strings. The results must have exactly the types in ``Tout``: 1 is int64, 1.5 is float64.
        inp: List of tensors, the arguments of the function.
        Tout: The type of the result, or a list of types.
        stateful: Whether the function can return different results for the same arguments, or has side effects. If
            False, it may be called in worker processes, see `use_processes`.

    Returns: A tensor of unknown rank, or a list of tensors if ``Tout`` is a list; an operation for an empty list.

    Raises:
        ValueError: ``func`` is not callable.

    When run, exceptions of the function are converted: ValueError and TypeError to `InvalidArgumentError`,
    StopIteration to `OutOfRangeError`, MemoryError to `ResourceExhaustedError`, NotImplementedError to
    `UnimplementedError`, and all others, including errors of this package, to `UnknownError`. The original exception
    is the cause. Results that differ from ``Tout`` in types or number raise `InvalidArgumentError`.
    """
    if not callable(func):
        raise ValueError(f"func must be callable, got {func!r}")  # noqa: TRY004 - as in TensorFlow
    several = isinstance(Tout, list | tuple)
    kinds = [as_dtype(each) for each in (Tout if several else [Tout])]
    inputs = [convert_to_tensor(each) for each in inp]
    kernel = of_values(lambda *values: _results(func, _called(func, values), kinds))
    made = custom("PyFunc", inputs, [(kind, None) for kind in kinds], kernel, name=name, bound=stateful)
    return made if not made.outputs else list(made.outputs) if several else made.outputs[0]


def _called(func: Callable[..., Any], values: Sequence[np.ndarray]) -> Any:
    try:
        # Copies: the function may modify its arguments, and other nodes of the run read the same arrays.
        return func(*(np.array(each)[()] for each in values))
    except Exception as error:
        if is_interrupt(error):  # a time limit of the user is not an error of the function
            raise
        table = () if matches(error, OpError) else _ERRORS
        kind = next((ours for theirs, ours in table if matches(error, theirs)), UnknownError)
        raise kind(None, None, f"{type(error).__name__}: {text_of(error)}, raised by {_name(func)}") from error


def _name(func: Callable[..., Any]) -> str:
    return getattr(func, "__qualname__", repr(func))


def _results(func: Callable[..., Any], result: Any, kinds: list[DType]) -> list[np.ndarray]:
    items = result if isinstance(result, list | tuple) else [] if result is None else [result]
    if len(items) != len(kinds):
        invalid(f"{_name(func)} must return {len(kinds)} values, got {result!r}")
    return [_checked(func, item, kind) for item, kind in zip(items, kinds, strict=True)]


def _checked(func: Callable[..., Any], value: Any, kind: DType) -> np.ndarray:
    try:
        # A copy: the function may modify its result later. An array over a memoryview or tensor shares its memory, too.
        array = np.array(value, dtype=object if isinstance(value, bytes | str) else None)
        own = as_dtype(array.dtype)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(None, None, f"{_name(func)} returned {value!r}: {error}") from error
    if own is string:
        array = _text(func, array)
    if own is not kind:
        invalid(f"{_name(func)} must return {kind.name}, got {own.name}")
    return array


def _text(func: Callable[..., Any], array: np.ndarray) -> np.ndarray:
    try:
        return to_array(array)
    except TypeError as error:
        raise InternalError(None, None, f"{_name(func)} returned unsupported objects: {error}") from error
