"""The names of ``tf.flags``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.program.flags": (
            "DEFINE_bool DEFINE_boolean DEFINE_enum DEFINE_float DEFINE_integer DEFINE_list DEFINE_multi_float "
            "DEFINE_multi_integer DEFINE_multi_string DEFINE_string DuplicateFlagError Error FLAGS FlagValues "
            "IllegalFlagValueError mark_flag_as_required mark_flags_as_required"
        ),
    },
    prefix="tf.flags",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
