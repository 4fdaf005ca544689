"""The names of ``tf.queue``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.queue_base": "QueueBase",
        "mpqueue.compat.functions.queues": "FIFOQueue PaddingFIFOQueue RandomShuffleQueue",
    },
    prefix="tf.queue",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
