"""The names of ``tf.bitwise``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.math": "bitwise_and bitwise_or bitwise_xor invert",
    },
    prefix="tf.bitwise",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
