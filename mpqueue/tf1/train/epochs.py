"""limit_epochs: values that come a number of times, then end."""

# ruff: noqa: ARG001 - `name` stands in TensorFlow's signature

import operator
from collections.abc import Callable
from typing import Any

from mpqueue.errors import OutOfRangeError
from mpqueue.system.locks import Lock
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.train.arrays import as_constant
from mpqueue.tf1.train.local_variables import LocalVariable, add_local_variable


class EpochCount(LocalVariable):
    """Counts up to ``num_epochs``, then raises; a local variable."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs, self._done = num_epochs, 0
        self._lock = Lock()
        add_local_variable(self)

    def initialize(self) -> None:
        """Count from 0 again."""
        self._done = 0

    def begin(self) -> None:
        """Count one epoch more.

        Raises:
            OutOfRangeError: There were ``num_epochs`` of them.
        """
        with self._lock:
            if self._done >= self._num_epochs:
                raise OutOfRangeError(None, None, f"all {self._num_epochs} epochs are over")
            self._done += 1


class _Limited:
    """Calls ``fn`` once per epoch."""

    def __init__(self, fn: Callable[[], Any], num_epochs: int) -> None:
        self._fn, self._count = fn, EpochCount(num_epochs)

    def __call__(self) -> Any:
        self._count.begin()
        return self._fn()


def checked_epochs(num_epochs: int | None) -> int | None:
    """Return ``num_epochs`` if it is a number above 0, or None.

    Raises:
        TypeError: It is no integer.
        ValueError: It is 0 or negative.
    """
    if num_epochs is None:
        return None
    count = operator.index(num_epochs)
    if count <= 0:
        raise ValueError(f"num_epochs must be above 0, or None for no end, got {num_epochs}")
    return count


def limit_epochs(tensor: Any, num_epochs: int | None = None, name: str | None = None) -> Any:
    """Return a `Source` that returns ``tensor`` ``num_epochs`` times, then ends.

    Args:
        tensor: An array, a list that makes one, or a `Source`, which is then called as often.
        num_epochs: Number of times; None returns ``tensor`` as it is.
        name: Accepted for TensorFlow's signature.

    Raises:
        TypeError: ``num_epochs`` is no integer.
        ValueError: It is 0 or negative.

    The source raises:
        OutOfRangeError: At each call after the last one; `local_variables_initializer` starts the count anew.

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
