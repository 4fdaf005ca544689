"""Making nodes of the table out of any values, with the types that the signature asks for."""

from typing import Any

from mpqueue.tf1.compat.graph.convert import convert_all, convert_to_tensor
from mpqueue.tf1.compat.graph.make import Group, graph_of, table_node
from mpqueue.tf1.compat.graph.nodes import Operation, Tensor
from mpqueue.tf1.compat.ops.dtypes import DType, as_dtype
from mpqueue.tf1.compat.ops.literals import leaves
from mpqueue.tf1.compat.ops.registry import Arg, Op, Types, is_type_name
from mpqueue.tf1.compat.ops.table import TABLE


def make(kind: str, *inputs: Any, name: str | None = None, **attributes: Any) -> Operation:
    """Make the node of an operation of the table.

    Args:
        kind: Its name there.
        inputs: Its inputs: tensors, or anything that can be made one.
        name: The node's name, default the operation's.
        attributes: Its attributes.

    Raises:
        TypeError: A type does not fit.
        ValueError: A shape does not fit, or the inputs are of different graphs.
    """
    definition = TABLE[kind]
    attributes = {**definition.defaults, **attributes}
    graph = graph_of(leaves(inputs))
    # Values beside the nodes become constants, which must be in the graph of these and not in the default one.
    with graph.as_default(), graph.name_scope(name or kind) as scope:
        types = _Types(definition)
        groups = [types.convert(arg, value) for arg, value in zip(definition.inputs, inputs, strict=True)]
        made = table_node(definition, groups, types.outputs(attributes), attributes, scope)
        # For `get_attr("T")` and the like, which scripts ask of TensorFlow's nodes.
        made.attributes = {**made.attributes, **types.found}
    return made


def apply(kind: str, *inputs: Any, name: str | None = None, **attributes: Any) -> Tensor:
    """The only output of such a node."""
    (output,) = make(kind, *inputs, name=name, **attributes).outputs
    return output


def apply_many(kind: str, *inputs: Any, name: str | None = None, **attributes: Any) -> list[Tensor]:
    """All outputs of such a node."""
    return make(kind, *inputs, name=name, **attributes).outputs


class _Types:
    """Finding what the type variables of one node are, while its inputs are converted from left to right."""

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
        wanted = self._wanted(arg)
        choice = self._definition.variables.get(arg.type)
        try:
            if wanted is None and choice is not None and choice.preferred is not None:
                tensor = _preferring(value, arg.name, choice)
            else:
                tensor = convert_to_tensor(value, wanted, arg.name)
        except TypeError as error:
            if wanted is None:
                raise
            raise TypeError(f"{self._what(arg)} must be of type {wanted.name}, got {value!r}: {error}") from error
        # A node of another type. (A value that makes no array at all raises its own error here.)
        except ValueError:
            observed = convert_to_tensor(value).dtype
            raise TypeError(self._mismatch(arg, observed, wanted)) from None
        self._settle(arg, tensor.dtype.base_dtype)
        return tensor

    def _convert_list(self, arg: Arg, values: Any) -> list[Tensor]:
        _check_list(arg, values)
        if not values:
            raise ValueError(f"{self._what(arg)} must be a list with at least one entry")
        # The first node of the list decides for plain values, also for those before it.
        wanted = self._wanted(arg) or next((v.dtype.base_dtype for v in values if isinstance(v, Tensor)), None)
        try:
            tensors = convert_all(values, wanted, arg.name)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{self._what(arg)} must all have one type: {error}") from error
        kinds = {each.dtype.base_dtype for each in tensors}
        if len(kinds) > 1:
            names = [each.dtype.base_dtype.name for each in tensors]
            raise TypeError(f"{self._what(arg)} must all have one type, got {names}")
        self._settle(arg, kinds.pop())
        return tensors

    def _wanted(self, arg: Arg) -> DType | None:
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

    def _mismatch(self, arg: Arg, observed: DType, wanted: DType | None) -> str:
        by = self._decided_by.get(arg.type)
        source = f" of input {by!r}; cast one of them" if by else ""
        return f"{self._what(arg)} has type {observed.name} that does not match type {wanted and wanted.name}{source}"

    def _what(self, arg: Arg) -> str:
        return f"Input {arg.name!r} of {self._definition.name!r}"

    def outputs(self, attributes: dict[str, Any]) -> list[DType]:
        out: list[DType] = []
        for arg in self._definition.outputs:
            if arg.number == "*":
                out += attributes[arg.type]
                continue
            dtype = self._wanted(arg) or attributes[arg.type]
            out += [dtype] * (attributes[arg.number] if arg.number else 1)
        return out


def _check_list(arg: Arg, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise TypeError(f"expected a list for {arg.name!r}, got {value!r}")


def _preferring(value: Any, name: str, choice: Types) -> Tensor:
    """The type that the value has, if it is allowed; else the preferred one, if it can be had."""
    try:
        tensor = convert_to_tensor(value, None, name)
        if tensor.dtype.base_dtype in choice.allowed:
            return tensor
    except TypeError:
        pass  # a list of Dimension objects has no type before one is asked for
    return convert_to_tensor(value, None, name, preferred_dtype=choice.preferred)
