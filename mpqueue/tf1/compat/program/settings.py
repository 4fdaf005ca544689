"""Settings of sessions, which have no effect here, and answers to which TensorFlow this is."""

from types import SimpleNamespace
from typing import Any, ClassVar, Final

from mpqueue.tf1.compat.graph import SparseTensor, Tensor

VERSION: Final = "1.15.0"
"""The version of TensorFlow whose names these are."""

OK: Final = 0
"""The number of no error, among those of the classes in ``tf.errors``."""


class _Settings(SimpleNamespace):
    """Any settings, as attributes; one that was never set is a group of further ones."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        group = _Settings()
        setattr(self, name, group)
        return group


class ConfigProto(_Settings):
    """Settings of a session: all are accepted, and have no effect."""


class GPUOptions(_Settings):
    """Settings of devices: all are accepted, and have no effect."""


class GraphOptions(_Settings):
    """Settings of a graph: all are accepted, and have no effect."""


class OptimizerOptions(_Settings):
    """Settings of how a graph is run: all are accepted, and have no effect."""

    L0: ClassVar[int] = -1
    L1: ClassVar[int] = 0
    OFF: ClassVar[int] = 0
    ON_1: ClassVar[int] = 1
    ON_2: ClassVar[int] = 2


class RunOptions(_Settings):
    """Settings of one run: all are accepted, and have no effect."""

    NO_TRACE: ClassVar[int] = 0
    SOFTWARE_TRACE: ClassVar[int] = 1
    HARDWARE_TRACE: ClassVar[int] = 2
    FULL_TRACE: ClassVar[int] = 3


class RunMetadata(_Settings):
    """Facts about a run, in TensorFlow; here it stays empty."""


def disable_v2_behavior() -> None:
    """Do nothing: there is no other behaviour here."""


def disable_eager_execution() -> None:
    """Do nothing: nodes are never computed while they are made."""


def executing_eagerly() -> bool:
    """Return False: nodes are never computed while they are made."""
    return False


def is_tensor(x: Any) -> bool:
    """Return whether something is a node with a value: a tensor, a sparse tensor or a variable."""
    return isinstance(x, Tensor | SparseTensor) or hasattr(x, "_as_tensor")
