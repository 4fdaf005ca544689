"""The names of ``tf.math``."""

from typing import Any

from mpqueue.compat.names import Names

_NAMES = Names(
    __name__,
    {
        "mpqueue.compat.functions.array": "invert_permutation",
        "mpqueue.compat.functions.math": (
            "abs acos acosh add add_n angle asin asinh atan atan2 atanh ceil conj cos cosh divide "
            "divide_no_nan=div_no_nan equal erf erfc exp expm1 floor floordiv floormod=mod greater greater_equal "
            "imag is_finite is_inf is_nan less less_equal lgamma log log1p logical_and logical_not logical_or "
            "logical_xor maximum minimum mod multiply negative not_equal pow real reciprocal rint round rsqrt "
            "sigmoid sign sin sinh sqrt square squared_difference subtract tan tanh truediv"
        ),
        "mpqueue.compat.functions.reduce": (
            "argmax argmin count_nonzero cumprod cumsum reduce_all reduce_any reduce_logsumexp reduce_max "
            "reduce_mean reduce_min reduce_prod reduce_sum"
        ),
    },
    prefix="tf.math",
)
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    return _NAMES.find(name)


def __dir__() -> list[str]:
    return list(__all__)
