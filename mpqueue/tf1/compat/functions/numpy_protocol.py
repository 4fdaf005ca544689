"""NumPy functions on nodes return nodes, where NumPy allows overriding them. An extension of TensorFlow's API.

Arithmetic between arrays and nodes follows TensorFlow: the array takes the node's type. Any other function runs in the
session, on the values, by NumPy's rules. To infer the type and shape of the result, the function is called with sample
arrays until two calls succeed: with different values, and with different sizes where a size is unknown. Properties that
both results share are considered known, so ``np.mean(x, axis=1)`` has a static shape and ``np.unique(x)`` has none.

Calls that NumPy does not dispatch (``np.array(node)``, ``float(node)``, ``if node:``) raise `TensorAsValueError`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from mpqueue.tf1.compat.functions.operators import BINARY
from mpqueue.tf1.compat.graph import Running, Tensor, custom
from mpqueue.tf1.compat.graph.run import owned
from mpqueue.tf1.compat.graph.symbolic import TensorAsValueError
from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import as_dtype, string
from mpqueue.tf1.compat.ops.literals import leaves, mapped, to_array

_OPERATORS: Final = {ufunc: name for name, (ufunc, _) in BINARY.items()}
_COMPARISONS: Final[dict[np.ufunc, tuple[str, str]]] = {
    np.less: ("__lt__", "__gt__"),
    np.less_equal: ("__le__", "__ge__"),
    np.greater: ("__gt__", "__lt__"),
    np.greater_equal: ("__ge__", "__le__"),
}
_SINGLE: Final[dict[np.ufunc, str]] = {np.negative: "__neg__", np.absolute: "__abs__", np.invert: "__invert__"}


def array_ufunc(node: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    """Implement ``__array_ufunc__`` for nodes."""
    if options.get("out") is not None:
        raise TensorAsValueError(f"np.{ufunc.__name__} cannot write to an array here: {node!r} has no value yet")
    if method == "__call__" and not options:
        if ufunc in _SINGLE:
            return Tensor.operators[_SINGLE[ufunc]](*inputs)
        left = isinstance(inputs[0], Tensor)
        if ufunc in _OPERATORS:
            name = f"__{'' if left else 'r'}{_OPERATORS[ufunc]}__"
            return Tensor.operators[name](*(inputs if left else inputs[::-1]))
        if ufunc in _COMPARISONS:
            return Tensor.operators[_COMPARISONS[ufunc][not left]](*(inputs if left else inputs[::-1]))
    return deferred(getattr(ufunc, method), f"np.{ufunc.__name__}", inputs, options)


def array_function(
    _node: Tensor, function: Callable[..., Any], _types: Any, args: Sequence[Any], options: dict[str, Any]
) -> Any:
    """Implement ``__array_function__`` for nodes."""
    return deferred(function, f"np.{function.__name__}", args, options)


def deferred(function: Callable[..., Any], name: str, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """Create a node, or a list of nodes, for a call with nodes in its arguments.

    Raises:
        TensorAsValueError: The call fails for arrays of the nodes' types and shapes, or a rank is unknown.
    """
    nodes = list(dict.fromkeys(each for each in leaves([args, options]) if isinstance(each, Tensor)))
    first, second, guessed = _tried_twice(function, name, args, options, nodes)
    several = isinstance(first, tuple | list)
    results = list(zip(first, second, strict=False)) if several else [(first, second)]
    if any(not isinstance(each, np.ndarray | np.generic | int | float | complex) for pair in results for each in pair):
        raise TensorAsValueError(f"{name} must return arrays to be used as a node")

    def kernel(_run: Running, values: list[np.ndarray]) -> list[np.ndarray]:
        arrays = dict(zip(nodes, values, strict=True))
        out = function(*_replaced(args, arrays), **_replaced(options, arrays))
        return [_result(each) for each in (out if several else [out])]

    outputs = [
        (as_dtype(np.asarray(one).dtype), _shared(np.shape(one), np.shape(two), guessed)) for one, two in results
    ]
    made = custom("NumPy", nodes, outputs, kernel, name=name.replace("np.", "numpy_"))
    return list(made.outputs) if several else made.outputs[0]


def _result(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return to_array(array) if as_dtype(array.dtype) is string else owned(array)


def _shared(one: tuple[int, ...], two: tuple[int, ...], guessed: int | None) -> Dims:
    if len(one) != len(two):
        return None
    return tuple(a if a == b and a != guessed else None for a, b in zip(one, two, strict=True))


def _replaced(value: Any, arrays: dict[Tensor, Any]) -> Any:
    return mapped(lambda each: arrays[each] if isinstance(each, Tensor) else each, value)


def _sample(node: Tensor, unknown_size: int, *, counted: bool) -> np.ndarray:
    if node.known_dims is None:
        raise TensorAsValueError(f"NumPy functions need the rank of {node!r}: set it with set_shape")
    shape = tuple(unknown_size if size is None else size for size in node.known_dims)
    numbers = np.arange(np.prod(shape, dtype=int)) if counted else np.ones(np.prod(shape, dtype=int), int)
    if node.dtype == string:
        return np.array([str(number).encode() for number in numbers], object).reshape(shape)
    return numbers.astype(node.dtype.base_dtype.as_numpy_dtype).reshape(shape)


def _trials(nodes: Sequence[Tensor], args: Any) -> Iterator[tuple[int, bool]]:
    """Yield trials: a size for unknown axes, and whether to fill with counting numbers instead of ones."""
    yield from ((2, False), (3, True))
    shapes = [
        *(node.known_dims or () for node in nodes),
        *(each.shape for each in leaves(args) if isinstance(each, np.ndarray)),
    ]
    known = {size for shape in shapes for size in shape if size}
    sizes = [2, 3, *sorted(known - {2, 3}), 1]
    yield from ((size, counted) for size in sizes for counted in (True, False))


def _tried_twice(
    function: Callable[..., Any], name: str, args: Sequence[Any], options: dict[str, Any], nodes: list[Tensor]
) -> tuple[Any, Any, int | None]:
    """Return the results of two successful calls with sample arrays, and the size used if only one succeeded."""
    results: dict[int, Any] = {}
    failure: Exception | None = None
    for size, counted in _trials(nodes, args):
        arrays = {node: _sample(node, size, counted=counted) for node in nodes}
        try:
            with np.errstate(all="ignore"):
                result = function(*_replaced(args, arrays), **_replaced(options, arrays))
        except Exception as error:
            failure = error if failure is None else failure
            continue
        if size not in results and results:
            return results.popitem()[1], result, None
        results[size] = result
    if results:
        ((size, result),) = results.items()
        # A size in the result that equals the sampled size may only reflect that size, so it counts as unknown.
        return result, result, size if any(None in (node.known_dims or ()) for node in nodes) else None
    raise TensorAsValueError(
        f"{name} cannot be applied to {nodes}: it fails for arrays of these types and shapes ({failure}). "
        "Use a function of tf, or tf.py_func."
    ) from failure


Tensor.operators |= {"__array_ufunc__": array_ufunc, "__array_function__": array_function}
