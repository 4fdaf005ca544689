"""The names of ``tf.train.queue_runner``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.train.runners": "QueueRunner add_queue_runner start_queue_runners",
    },
    prefix="tf.train.queue_runner",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
