# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.functions.placeholders import sparse_placeholder as placeholder
from mpqueue.compat.graph.nodes import Tensor
from mpqueue.compat.graph.sparse import SparseTensor as SparseTensor
from typing import Any

__all__ = ["SparseTensor", "placeholder", "reduce_sum", "reorder", "reshape", "to_dense"]

def reduce_sum(
    sp_input: Any, axis: Any = None, keepdims: bool | None = None, reduction_axes: Any = None, keep_dims: Any = None
) -> Tensor: ...
def reorder(sp_input: Any, name: str | None = None) -> SparseTensor: ...
def reshape(sp_input: Any, shape: Any, name: str | None = None) -> SparseTensor: ...
def to_dense(
    sp_input: Any, default_value: Any = None, validate_indices: bool = True, name: str | None = None
) -> Tensor: ...
