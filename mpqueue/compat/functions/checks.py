"""Operations that check values, and calls that check while the graph is built.

Each comparison raises `InvalidArgumentError` at once where both sides are constants, else gives an operation that
raises it when it is run; put it into `control_dependencies`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpqueue.compat.functions import array, math
from mpqueue.compat.functions.control import Assert, no_op
from mpqueue.compat.functions.reduce import reduce_all
from mpqueue.compat.graph.convert import convert_to_tensor
from mpqueue.compat.graph.graph import get_default_graph
from mpqueue.compat.graph.nodes import Operation, Tensor
from mpqueue.compat.graph.sparse import SparseTensor
from mpqueue.compat.graph.static import get_static_value
from mpqueue.compat.ops.dtypes import as_dtype
from mpqueue.errors import InvalidArgumentError


def _comparing(
    public_name: str, sign: str, compare: Callable[..., Any], numpy_compare: Callable[..., Any]
) -> Callable[..., Operation]:
    def function(
        x: Any,
        y: Any,
        data: Sequence[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        with get_default_graph().name_scope(name or public_name):
            x, y = convert_to_tensor(x, name="x"), convert_to_tensor(y, name="y")
            told = data or [
                f"Condition x {sign} y did not hold element-wise:",
                f"x ({x.name}) = ",
                x,
                f"y ({y.name}) = ",
                y,
            ]
            told = [message, *told] if message else list(told)
            holds = reduce_all(compare(x, y))
            left, right = get_static_value(x), get_static_value(y)
            if left is not None and right is not None and not np.all(numpy_compare(left, right)):
                raise InvalidArgumentError(None, None, "\n".join(_shown(each) for each in told))
            return Assert(holds, told, summarize)

    function.__name__ = function.__qualname__ = public_name
    function.__doc__ = f"""An operation that checks ``x {sign} y`` for all elements.

    Args:
        x: A tensor.
        y: A tensor of the same type, that broadcasts with ``x``.
        data: What to tell instead of the values.
        summarize: How many entries of each tensor to tell.
        message: What to tell first.
        name: Name of the node.

    Raises:
        InvalidArgumentError: It does not hold, and both are constants.
        TypeError: Their types differ.

    Follows: ``tf.{public_name}``.
    """
    return function


def _shown(value: Any) -> str:
    return str(get_static_value(value))


assert_equal = _comparing("assert_equal", "==", math.equal, np.equal)
assert_none_equal = _comparing("assert_none_equal", "!=", math.not_equal, np.not_equal)
assert_less = _comparing("assert_less", "<", math.less, np.less)
assert_less_equal = _comparing("assert_less_equal", "<=", math.less_equal, np.less_equal)
assert_greater = _comparing("assert_greater", ">", math.greater, np.greater)
assert_greater_equal = _comparing("assert_greater_equal", ">=", math.greater_equal, np.greater_equal)


def _signed(public_name: str, sign: str, check: Callable[..., Operation]) -> Callable[..., Operation]:
    def function(
        x: Any,
        data: Sequence[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        with get_default_graph().name_scope(name or public_name):
            x = convert_to_tensor(x, name="x")
            told = data or [message or "", f"Condition x {sign} 0 did not hold element-wise:", f"x ({x.name}) = ", x]
            return check(x, convert_to_tensor(0, x.dtype), told, summarize)

    function.__name__ = function.__qualname__ = public_name
    function.__doc__ = f"""An operation that checks ``x {sign} 0`` for all elements.

    Raises:
        InvalidArgumentError: It does not hold, and ``x`` is a constant.

    Follows: ``tf.{public_name}``.
    """
    return function


assert_positive = _signed("assert_positive", ">", assert_greater)
assert_negative = _signed("assert_negative", "<", assert_less)
assert_non_negative = _signed("assert_non_negative", ">=", assert_greater_equal)
assert_non_positive = _signed("assert_non_positive", "<=", assert_less_equal)


def assert_near(
    x: Any,
    y: Any,
    rtol: Any = None,
    atol: Any = None,
    data: Sequence[Any] | None = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An operation that checks ``|x - y| <= atol + rtol * |y|``; both tolerances are 10 times the type's step at 1.

    Follows: ``tf.assert_near``.
    """
    with get_default_graph().name_scope(name or "assert_near"):
        x = convert_to_tensor(x, name="x")
        y = convert_to_tensor(y, x.dtype.base_dtype, "y")
        step = 10 * np.finfo(x.dtype.base_dtype.as_numpy_dtype).eps
        relative, absolute = (convert_to_tensor(step if each is None else each, x.dtype) for each in (rtol, atol))
        told = data or ["x and y not equal to tolerance", "x = ", x, "y = ", y]
        told = [message, *told] if message else list(told)
        bound = absolute + relative * math.abs(y)
        return Assert(reduce_all(math.abs(x - y) <= bound), told, summarize)


