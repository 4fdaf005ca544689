"""The deferred face of TensorFlow 1: graphs of nodes, which sessions run.

From the ground up::

    ops/          what operations compute, and what is known of their results beforehand
    graph/        nodes, graphs and sessions
    functions/    the functions and classes that make nodes
    program/      what scripts use besides nodes: files, flags, messages, settings
    train/        queue runners, producers, batches, monitored sessions
    surface.py    the table of TensorFlow's names, and where each is implemented
    names.py      modules made from such a table
    v1/           TensorFlow's names: the modules made from it, and their stubs
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpqueue.compat import v1 as v1

__all__ = ["v1"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # loaded on first use, after a plain `import mpqueue`
        return import_module(f"mpqueue.compat.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
