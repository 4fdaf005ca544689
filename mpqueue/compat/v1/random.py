"""The names of ``tf.random``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.random": (
            "normal=random_normal set_random_seed shuffle=random_shuffle truncated_normal uniform=random_uniform"
        ),
    },
    prefix="tf.random",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
