"""The names of ``tf.strings``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.text": (
            "as_string join=string_join length lower reduce_join regex_full_match regex_replace split "
            "strip=string_strip substr to_hash_bucket_fast=string_to_hash_bucket_fast to_number=string_to_number "
            "upper"
        ),
    },
    prefix="tf.strings",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
