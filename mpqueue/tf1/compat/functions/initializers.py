"""Initializers: callables that create an initial value from a shape and a type, for `get_variable`."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpqueue.tf1.compat.functions import array_fill, random
from mpqueue.tf1.compat.functions.declare import public_class
from mpqueue.tf1.compat.graph import Tensor, constant
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dtypes import as_dtype


class Initializer:
    """The base class of initializers.

    Args:
        dtype: The type of the values if a call does not specify one.

    Follows: ``tf.keras.initializers.Initializer``.
    """

    dtype: Any = dtypes.float32  # also for subclasses that do not call this constructor

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """Return a tensor of the given shape and type.

        Args:
            shape: The shape.
            dtype: The type. If None, the type of the initializer.
            partition_info: No effect.
        """
        del partition_info
        return self._made(shape, as_dtype(self.dtype if dtype is None else dtype))

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        raise NotImplementedError


@public_class("zeros_initializer")
class zeros_initializer(Initializer):  # noqa: N801
    """Initializer with zeros, False, or empty strings."""

    _made = staticmethod(array_fill.zeros)


@public_class("ones_initializer")
class ones_initializer(Initializer):  # noqa: N801
    """Initializer with ones."""

    _made = staticmethod(array_fill.ones)


@public_class("constant_initializer")
@dataclass(eq=False)
class constant_initializer(Initializer):  # noqa: N801
    """Initializer with one value, or with a list of values in the order of the elements."""

    value: Any = 0
    dtype: Any = dtypes.float32
    verify_shape: bool = False

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        return constant(self.value, dtype, shape, verify_shape=self.verify_shape)


@public_class("random_uniform_initializer")
@dataclass(eq=False)
class random_uniform_initializer(Initializer):  # noqa: N801
    """Initializer with uniformly distributed values in ``[minval, maxval)``."""

    minval: Any = 0.0
    maxval: Any = None
    seed: int | None = None
    dtype: Any = dtypes.float32

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        return random.random_uniform(shape, self.minval, self.maxval, dtype, self.seed)


@public_class("random_normal_initializer")
@dataclass(eq=False)
class random_normal_initializer(Initializer):  # noqa: N801
    """Initializer with normally distributed values."""

    mean: Any = 0.0
    stddev: Any = 1.0
    seed: int | None = None
    dtype: Any = dtypes.float32
    _draw = staticmethod(random.random_normal)

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        return self._draw(shape, self.mean, self.stddev, dtype, self.seed)


@public_class("truncated_normal_initializer")
class truncated_normal_initializer(random_normal_initializer):  # noqa: N801 - TensorFlow's name
    """Initializer with normally distributed values within two standard deviations of the mean."""

    _draw = staticmethod(random.truncated_normal)


@public_class("glorot_uniform_initializer")
@dataclass(eq=False)
class glorot_uniform_initializer(Initializer):  # noqa: N801
    """Initializer with uniform values within ``sqrt(6 / (inputs + outputs))`` of 0; the default for floats."""

    seed: int | None = None
    dtype: Any = dtypes.float32

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        sizes = [int(size) for size in shape]
        inputs, outputs = _fans(sizes)
        limit = math.sqrt(6 / max(1.0, inputs + outputs))
        return random.random_uniform(sizes, -limit, limit, dtype, self.seed)


def _fans(sizes: list[int]) -> tuple[int, int]:
    if len(sizes) < 2:
        return (sizes or [1])[0], (sizes or [1])[0]
    area = int(np.prod(sizes[:-2], dtype=np.int64))
    return sizes[-2] * area, sizes[-1] * area
