"""Creation of nodes from tensors: constants, operations of the table, and operations with a custom kernel."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Unpack

import numpy as np

from mpqueue.errors import InvalidArgumentError, OpError
from mpqueue.tf1.compat.graph.nodes import Entries, Graph, Kernel, Operation, Tensor, Traits, get_default_graph
from mpqueue.tf1.compat.graph.state import Running
from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype
from mpqueue.tf1.compat.ops.infer import Constant
from mpqueue.tf1.compat.ops.registry import Op
from mpqueue.tf1.runs.rules import per_row

_REFUSALS: Final = (ValueError, IndexError, TypeError)  # NumPy's errors for incompatible arrays

Group = Tensor | list[Tensor]  # one input of an operation of the table


def graph_of(values: Iterable[Any]) -> Graph:
    """Return the graph that the nodes among ``values`` belong to, or the default graph if there are no nodes.

    Raises:
        ValueError: The nodes belong to different graphs.
    """
    found: Graph | None = None
    for value in values:
        graph = getattr(value, "graph", None)
        if not isinstance(graph, Graph):
            continue
        if found is not None and graph is not found:
            raise ValueError(f"{value!r} must be from the same graph as the other inputs.")
        found = graph
    return found or get_default_graph()


def custom(
    kind: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[tuple[DType, Dims]],
    kernel: Kernel,
    *,
    name: str | None = None,
    **traits: Unpack[Traits],
) -> Operation:
    """Create a node with a custom kernel: an operation with state, that blocks, or that is not a function of arrays."""
    graph = graph_of(inputs)
    return graph.add(lambda unique: Operation(graph, unique, kind, inputs, outputs, kernel, **traits), name or kind)


def node_of(array: np.ndarray, name: str) -> Tensor:
    """Create a constant node from the current values of an array."""
    frozen = np.array(array, order="C")  # a copy, because the caller may modify the original
    frozen.flags.writeable = False
    dtype = as_dtype(array.dtype)
    attributes = {"dtype": dtype, "value": frozen}
    traits: Traits = {"entries": lambda _place: frozen, "attributes": attributes, "rule": per_row}
    kind = [(dtype, frozen.shape)]
    return custom("Const", (), kind, lambda _run, _inputs: (frozen,), name=name, **traits).outputs[0]


def table_node(
    definition: Op, groups: Sequence[Group], outputs: Sequence[DType], attributes: dict[str, Any], name: str
) -> Operation:
    """Create the node of an operation of the table from tensors of matching types.

    Args:
        definition: The operation.
        groups: The inputs; a list for an input that takes several tensors.
        outputs: The types of the outputs.
        attributes: The attributes.
        name: A new name, or a scope ending in "/" to be used as the name.

    Raises:
        ValueError: The shapes are incompatible.
    """
    tensors = [each for group in groups for each in (group if isinstance(group, list) else [group])]
    dims = definition.infer(*groups, **attributes)
    shapes = dims if isinstance(dims, list) else [dims] * len(outputs)
    kernel = _kernel(definition, [len(group) if isinstance(group, list) else None for group in groups], attributes)
    entries = _entries(definition, groups, attributes)
    traits: Traits = {"entries": entries, "attributes": attributes, "rule": definition.rows}
    return custom(definition.name, tensors, list(zip(outputs, shapes, strict=True)), kernel, name=name, **traits)


def _kernel(definition: Op, lengths: list[int | None], attributes: dict[str, Any]) -> Kernel:
    compute, several, grouped = definition.compute, _has_several(definition), _grouper(lengths)

    def kernel(_run: Running, values: list[np.ndarray], **changes: Any) -> Sequence[np.ndarray]:
        # Rules for many records change attributes, such as the axis. Runs of a session never do.
        try:
            out = compute(*grouped(values), **(attributes | changes if changes else attributes))
            return [array_of(each) for each in out] if several else (array_of(out),)
        except _REFUSALS as error:
            raise _refused(definition.infer, grouped(values), attributes, error) from error

    return kernel


def _has_several(definition: Op) -> bool:
    """Return whether the function returns a sequence of outputs."""
    return len(definition.outputs) != 1 or bool(definition.outputs[0].number)


def _refused(
    infer: Callable[..., Any], inputs: Sequence[Any], attributes: dict[str, Any], error: Exception
) -> Exception:
    """Return the error to raise for a NumPy error: shape inference may give a clearer reason."""
    if isinstance(error, OpError):
        return error
    known = [[Constant(one) for one in each] if isinstance(each, list) else Constant(each) for each in inputs]
    try:
        infer(*known, **attributes)
    except ValueError as reason:
        return InvalidArgumentError(None, None, str(reason))
    return InvalidArgumentError(None, None, str(error)) if isinstance(error, ValueError) else error


def array_of(value: Any) -> np.ndarray:
    """Convert the result of a function over arrays to an array; ``bytes`` are strings, in an array of objects."""
    return np.asarray(value, object if isinstance(value, bytes) else None)


def _grouper(lengths: list[int | None]) -> Callable[[list[Any]], list[Any]]:
    if all(length is None for length in lengths):
        return lambda values: values

    def grouped(values: list[Any]) -> list[Any]:
        rest = iter(values)
        return [next(rest) if length is None else [next(rest) for _ in range(length)] for length in lengths]

    return grouped


def _entries(definition: Op, groups: Sequence[Group], attributes: dict[str, Any]) -> Entries:
    """Return a function for static output values: exact if all inputs are known, otherwise as the table infers them."""
    folded: list[np.ndarray] = []

    def find(place: int) -> np.ndarray | None:
        # Computed on first use and cached: most values are never requested, and each costs a computation.
        if not folded and definition.pure:
            folded.extend(_folded(definition, groups, attributes))
        if folded:
            return folded[place]
        return definition.entries(*groups, **attributes) if definition.entries else None

    return find


def _folded(definition: Op, groups: Sequence[Group], attributes: dict[str, Any]) -> list[np.ndarray]:
    values = [_known(group) for group in groups]
    if any(each is None for each in values):
        return []
    try:
        with np.errstate(all="ignore"):
            out = definition.compute(*values, **attributes)
    except (OpError, *_REFUSALS):
        return []  # the error is raised again when the node is run
    return [array_of(each) for each in (out if _has_several(definition) else [out])]


def _known(group: Group) -> Any:
    if isinstance(group, list):
        values = [each.known_value() for each in group]
        return None if any(each is None for each in values) else values
    return group.known_value()
