"""Python's operators between nodes, and between nodes and values.

A value takes the type of the node in the other operand. A Python number must fit that type (1.5 with an int32 node
raises TypeError); an array is cast.
"""

from collections.abc import Callable
from typing import Any, Final

from mpqueue.tf1.compat.functions import math, reduce, select
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.graph import Tensor, apply, convert_to_tensor, get_default_graph
from mpqueue.tf1.compat.ops import dtypes

Function = Callable[..., Any]


def _multiplied(x: Tensor, y: Any, name: str) -> Any:
    if dtypes.bool_ in (getattr(x, "dtype", None), getattr(y, "dtype", None)):
        both = (math.cast(each, dtypes.int32) for each in (x, y))
        return math.cast(apply("Mul", *both, name=name), dtypes.bool_)
    return apply("Mul", x, y, name=name)


def _by_type(on_bools: Function, on_ints: Function) -> Function:
    """Choose the implementation of `&`, `|`, `^` or `~`: logical for bools, bitwise for integers."""

    def combined(*values: Any, name: str | None = None) -> Any:
        is_bool = dtypes.bool_ in [getattr(each, "dtype", None) for each in values]
        return (on_bools if is_bool else on_ints)(*values, name=name)

    return combined


_BINARY: Final[dict[str, Function]] = {
    "add": math.add,
    "sub": direct.subtract,
    "mul": _multiplied,
    "truediv": math.truediv,
    "floordiv": direct.floordiv,
    "mod": direct.mod,
    "pow": direct.pow,
    "matmul": reduce.matmul,
    "and": _by_type(direct.logical_and, direct.bitwise_and),
    "or": _by_type(direct.logical_or, direct.bitwise_or),
    "xor": _by_type(direct.logical_xor, direct.bitwise_xor),
}


def _forward(name: str, function: Function) -> Function:
    """Implement ``x <op> y``; if it fails, try the reflected method of a sparse tensor or a class of the user."""

    def method(x: Tensor, y: Any) -> Any:
        try:
            with get_default_graph().name_scope(name) as scope:
                return function(x, y, name=scope)
        except (TypeError, ValueError):
            reflected = None if isinstance(y, Tensor) else getattr(type(y), f"__r{name}__", None)
            if reflected is None or not hasattr(y, "_as_tensor"):
                raise
            return reflected(y, x)

    return method


def _backward(name: str, function: Function) -> Function:
    def method(y: Tensor, x: Any) -> Any:
        with get_default_graph().name_scope(name) as scope:
            return function(convert_to_tensor(x, y.dtype.base_dtype, "x"), y, name=scope)

    return method


def install() -> None:
    """Set the operators of `Tensor`."""
    for name, function in _BINARY.items():
        Tensor.operators[f"__{name}__"] = _forward(name, function)
        Tensor.operators[f"__r{name}__"] = _backward(name, function)
    Tensor.operators |= {
        "__lt__": direct.less,
        "__le__": direct.less_equal,
        "__gt__": direct.greater,
        "__ge__": direct.greater_equal,
        "__neg__": direct.negative,
        "__abs__": math.abs,
        "__invert__": _by_type(direct.logical_not, direct.invert),
        "__getitem__": select.getitem,
    }


install()
