"""The names of ``tf.summary``: they are accepted, and nothing is written anywhere."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.program.summaries": (
            "FileWriter audio histogram image merge merge_all scalar tensor_summary text"
        ),
    },
    prefix="tf.summary",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
