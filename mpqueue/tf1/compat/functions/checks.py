"""Operations that check values, and calls that check while the graph is built.

If both operands are constants, a comparison that fails raises `InvalidArgumentError` immediately. Otherwise it returns
an operation that raises the error when it is run: pass that to `control_dependencies`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.compat.functions import array, math
from mpqueue.tf1.compat.functions.control import Assert, no_op
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.direct import direct
from mpqueue.tf1.compat.functions.reduce import reduce_all
from mpqueue.tf1.compat.graph import Operation, SparseTensor, Tensor, convert_to_tensor, get_static_value
from mpqueue.tf1.compat.ops.dtypes import DType

_ERROR_ARGUMENTS = "data=None, summarize=None, message=None, name"


@public(f"assert_near(x, y, rtol=None, atol=None, {_ERROR_ARGUMENTS})", scope="assert_near")
def assert_near(
    x: Tensor, y: Any, rtol: Any, atol: Any, data: Sequence[Any] | None, summarize: int | None, message: str | None
) -> Operation:
    """Return an operation that checks ``|x - y| <= atol + rtol * |y|``.

    Both tolerances default to 10 times the machine epsilon of the type.

    Args:
        x: A tensor.
        y: A tensor of the same type that broadcasts with ``x``.
        data: List of tensors and strings to show instead of the values.
        summarize: Number of entries of each tensor to show.
        message: Prefix of the error message.
    """
    y = convert_to_tensor(y, x.dtype.base_dtype, "y")
    step = 10 * np.finfo(x.dtype.base_dtype.as_numpy_dtype).eps
    relative, absolute = (convert_to_tensor(step if each is None else each, x.dtype) for each in (rtol, atol))
    shown = data or ["x and y not equal to tolerance", "x = ", x, "y = ", y]
    shown = [message, *shown] if message else list(shown)
    bound = absolute + relative * math.abs(y)
    return Assert(reduce_all(math.abs(x - y) <= bound), shown, summarize)


def _comparing(name: str, sign: str, compare: np.ufunc) -> Callable[..., Operation]:
    """Create a check of two tensors; the function on nodes has the same name as NumPy's."""
    on_nodes = getattr(direct, compare.__name__)
    text = f"""Return an operation that checks ``x {sign} y`` for all elements; ``y`` broadcasts with ``x``.

Raises:
    InvalidArgumentError: The check fails, and both operands are constants.
    TypeError: Their types differ.
"""

    @public(f"{name}(x, y, {_ERROR_ARGUMENTS})", scope=name, doc=text, like=assert_near)
    def function(
        x: Tensor, y: Tensor, data: Sequence[Any] | None, summarize: int | None, message: str | None
    ) -> Operation:
        problem = f"Condition x {sign} y did not hold element-wise:"
        shown = data or [problem, f"x ({x.name}) = ", x, f"y ({y.name}) = ", y]
        shown = [message, *shown] if message else list(shown)
        holds = reduce_all(on_nodes(x, y))
        left, right = get_static_value(x), get_static_value(y)
        if left is not None and right is not None and not np.all(compare(left, right)):
            raise InvalidArgumentError(None, None, "\n".join(str(get_static_value(each)) for each in shown))
        return Assert(holds, shown, summarize)

    return function


assert_equal = _comparing("assert_equal", "==", np.equal)
assert_none_equal = _comparing("assert_none_equal", "!=", np.not_equal)
assert_less = _comparing("assert_less", "<", np.less)
assert_less_equal = _comparing("assert_less_equal", "<=", np.less_equal)
assert_greater = _comparing("assert_greater", ">", np.greater)
assert_greater_equal = _comparing("assert_greater_equal", ">=", np.greater_equal)


def _signed(name: str, sign: str, check: Callable[..., Operation]) -> Callable[..., Operation]:
    text = f"""Return an operation that checks ``x {sign} 0`` for all elements.

Raises:
    InvalidArgumentError: The check fails, and ``x`` is a constant.
"""

    @public(f"{name}(x, {_ERROR_ARGUMENTS})", scope=name, doc=text, like=assert_near)
    def function(x: Tensor, data: Sequence[Any] | None, summarize: int | None, message: str | None) -> Operation:
        shown = data or [message or "", f"Condition x {sign} 0 did not hold element-wise:", f"x ({x.name}) = ", x]
        return check(x, convert_to_tensor(0, x.dtype), shown, summarize)

    return function


assert_positive = _signed("assert_positive", ">", assert_greater)
assert_negative = _signed("assert_negative", "<", assert_less)
assert_non_negative = _signed("assert_non_negative", ">=", assert_greater_equal)
assert_non_positive = _signed("assert_non_positive", "<=", assert_less_equal)


