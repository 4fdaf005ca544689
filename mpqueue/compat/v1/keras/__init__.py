"""The names of ``tf.keras`` that concern input."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {},
    submodules="utils",
    prefix="tf.keras",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
