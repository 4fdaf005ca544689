"""The sparse triple."""

from typing import Any, NamedTuple


class SparseTensorValue(NamedTuple):
    """A sparse array as three arrays.

    Args:
        indices: int64 of shape ``[n, rank]``, the position of each value, in row-major order.
        values: The ``n`` values.
        dense_shape: int64 of shape ``[rank]``, the shape of the array if it were dense.

    Follows: ``tf.SparseTensorValue``, which does not validate its arguments either.
    """

    indices: Any
    values: Any
    dense_shape: Any
