"""Session settings, which are ignored, and functions that identify the version of TensorFlow."""

from types import SimpleNamespace
from typing import Any, ClassVar, Final

from mpqueue.tf1.compat.graph import SparseTensor, Tensor

VERSION: Final = "1.15.0"
"""The version of TensorFlow that the names follow."""

OK: Final = 0
"""The error code for success."""


class _Settings(SimpleNamespace):
    """Arbitrary settings as attributes; an attribute that is not set is a nested group of settings."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        group = _Settings()
        setattr(self, name, group)
        return group


class ConfigProto(_Settings):
    """Settings of a session, accepted without effect."""


class GPUOptions(_Settings):
    """Settings of devices, accepted without effect."""


class GraphOptions(_Settings):
    """Settings of a graph, accepted without effect."""


class OptimizerOptions(_Settings):
    """Settings for graph optimization, accepted without effect."""

    L0: ClassVar[int] = -1
    L1: ClassVar[int] = 0
    OFF: ClassVar[int] = 0
    ON_1: ClassVar[int] = 1
    ON_2: ClassVar[int] = 2


class RunOptions(_Settings):
    """Settings of one run, accepted without effect."""

    NO_TRACE: ClassVar[int] = 0
    SOFTWARE_TRACE: ClassVar[int] = 1
    HARDWARE_TRACE: ClassVar[int] = 2
    FULL_TRACE: ClassVar[int] = 3


class RunMetadata(_Settings):
    """Information about a run in TensorFlow; in mpqueue it is always empty."""


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
