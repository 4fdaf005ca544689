"""The names of ``tf.sparse``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.sparse": (
            "reduce_sum=sparse_reduce_sum reorder=sparse_reorder reshape=sparse_reshape to_dense=sparse_tensor_to_dense"
        ),
        "mpqueue.compat.functions.placeholders": "placeholder=sparse_placeholder",
        "mpqueue.compat.graph.sparse": "SparseTensor",
    },
    prefix="tf.sparse",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
