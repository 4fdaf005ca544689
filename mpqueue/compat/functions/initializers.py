"""Initializers: objects that `get_variable` calls with a shape and a type to make an initial value."""

import math
from typing import Any

import numpy as np

from mpqueue.compat.functions import array_fill, random
from mpqueue.compat.functions.declare import public_class
from mpqueue.compat.graph.convert import constant
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.ops import dtypes
from mpqueue.compat.ops.dtypes import as_dtype


class Initializer:
    """Makes initial values; subclasses say which.

    Args:
        dtype: The type of the values where a call tells none.

    Follows: ``tf.keras.initializers.Initializer``.
    """

    dtype: Any = dtypes.float32  # also of a subclass whose constructor does not call this one

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = dtype

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        """A tensor of that shape and type.

        Args:
            shape: The shape.
            dtype: The type, default that given to the initializer.
            partition_info: No effect.
        """
        del partition_info
        return self._made(shape, as_dtype(self.dtype if dtype is None else dtype))

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        raise NotImplementedError


@public_class("zeros_initializer")
class zeros_initializer(Initializer):  # noqa: N801
    """Zeros, False, or empty text."""

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        return array_fill.zeros(shape, dtype)


@public_class("ones_initializer")
class ones_initializer(Initializer):  # noqa: N801
    """Ones."""

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        return array_fill.ones(shape, dtype)


@public_class("constant_initializer")
class constant_initializer(Initializer):  # noqa: N801
    """One value, or a list of them in the order of the elements."""

    def __init__(self, value: Any = 0, dtype: Any = dtypes.float32, verify_shape: bool = False) -> None:
        super().__init__(dtype)
        self.value, self._verify_shape = value, verify_shape

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        return constant(self.value, dtype, shape, verify_shape=self._verify_shape)


@public_class("random_uniform_initializer")
class random_uniform_initializer(Initializer):  # noqa: N801
    """Values from ``minval`` to below ``maxval``, all equally likely."""

    def __init__(
        self, minval: Any = 0.0, maxval: Any = None, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        super().__init__(dtype)
        self.minval, self.maxval, self.seed = minval, maxval, seed

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        return random.random_uniform(shape, self.minval, self.maxval, dtype, self.seed)


@public_class("random_normal_initializer")
class random_normal_initializer(Initializer):  # noqa: N801
    """Values of a normal distribution."""

    def __init__(
        self, mean: Any = 0.0, stddev: Any = 1.0, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        super().__init__(dtype)
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        return random.random_normal(shape, self.mean, self.stddev, dtype, self.seed)


@public_class("truncated_normal_initializer")
class truncated_normal_initializer(random_normal_initializer):  # noqa: N801 - TensorFlow's name
    """Values of a normal distribution, within two standard deviations."""

    def _made(self, shape: Any, dtype: dtypes.DType) -> Tensor:
        return random.truncated_normal(shape, self.mean, self.stddev, dtype, self.seed)


@public_class("glorot_uniform_initializer")
class glorot_uniform_initializer(Initializer):  # noqa: N801
    """Values within ``sqrt(6 / (inputs + outputs))`` of 0; what `get_variable` takes for floats by default."""

    def __init__(self, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        super().__init__(dtype)
        self.seed = seed

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
