"""The names of ``tf.compat``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.program.texts": (
            "as_bytes as_str=as_text as_str_any as_text bytes_or_text_types complex_types integral_types "
            "path_to_str real_types"
        ),
        "mpqueue.compat.ops.dimension": "dimension_value",
    },
    prefix="tf.compat",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
