"""Placeholders: nodes with fed values."""

from typing import Any

import numpy as np

from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.graph import SparseTensor, Tensor, convert_to_tensor, custom
from mpqueue.tf1.compat.graph.feeds import unfed
from mpqueue.tf1.compat.ops.dims import merged
from mpqueue.tf1.compat.ops.dtypes import as_dtype, int64
from mpqueue.tf1.compat.ops.tensorshape import as_shape


@public("placeholder(...)")
def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """Create a tensor that must be fed in every run that needs it.

    Args:
        dtype: Type of the elements. A fed array is cast to it, even if precision is lost.
        shape: Constraint on the shape of fed values. If None, any shape is accepted.
    """
    label: list[str] = []
    dims = as_shape(shape).known
    made = custom(
        "Placeholder",
        (),
        [(as_dtype(dtype).base_dtype, dims)],
        lambda _run, _inputs: unfed(label[0]),
        name=name,
        bound=True,
        attributes={"dtype": as_dtype(dtype), "shape": as_shape(shape)},
    )
    label.append(made.name)
    return made.outputs[0]


@public("placeholder_with_default(...)")
def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """Create a tensor that can be fed; otherwise its value is ``input``, which is computed only in that case.

    Raises:
        ValueError: The shape of ``input`` is not compatible with ``shape``.
    """
    default = convert_to_tensor(input)
    dims = as_shape(shape).known
    merged(default.known_dims, dims)
    kind = [(default.dtype.base_dtype, dims)]
    return custom("PlaceholderWithDefault", [default], kind, lambda _run, values: values, name=name).outputs[0]


@public("sparse_placeholder(...)")
def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparseTensor:
    """Create a sparse tensor that must be fed with a `SparseTensorValue` or (indices, values, dense_shape).

    Args:
        dtype: Type of the values.
        shape: Static dense shape.
    """
    prefix = "" if name is None else name + "/"
    dims = as_shape(shape).known
    rank = None if dims is None else len(dims)
    if dims is None:
        whole = placeholder(int64, [None], prefix + "shape" if prefix else None)
    else:
        sizes = np.array([-1 if size is None else size for size in dims], np.int64)
        whole = placeholder_with_default(sizes, [rank], prefix + "shape" if prefix else None)
    values = placeholder(dtype, [None], prefix + "values" if prefix else None)
    indices = placeholder(int64, [None, rank], prefix + "indices" if prefix else None)
    return SparseTensor(indices, values, whole).with_known_shape(dims)
