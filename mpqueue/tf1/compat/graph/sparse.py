"""Sparse tensors: three tensors that represent one value."""

from collections.abc import Callable
from typing import Any, ClassVar

from mpqueue.tf1.compat.graph.convert import CONVERSIONS, convert_to_tensor
from mpqueue.tf1.compat.graph.nodes import Tensor, TensorProxy
from mpqueue.tf1.compat.graph.static import static_shape
from mpqueue.tf1.compat.ops.dims import Dims, merged, with_rank
from mpqueue.tf1.compat.ops.dtypes import DType, int64
from mpqueue.tf1.compat.ops.tensorshape import TensorShape
from mpqueue.values.sparse import SparseTensorValue


class SparseTensor(TensorProxy):
    """An array that stores only its nonzero elements.

    Args:
        indices: int64 tensor of shape (number of values, rank).
        values: Tensor of any type, a vector.
        dense_shape: int64 tensor of shape (rank,).

    Raises:
        ValueError: The statically known shapes of the three tensors are inconsistent.
        TypeError: ``indices`` or ``dense_shape`` are not int64.

    Follows: ``tf.SparseTensor``.
    """

    operators: ClassVar[dict[str, Callable[..., "SparseTensor"]]] = {}
    """The implementations of ``*`` and ``/`` with dense values; set by `mpqueue.tf1.compat.functions.sparse`."""

    def __init__(self, indices: Any, values: Any, dense_shape: Any) -> None:
        self._indices = convert_to_tensor(indices, int64, "indices")
        self._represented = convert_to_tensor(values, name="values")
        self._dense_shape = convert_to_tensor(dense_shape, int64, "dense_shape")
        table = with_rank(self._indices.known_dims, 2, "indices")
        vector = with_rank(self._represented.known_dims, 1, "values")
        sizes = with_rank(self._dense_shape.known_dims, 1, "dense_shape")
        merged(table, (vector[0], sizes[0]))
        self._known_shape: Dims = None

    def with_known_shape(self, dims: Dims) -> "SparseTensor":
        """Return the same tensor with a refined static shape. Not in TensorFlow."""
        made = SparseTensor(*self.parts)
        made._known_shape = merged(self._known_shape, dims)
        return made

    @classmethod
    def from_value(cls, sparse_tensor_value: Any) -> "SparseTensor":
        """Convert a `SparseTensorValue` to a sparse tensor; a sparse tensor is returned unchanged.

        Raises:
            TypeError: The value is of neither class.
        """
        if isinstance(sparse_tensor_value, SparseTensor):
            return sparse_tensor_value
        if not isinstance(sparse_tensor_value, SparseTensorValue):
            raise TypeError(f"Neither a SparseTensor nor SparseTensorValue: {sparse_tensor_value!r}.")
        return cls(*sparse_tensor_value)

    @property
    def indices(self) -> Tensor:
        """The indices of the values."""
        return self._indices

    @property
    def values(self) -> Tensor:
        """The values."""
        return self._represented

    @property
    def dense_shape(self) -> Tensor:
        """The shape of the dense array."""
        return self._dense_shape

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Indices, values and dense shape. Not in TensorFlow."""
        return self._indices, self._represented, self._dense_shape

    @property
    def shape(self) -> TensorShape:
        """The static shape of the dense array."""
        return TensorShape(merged(self._known_shape, static_shape(self._dense_shape)))

    def eval(self, feed_dict: Any = None, session: Any = None) -> SparseTensorValue:
        """Return the value, computed in the given or the default session.

        Raises:
            ValueError: No session is given, and there is no default session.
        """
        value: SparseTensorValue = self.graph.session_for(session, "eval()").run(self, feed_dict)
        return value

    def __mul__(self, other: Any) -> "SparseTensor":
        return self.operators["__mul__"](self, other)

    def __truediv__(self, other: Any) -> "SparseTensor":
        return self.operators["__truediv__"](self, other)

    def __repr__(self) -> str:
        return f"SparseTensor(indices={self._indices}, values={self._represented}, dense_shape={self._dense_shape})"


def _refuse(value: Any, _dtype: DType | None, _name: str | None) -> Tensor:
    raise TypeError(f"{value!r} is sparse, but a dense tensor is required: convert it with tf.sparse_tensor_to_dense")


CONVERSIONS.insert(0, (SparseTensor, _refuse))
