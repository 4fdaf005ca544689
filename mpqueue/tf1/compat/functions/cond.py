"""Conditional execution of one of two parts of a graph."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mpqueue.tf1.compat.functions.control import with_dependencies
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.graph import Operation, SparseTensor, Tensor, convert_to_tensor, get_default_graph
from mpqueue.tf1.compat.graph.branch import Branch, merged_node
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import with_rank
from mpqueue.tf1.compat.ops.literals import leaves, mapped


@public("cond(...)")
def cond(
    pred: Any,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: bool = False,
    name: str | None = None,
    fn1: Callable[[], Any] | None = None,
    fn2: Callable[[], Any] | None = None,
) -> Any:
    """Return the nodes of one of two functions, chosen by a scalar bool at run time.

    Both functions are called immediately. Only nodes that the function of the chosen branch created are run. Nodes
    created outside the functions are always run.

    Args:
        pred: A scalar bool tensor.
        true_fn: Function that returns the result for True: nodes, or lists, tuples and dicts of them.
        false_fn: Function that returns the result for False, in the same structure and with the same types.
        strict: If True, keep a list with one entry as a list instead of returning the entry.
        fn1: Old name of ``true_fn``.
        fn2: Old name of ``false_fn``.

    Raises:
        TypeError: ``pred`` is a Python bool or not a bool at all, or a function is missing or not callable.
        ValueError: ``pred`` is not a scalar, a result is None or empty, or the results differ in structure or types.
    """
    functions = _both(true_fn, fn1, "true_fn"), _both(false_fn, fn2, "false_fn")
    graph = get_default_graph()
    with graph.name_scope(name or "cond"):
        if isinstance(pred, bool):
            raise TypeError("pred must be a bool tensor, got a Python bool: use an if statement instead")
        chosen = convert_to_tensor(pred)
        if chosen.dtype != dtypes.bool_:
            raise TypeError(f"pred must be a bool tensor, got {chosen!r}")
        with_rank(chosen.known_dims, 0, "pred")
        branches = [Branch(graph) for _ in functions]
        results = [_called(branch, function) for branch, function in zip(branches, functions, strict=True)]
        if not strict:
            results = [each[0] if isinstance(each, list | tuple) and len(each) == 1 else each for each in results]
        outputs = [_flat_nodes(each) for each in results]
        _check_alike(*results)
        if not outputs[0]:
            raise ValueError("true_fn and false_fn must return at least one result.")
        for one, two in zip(*outputs, strict=True):
            if one.dtype.base_dtype is not two.dtype.base_dtype:
                raise ValueError(f"true_fn and false_fn must return the same types, got {one!r} and {two!r}")
        merged = merged_node(chosen, branches, outputs)
        return _packed(results[0], results[1], list(merged.outputs))


def _check_alike(one: Any, two: Any) -> None:
    for kinds, error in ((False, ValueError), (True, TypeError)):
        if _structure(one, kinds=kinds) != _structure(two, kinds=kinds):
            raise error(f"true_fn and false_fn must return the same structure, got {one!r} and {two!r}")


def _both(new: Callable[[], Any] | None, old: Callable[[], Any] | None, what: str) -> Callable[[], Any]:
    if old is not None and new is not None:
        raise TypeError(f"cond() got both {what} and its old name: pass only one")
    function = new or old
    if not callable(function):
        raise TypeError(f"cond(): {what} must be a function, got {function!r}")
    return function


def _called(branch: Branch, function: Callable[[], Any]) -> Any:
    with branch.entered():
        result = function()
        if result is None:
            raise ValueError("The functions of cond must return a value, got None")
        return mapped(_as_node, result)


def _as_node(result: Any) -> Any:
    """Convert a result to a tensor; an operation becomes a value that depends on it."""
    if isinstance(result, Operation):
        return with_dependencies([result], np.True_)
    return result if isinstance(result, SparseTensor) else convert_to_tensor(result)


def _flat_nodes(result: Any) -> list[Tensor]:
    return [each for leaf in leaves(result) for each in (leaf.parts if isinstance(leaf, SparseTensor) else [leaf])]


def _structure(result: Any, *, kinds: bool) -> Any:
    """Return the nesting of a result; with ``kinds``, including the classes of its sequences."""
    if isinstance(result, list | tuple):
        return kinds and type(result), [_structure(each, kinds=kinds) for each in result]
    if isinstance(result, dict):
        return {key: _structure(each, kinds=kinds) for key, each in result.items()}
    return type(result) is SparseTensor


def _packed(one: Any, two: Any, flat: list[Tensor]) -> Any:
    """Pack the merged nodes into the common structure of both results."""

    def take(a: Any, b: Any) -> Any:
        if not isinstance(a, SparseTensor):
            return flat.pop(0)
        made = SparseTensor(flat.pop(0), flat.pop(0), flat.pop(0))
        return made.with_known_shape(a.shape.most_specific_compatible_shape(b.shape).known)

    return mapped(take, one, two)
