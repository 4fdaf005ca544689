"""The names of ``tf.train.coordinator``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.coordinator": "Coordinator",
        "mpqueue.train.looper": "LooperThread",
    },
    prefix="tf.train.coordinator",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
