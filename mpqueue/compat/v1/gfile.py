"""The names of ``tf.gfile``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.program.gfile": (
            "Copy DeleteRecursively Exists Glob IsDirectory ListDirectory MakeDirs MkDir Remove Rename Stat Walk"
        ),
        "mpqueue.compat.program.gfile_file": "FastGFile=GFile GFile Open=GFile",
    },
    prefix="tf.gfile",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
