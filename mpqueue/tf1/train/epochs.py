"""limit_epochs: values that are returned a limited number of times."""

# ruff: noqa: ARG001 - `name` is part of TensorFlow's signature

import operator
from collections.abc import Callable
from typing import Any

from mpqueue.errors import OutOfRangeError
from mpqueue.system.signals.locks import Lock
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.train.arrays import as_constant
from mpqueue.tf1.train.local_variables import LocalVariable, add_local_variable


class EpochCount(LocalVariable):
    """A local variable that counts up to ``num_epochs``, and then raises an error."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs, self._done = num_epochs, 0
        self._lock = Lock()
        add_local_variable(self)

    def initialize(self) -> None:
        """Reset the count to 0."""
        self._done = 0

    def begin(self) -> None:
        """Count one more epoch.

        Raises:
            OutOfRangeError: ``num_epochs`` epochs were counted already.
        """
        with self._lock:
            if self._done >= self._num_epochs:
                raise OutOfRangeError(None, None, f"All {self._num_epochs} epochs have ended")
            self._done += 1


class _Limited:
    """A callable that counts an epoch and calls ``fn``."""

    def __init__(self, fn: Callable[[], Any], num_epochs: int) -> None:
        self._fn, self._count = fn, EpochCount(num_epochs)

    def __call__(self) -> Any:
        self._count.begin()
        return self._fn()


def checked_epochs(num_epochs: int | None) -> int | None:
    """Return ``num_epochs`` if it is a positive integer or None.

    Raises:
        TypeError: ``num_epochs`` is not an integer.
        ValueError: ``num_epochs`` is 0 or negative.
    """
    if num_epochs is None:
        return None
    count = operator.index(num_epochs)
    if count <= 0:
        raise ValueError(f"num_epochs must be positive, or None for no limit, got {num_epochs}")
    return count


def limit_epochs(tensor: Any, num_epochs: int | None = None, name: str | None = None) -> Any:
    """Return a `Source` that returns ``tensor`` ``num_epochs`` times, and then ends.

    Args:
        tensor: An array, a list that can be converted to one, or a `Source`, which is then called ``num_epochs`` times.
        num_epochs: Number of times. If None, ``tensor`` is returned unchanged.
        name: Accepted for compatibility with TensorFlow.

    Raises:
        TypeError: ``num_epochs`` is not an integer.
        ValueError: ``num_epochs`` is 0 or negative.

    The source raises:
        OutOfRangeError: At each call after the last one, until `local_variables_initializer` resets the count.

    Follows: ``tf.compat.v1.train.limit_epochs``.
    """
    count = checked_epochs(num_epochs)
    if count is None:
        return tensor
    if not isinstance(tensor, Source):
        array = as_constant(tensor, "tensor")
        return Source(_Limited(array.copy, count), array.dtype, [array.shape])
    dtypes, shapes = tensor.dtypes, tensor.shapes
    if tensor.is_bare and dtypes is not None and shapes is not None:
        return Source(_Limited(tensor, count), dtypes[0], shapes)
    return Source(_Limited(tensor, count), dtypes, shapes, tensor.names)