_REQUIREMENTS: Final = {
    "assert_rank": "the given rank",
    "assert_rank_in": "one of the given ranks",
    "assert_rank_at_least": "at least the given rank",
}


def _ranking(
    name: str, words: str, fits: Callable[[int, list[int]], bool], of_nodes: Callable[[Tensor, list[int]], Tensor]
) -> Callable[..., Operation]:
    """Create a check of the rank: ``fits`` checks a known rank, ``of_nodes`` an unknown one."""
    several = "ranks" if name == "assert_rank_in" else "rank"
    text = f"""Return an operation that checks that a tensor has {_REQUIREMENTS[name]}.

Args:
    x: A tensor, possibly a sparse one.
    {several}: An integer or a constant, or for `assert_rank_in` a list of them.

Raises:
    ValueError: The check fails, and the rank is known.
"""

    @public(f"{name}(x, ranks as {several}, {_ERROR_ARGUMENTS})", scope=name, doc=text, like=assert_near)
    def function(
        x: Any, ranks: Any, data: Sequence[Any] | None, summarize: int | None, message: str | None
    ) -> Operation:
        x = x if isinstance(x, SparseTensor) else convert_to_tensor(x, name="x")
        numbers = _known_ranks(ranks if several == "ranks" else [ranks])
        rank = x.get_shape().ndims
        what = f"{x.name} must have {words} {numbers}. Received"
        if rank is None:
            shown = data or [message or "", f"Tensor {what} shape: ", array.shape(x)]
            return Assert(of_nodes(array.rank(x), numbers), shown, summarize)
        if not fits(rank, numbers):
            raise ValueError(f"{message or ''} {what} rank {rank}, shape {x.get_shape()}")
        return no_op("static_checks_determined_all_ok")

    return function


def _known_ranks(ranks: Sequence[Any]) -> list[int]:
    values = [get_static_value(convert_to_tensor(each)) for each in ranks]
    if any(each is None or each.ndim for each in values):
        raise ValueError("Rank must be a known scalar.")
    return [int(each) for each in values]


def _is_one_of(rank: Tensor, numbers: list[int]) -> Tensor:
    return functools.reduce(direct.logical_or, [direct.equal(rank, number) for number in numbers])


assert_rank = _ranking("assert_rank", "rank", lambda rank, numbers: rank in numbers, _is_one_of)
assert_rank_in = _ranking("assert_rank_in", "a rank of", lambda rank, numbers: rank in numbers, _is_one_of)
assert_rank_at_least = _ranking(
    "assert_rank_at_least",
    "at least rank",
    lambda rank, numbers: rank >= numbers[0],
    lambda rank, numbers: direct.greater_equal(rank, numbers[0]),
)


@public("assert_type(tensor, tf_type, message=None, name)")
def assert_type(tensor: Any, tf_type: DType, message: str | None, name: str | None) -> Operation:
    """Check the type of a tensor.

    Returns: A no-op operation.

    Raises:
        TypeError: The tensor has another type.
    """
    tensor = tensor if isinstance(tensor, SparseTensor) else convert_to_tensor(tensor, name="tensor")
    if tensor.dtype != tf_type:
        raise TypeError(f"{message or ''} {tensor.name} must be of type {tf_type.name}, got {tensor.dtype.name}")
    return no_op(name or "statically_determined_correct_type")


@public("assert_integer(x, message=None, name)")
def assert_integer(x: Tensor, message: str | None, name: str | None) -> Operation:
    """Check that a tensor has an integer type.

    Returns: A no-op operation.

    Raises:
        TypeError: The type is not an integer type.
    """
    if not x.dtype.is_integer:
        raise TypeError(f"{message or ''} Expected {x.name} to be integer type. Found: {x.dtype.name}")
    return no_op(name or "statically_determined_was_integer")


@public("assert_scalar(tensor, name, message=None)")
def assert_scalar(tensor: Tensor, message: str | None) -> Tensor:
    """Check that a tensor has no axes.

    Returns: The tensor.

    Raises:
        ValueError: The tensor has axes.
    """
    if tensor.ndim != 0:
        raise ValueError(f"{message or ''} Expected a scalar, got {tensor!r} of shape {tensor.shape}")
    return tensor


@public("is_numeric_tensor(...)")
def is_numeric_tensor(tensor: Any) -> bool:
    """Return whether an object is a tensor with a numeric type."""
    kind = getattr(tensor, "dtype", None)
    return isinstance(tensor, Tensor) and kind is not None and (kind.is_integer or kind.is_floating or kind.is_complex)
