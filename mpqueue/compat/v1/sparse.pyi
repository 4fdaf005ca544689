# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1 import sparse_placeholder as placeholder
from mpqueue.compat.v1 import sparse_reduce_sum as reduce_sum
from mpqueue.compat.v1 import sparse_reorder as reorder
from mpqueue.compat.v1 import sparse_reshape as reshape
from mpqueue.compat.v1 import sparse_tensor_to_dense as to_dense
from mpqueue.tf1.compat.graph.sparse import SparseTensor as SparseTensor

__all__ = [
    "SparseTensor", "placeholder", "reduce_sum", "reorder", "reshape", "to_dense",
]  # fmt: skip