def _ranked(
    public_name: str, words: str, fits: Callable[[int, list[int]], bool], several: bool
) -> Callable[..., Operation]:
    def check(x: Any, ranks: Any, data: Any, summarize: int | None, message: str | None, name: str | None) -> Operation:
        with get_default_graph().name_scope(name or public_name):
            x = x if isinstance(x, SparseTensor) else convert_to_tensor(x, name="x")
            wanted = [get_static_value(convert_to_tensor(each)) for each in (ranks if several else [ranks])]
            if any(each is None or each.ndim for each in wanted):
                raise ValueError("Rank must be a known scalar.")
            numbers = [int(each) for each in wanted]
            rank = x.get_shape().ndims
            if rank is not None:
                if not fits(rank, numbers):
                    shape = x.get_shape()
                    raise ValueError(
                        f"{message or ''} {x.name} must have {words} {numbers}. Received rank {rank}, shape {shape}"
                    )
                return no_op("static_checks_determined_all_ok")
            found = array.rank(x)
            told = data or [
                message or "",
                f"Tensor {x.name} must have {words} {numbers}. Received shape: ",
                array.shape(x),
            ]
            return Assert(_any_rank(found, numbers, public_name), told, summarize)

    def one(
        x: Any,
        rank: Any,
        data: Any = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        return check(x, rank, data, summarize, message, name)

    def many(
        x: Any,
        ranks: Any,
        data: Any = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Operation:
        return check(x, ranks, data, summarize, message, name)

    function = many if several else one
    function.__name__ = function.__qualname__ = public_name
    function.__doc__ = f"""An operation that checks that a tensor has {words} the given.

    Raises:
        ValueError: It has not, and its rank is known.

    Follows: ``tf.{public_name}``.
    """
    return function


def _any_rank(found: Tensor, numbers: list[int], public_name: str) -> Tensor:
    if public_name == "assert_rank_at_least":
        return found >= numbers[0]  # type: ignore[no-any-return]
    holds = [math.equal(found, number) for number in numbers]
    return functools.reduce(math.logical_or, holds)


assert_rank = _ranked("assert_rank", "rank", lambda rank, wanted: rank == wanted[0], several=False)
assert_rank_at_least = _ranked(
    "assert_rank_at_least", "at least rank", lambda rank, wanted: rank >= wanted[0], several=False
)
assert_rank_in = _ranked("assert_rank_in", "a rank of", lambda rank, wanted: rank in wanted, several=True)


def assert_type(tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None) -> Operation:
    """Check the type of a tensor.

    Returns: An operation that does nothing.

    Raises:
        TypeError: The type is another.

    Follows: ``tf.assert_type``.
    """
    wanted = as_dtype(tf_type)
    tensor = tensor if isinstance(tensor, SparseTensor) else convert_to_tensor(tensor, name="tensor")
    if tensor.dtype != wanted:
        raise TypeError(f"{message or ''} {tensor.name} must be of type {wanted.name}, got {tensor.dtype.name}")
    return no_op(name or "statically_determined_correct_type")


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> Operation:
    """Check that a tensor is of an int type.

    Returns: An operation that does nothing.

    Raises:
        TypeError: It is not.

    Follows: ``tf.assert_integer``.
    """
    x = convert_to_tensor(x, name="x")
    if not x.dtype.is_integer:
        raise TypeError(f"{message or ''} Expected {x.name} to be integer type. Found: {x.dtype.name}")
    return no_op(name or "statically_determined_was_integer")


def assert_scalar(tensor: Any, name: str | None = None, message: str | None = None) -> Tensor:
    """Check that a tensor has no axes.

    Returns: The tensor.

    Raises:
        ValueError: It has axes.

    Follows: ``tf.assert_scalar``.
    """
    del name
    checked = convert_to_tensor(tensor)
    if checked.ndim != 0:
        raise ValueError(f"{message or ''} Expected a scalar, got {checked!r} of shape {checked.shape}")
    return checked


def is_numeric_tensor(tensor: Any) -> bool:
    """Whether something is a tensor of numbers.

    Follows: ``tf.is_numeric_tensor``.
    """
    kind = getattr(tensor, "dtype", None)
    return isinstance(tensor, Tensor) and kind is not None and (kind.is_integer or kind.is_floating or kind.is_complex)
