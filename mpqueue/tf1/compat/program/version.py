"""Names that identify the version of TensorFlow."""

from typing import Any, Final

from mpqueue.tf1.compat.graph import SparseTensor, Tensor

VERSION: Final = "1.15.0"
"""The version of TensorFlow that the names follow."""

OK: Final = 0
"""The error code for success."""


def disable_v2_behavior() -> None:
    """Accepted without effect: mpqueue has no other behaviour."""


def disable_eager_execution() -> None:
    """Accepted without effect: nodes are never computed when they are created."""


def executing_eagerly() -> bool:
    """Return False: nodes are never computed when they are created."""
    return False


def is_tensor(x: Any) -> bool:
    """Return whether an object is a tensor, a sparse tensor or a variable."""
    return isinstance(x, Tensor | SparseTensor) or hasattr(x, "_as_tensor")
