"""The deferred API of TensorFlow 1; the code is in `mpqueue.tf1.compat`.

From the ground up::

    v1/   TensorFlow's names: the modules made from a table of them, and their stubs
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
