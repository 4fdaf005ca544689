"""The names of ``tf.keras.utils`` that concern input."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue": "GeneratorEnqueuer OrderedEnqueuer Sequence SequenceEnqueuer",
    },
    prefix="tf.keras.utils",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
