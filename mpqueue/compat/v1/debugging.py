"""The names of ``tf.debugging``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.checks": (
            "assert_equal assert_greater assert_greater_equal assert_integer assert_less assert_less_equal "
            "assert_near assert_negative assert_non_negative assert_non_positive assert_none_equal "
            "assert_positive assert_rank assert_rank_at_least assert_rank_in assert_scalar assert_type "
            "is_numeric_tensor"
        ),
        "mpqueue.compat.functions.control": "Assert",
        "mpqueue.compat.functions.math": "is_finite is_inf is_nan",
    },
    prefix="tf.debugging",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
