# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.compat.functions.placeholders import sparse_placeholder as placeholder
from mpqueue.compat.functions.sparse import sparse_reduce_sum as reduce_sum
from mpqueue.compat.functions.sparse import sparse_reorder as reorder
from mpqueue.compat.functions.sparse import sparse_reshape as reshape
from mpqueue.compat.functions.sparse import sparse_tensor_to_dense as to_dense
from mpqueue.compat.graph.sparse import SparseTensor as SparseTensor

__all__ = ["SparseTensor", "placeholder", "reduce_sum", "reorder", "reshape", "to_dense"]
