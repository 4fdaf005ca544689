"""The names of ``tf.python_io``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.python_io": "TFRecordCompressionType TFRecordOptions TFRecordWriter tf_record_iterator",
    },
    prefix="tf.python_io",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
