"""The names of ``tf.dtypes``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.ops.dtypes": (
            "DType as_dtype bool=bool_ complex128 complex64 double float16 float32 float64 half int16 int32 int64 "
            "int8 resource string uint16 uint32 uint64 uint8"
        ),
        "mpqueue.compat.functions.math": "cast saturate_cast",
        "mpqueue.compat.functions.text": "as_string",
    },
    prefix="tf.dtypes",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
