"""Execution order and side effects: groups, dependencies, printing, assertions."""

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.system.program_streams import flush_streams, write_error
from mpqueue.tf1.compat.functions.array import identity
from mpqueue.tf1.compat.functions.declare import of_default_graph, public
from mpqueue.tf1.compat.functions.kernels import of_values, with_own
from mpqueue.tf1.compat.graph import Operation, SparseTensor, Tensor, convert_to_tensor, custom
from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.infer import invalid
from mpqueue.tf1.compat.ops.literals import leaves
from mpqueue.tf1.runs.rules import per_row

control_dependencies = of_default_graph("control_dependencies")
container = of_default_graph("container")
device = of_default_graph("device")
colocate_with = of_default_graph("colocate_with")


@public("no_op(...)")
def no_op(name: str | None = None) -> Operation:
    """Return a no-op operation, for use with control dependencies."""
    return custom("NoOp", (), (), lambda _run, _inputs: (), name=name, rule=per_row)


@public("group(...)")
def group(*inputs: Any, name: str | None = None) -> Operation:
    """Return an operation that runs all of ``inputs``.

    Raises:
        TypeError: An input is not a node.
    """
    nodes = list(leaves(list(inputs)))
    for each in nodes:
        if not hasattr(each, "device") and not isinstance(each, SparseTensor):
            raise TypeError(f"Expected tensors and operations in group, got {each!r} of type {type(each).__name__}")
    with control_dependencies([each.op if isinstance(each, SparseTensor) else each for each in nodes]):
        return no_op(name or "group_deps")


@public("tuple(tensors, name, control_inputs=None)", scope="tuple")
def tuple(tensors: Sequence[Any], control_inputs: Any) -> list[Any]:
    """Return the same tensors, which become available together, after all of them are computed.

    Raises:
        ValueError: No entry is a node.
    """
    nodes = [each if each is None or isinstance(each, Operation) else convert_to_tensor(each) for each in tensors]
    if not any(each is not None for each in nodes):
        raise ValueError(f"'tensors' must have at least one Tensor. Received: {tensors}.")
    gate = group(*(each for each in nodes if each is not None), *(control_inputs or ()))
    with control_dependencies([gate]):
        return [
            each if each is None else group(each) if isinstance(each, Operation) else identity(each) for each in nodes
        ]


def with_dependencies(dependencies: Any, output_tensor: Any, name: str | None = None) -> Any:
    """Return the same value, computed after other nodes have run."""
    with control_dependencies(dependencies):
        return identity(output_tensor, name or "control_dependency")


def _summary(value: np.ndarray, summarize: int | None) -> str:
    """Return the first entries of an array, in TensorFlow's format: ``[1 2 3...]``."""
    limit = 3 if summarize is None else value.size if summarize < 0 else summarize
    items = [_text(item) for item in value.reshape(-1)[:limit].tolist()]
    more = "..." if value.size > limit else ""
    return f"[{' '.join(items)}{more}]" if value.ndim else " ".join(items)


def _text(item: Any) -> str:
    if isinstance(item, bytes):
        return item.decode("utf-8", "backslashreplace")
    return f"{item:g}" if isinstance(item, float) else str(int(item) if isinstance(item, bool) else item)


def _check_list(data: Any) -> None:
    if not isinstance(data, list | builtins.tuple):
        raise TypeError(f"Expected a list of tensors, got {data!r}")


@public("Print(input_, data, message=None, first_n=None, summarize=None, name)")
def Print(
    input_: Any, data: Sequence[Any], message: str | None, first_n: int | None, summarize: int | None, name: str | None
) -> Tensor:
    """Return the same value, and print other values to stderr whenever it is computed.

    Args:
        input_: The value.
        data: List of tensors to print.
        message: Printed before them.
        first_n: Maximum number of times to print per session.
        summarize: Number of entries of each tensor to print; 3 by default, all if negative.
    """
    _check_list(data)
    value = convert_to_tensor(input_)
    shown = [convert_to_tensor(each) for each in data]

    def printed(times: list[int], value: np.ndarray, *values: np.ndarray) -> np.ndarray:
        times[0] += 1
        if first_n is None or first_n < 0 or times[0] <= first_n:
            line = (message or "") + "".join(f"[{_summary(each, summarize)}]" for each in values)
            write_error(line + "\n")
            flush_streams()
        return value

    output = (value.dtype.base_dtype, value.known_dims)
    return with_own("Print", [value, *shown], [output], lambda: [0], printed, name=name).outputs[0]


@public("Assert(...)")
def Assert(condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None) -> Operation:
    """Return an operation that raises `InvalidArgumentError` with ``data`` in its message if the condition is False.

    Args:
        condition: A bool tensor.
        data: List of tensors and strings for the message.
        summarize: Number of entries of each tensor to show; 3 by default.

    Raises:
        TypeError: ``condition`` is not bool, or ``data`` is not a list.
        ValueError: ``data`` is empty.
    """
    holds = convert_to_tensor(condition, name="condition")
    if holds.dtype != dtypes.bool_:
        raise TypeError(f"The condition of Assert must be a bool tensor, got {holds!r}")
    _check_list(data)
    if not data:
        raise ValueError("data of Assert must have at least one entry")
    shown = [convert_to_tensor(each) for each in data]

    def check(holds: np.ndarray, *values: np.ndarray) -> None:
        if not holds.all():
            invalid(f"assertion failed: {' '.join(_summary(each, summarize) for each in values)}")

    return custom("Assert", [holds, *shown], (), of_values(check), name=name, rule=per_row)
