"""Initializers: callables that create a constant initial value from a shape and a type."""

from dataclasses import dataclass
from typing import Any

from mpqueue.tf1.compat.functions import array_fill
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
