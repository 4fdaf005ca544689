"""Operations of the table with arbitrary values as inputs, converted to the types that the signature requires."""

from typing import Any

from mpqueue.tf1.compat.graph.convert import convert_all, convert_to_tensor
from mpqueue.tf1.compat.graph.make import Group, graph_of, table_node
from mpqueue.tf1.compat.graph.nodes import Operation, Tensor
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype
from mpqueue.tf1.compat.ops.literals import leaves
from mpqueue.tf1.compat.ops.registry import Arg, Op, Types, is_type_name
from mpqueue.tf1.compat.ops.table import TABLE


def make(kind: str, *inputs: Any, name: str | None = None, **attributes: Any) -> Operation:
    """Create the node of an operation of the table.

    Args:
        kind: Name of the operation in the table.
        inputs: Tensors, or values that can be converted to tensors.
        name: Name of the node. If None, the name of the operation.
        attributes: Attributes of the operation.

    Raises:
        TypeError: The type of an input does not match the signature.
        ValueError: The shapes do not match, or the inputs belong to different graphs.
    """
    definition = TABLE[kind]
    attributes = {**definition.defaults, **attributes}
    graph = graph_of(leaves(inputs))
    # Plain values become constants. These must be in the graph of the nodes, not in the default graph.
    with graph.as_default(), graph.name_scope(name or kind) as scope:
        types = _Types(definition)
        groups = [types.convert(arg, value) for arg, value in zip(definition.inputs, inputs, strict=True)]
        made = table_node(definition, groups, types.outputs(attributes), attributes, scope)
        # Scripts query the inferred types of TensorFlow's nodes, such as `get_attr("T")`.
        made.attributes = {**made.attributes, **types.found}
    return made


def apply(kind: str, *inputs: Any, name: str | None = None, **attributes: Any) -> Tensor:
    """Create a node and return its only output."""
    (output,) = make(kind, *inputs, name=name, **attributes).outputs
    return output


def apply_many(kind: str, *inputs: Any, name: str | None = None, **attributes: Any) -> list[Tensor]:
    """Create a node and return all its outputs."""
    return make(kind, *inputs, name=name, **attributes).outputs


class _Types:
    """The type variables of one node, inferred while its inputs are converted from left to right."""

    def __init__(self, definition: Op) -> None:
        self._definition = definition
        self.found: dict[str, DType] = {}
        self._decided_by: dict[str, str] = {}

    def convert(self, arg: Arg, value: Any) -> Group:
        if arg.number == "*":
            _check_list(arg, value)
            return [convert_to_tensor(each) for each in value]
        return self._convert_list(arg, value) if arg.number else self._convert_one(arg, value)

    def _convert_one(self, arg: Arg, value: Any) -> Tensor:
        expected = self._expected(arg)
        choice = self._definition.variables.get(arg.type)
        try:
            if expected is None and choice is not None and choice.preferred is not None:
                tensor = _preferring(value, arg.name, choice)
            else:
                tensor = convert_to_tensor(value, expected, arg.name)
        except TypeError as error:
            if expected is None:
                raise
            raise TypeError(f"{self._what(arg)} must be of type {expected.name}, got {value!r}: {error}") from error
        # The value is a tensor of a different type. A value that cannot become an array raises its own error here.
        except ValueError:
            observed = convert_to_tensor(value).dtype
            raise TypeError(self._mismatch(arg, observed, expected)) from None
        self._settle(arg, tensor.dtype.base_dtype)
        return tensor

    def _convert_list(self, arg: Arg, values: Any) -> list[Tensor]:
        _check_list(arg, values)
        if not values:
            raise ValueError(f"{self._what(arg)} must be a list with at least one entry")
        # The first tensor in the list decides the type of plain values, including those before it.
        expected = self._expected(arg) or next((v.dtype.base_dtype for v in values if isinstance(v, Tensor)), None)
        try:
            tensors = convert_all(values, expected, arg.name)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{self._what(arg)} must all have one type: {error}") from error
        kinds = {each.dtype.base_dtype for each in tensors}
        if len(kinds) > 1:
            names = [each.dtype.base_dtype.name for each in tensors]
            raise TypeError(f"{self._what(arg)} must all have one type, got {names}")
        self._settle(arg, kinds.pop())
        return tensors

    def _expected(self, arg: Arg) -> DType | None:
        return as_dtype(arg.type) if is_type_name(arg.type) else self.found.get(arg.type)

    def _settle(self, arg: Arg, dtype: DType) -> None:
        if is_type_name(arg.type):
            return
        choice = self._definition.variables.get(arg.type)
        if choice is not None and dtype not in choice.allowed:
            names = ", ".join(each.name for each in choice.allowed)
            raise TypeError(f"{self._what(arg)} has type {dtype.name}, expected one of {names}")
        if self.found.setdefault(arg.type, dtype) is not dtype:
            raise TypeError(self._mismatch(arg, dtype, self.found[arg.type]))
        self._decided_by.setdefault(arg.type, arg.name)

    def _mismatch(self, arg: Arg, observed: DType, expected: DType | None) -> str:
        by = self._decided_by.get(arg.type)
        source = f" of input {by!r}; cast one input" if by else ""
        return (
            f"{self._what(arg)} has type {observed.name} that does not match type {expected and expected.name}{source}"
        )

    def _what(self, arg: Arg) -> str:
        return f"Input {arg.name!r} of {self._definition.name!r}"

    def outputs(self, attributes: dict[str, Any]) -> list[DType]:
        out: list[DType] = []
        for arg in self._definition.outputs:
            if arg.number == "*":
                out += attributes[arg.type]
                continue
            dtype = self._expected(arg) or attributes[arg.type]
            out += [dtype] * (attributes[arg.number] if arg.number else 1)
        return out


def _check_list(arg: Arg, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise TypeError(f"Expected a list or tuple for {arg.name!r}, got {value!r}")


def _preferring(value: Any, name: str, choice: Types) -> Tensor:
    """Convert a value to its natural type if that is allowed, and otherwise to the preferred type if possible."""
    try:
        tensor = convert_to_tensor(value, None, name)
        if tensor.dtype.base_dtype in choice.allowed:
            return tensor
    except TypeError:
        pass  # a list of Dimension objects has no type until one is requested
    return convert_to_tensor(value, None, name, preferred_dtype=choice.preferred)
