"""Choosing between two parts of a graph at run time."""

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
    """The nodes that one of two functions made, chosen by a scalar bool at run time.

    Both functions are called now; of the nodes that they make, only those of the branch taken are run. Nodes made
    before are run in any case.

    Args:
        pred: A scalar bool tensor.
        true_fn: Makes the result for True: nodes, or lists, tuples and dicts of them.
        false_fn: Makes the result for False, in the same structure and of the same types.
        strict: Keep a list of one as it is, instead of giving its only entry.
        fn1: Old name of ``true_fn``.
        fn2: Old name of ``false_fn``.

    Raises:
        TypeError: ``pred`` is a Python bool or no bool at all, or a function is missing or no function.
        ValueError: ``pred`` is no scalar, a result is None or empty, or the two differ in structure or types.
    """
    functions = _both(true_fn, fn1, "true_fn"), _both(false_fn, fn2, "false_fn")
    graph = get_default_graph()
    with graph.name_scope(name or "cond"):
        if isinstance(pred, bool):
            raise TypeError("pred must not be a Python bool: write an if")
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
                raise ValueError(f"true_fn and false_fn must give the same types, got {one!r} and {two!r}")
        merged = merged_node(chosen, branches, outputs)
        return _packed(results[0], results[1], list(merged.outputs))


def _check_alike(one: Any, two: Any) -> None:
    for kinds, error in ((False, ValueError), (True, TypeError)):
        if _structure(one, kinds=kinds) != _structure(two, kinds=kinds):
            raise error(f"true_fn and false_fn must give the same structure, got {one!r} and {two!r}")


def _both(new: Any, old: Any, what: str) -> Callable[[], Any]:
    if old is not None and new is not None:
        raise TypeError(f"cond(): {what} may not be given under its old name, too")
    function = new or old
    if not callable(function):
        raise TypeError(f"cond(): {what} must be a function, got {function!r}")
    return function  # type: ignore[no-any-return]


def _called(branch: Branch, function: Callable[[], Any]) -> Any:
    with branch.entered():
        result = function()
        if result is None:
            raise ValueError("the functions of cond must have a return value.")
        return mapped(_as_node, result)


def _as_node(result: Any) -> Any:
    """A tensor; an operation becomes a value that is there when it has run."""
    if isinstance(result, Operation):
        return with_dependencies([result], np.True_)
    return result if isinstance(result, SparseTensor) else convert_to_tensor(result)


def _flat_nodes(result: Any) -> list[Tensor]:
    return [each for leaf in leaves(result) for each in (leaf.parts if isinstance(leaf, SparseTensor) else [leaf])]


def _structure(result: Any, *, kinds: bool) -> Any:
    """The nesting of a result; with ``kinds``, also which classes its sequences are of."""
    if isinstance(result, list | tuple):
        return kinds and type(result), [_structure(each, kinds=kinds) for each in result]
    if isinstance(result, dict):
        return {key: _structure(each, kinds=kinds) for key, each in result.items()}
    return type(result) is SparseTensor


def _packed(one: Any, two: Any, flat: list[Tensor]) -> Any:
    """The merged nodes in the structure of both results."""

    def take(a: Any, b: Any) -> Any:
        if not isinstance(a, SparseTensor):
            return flat.pop(0)
        made = SparseTensor(flat.pop(0), flat.pop(0), flat.pop(0))
        return made.with_known_shape(a.shape.most_specific_compatible_shape(b.shape).known)

    return mapped(take, one, two)
