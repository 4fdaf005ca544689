"""Fetches: nested structures of nodes, taken apart before a run and put together, with values, after it."""

from collections.abc import Callable, Mapping
from typing import Any

from mpqueue.compat.graph.graph import Graph
from mpqueue.compat.graph.nodes import Operation, Tensor
from mpqueue.compat.graph.sparse import SparseTensor
from mpqueue.values.sparse import SparseTensorValue

Build = Callable[[Mapping[Tensor, Any]], Any]


class Fetches:
    """The nodes of one structure, and how to put their values into its place.

    Args:
        graph: Where the nodes belong.
        structure: A node, a variable, the name of a node, or lists, tuples, named tuples and dicts of them.

    Raises:
        TypeError: Something in it is no node.
        ValueError: A node of another graph, or a name that does not exist.
    """

    def __init__(self, graph: Graph, structure: Any) -> None:
        self._graph = graph
        self.targets: list[Tensor | Operation] = []
        self.build: Build = self._builder(structure)

    def _builder(self, structure: Any) -> Build:
        if structure is None:
            raise TypeError("a fetch must be a node or its name, or lists, tuples and dicts of them; got None")
        if isinstance(structure, list | tuple):
            parts = [self._builder(item) for item in structure]
            make = type(structure)._make if hasattr(structure, "_make") else type(structure)
            return lambda values: make(part(values) for part in parts)
        if isinstance(structure, Mapping):
            entries = [(key, self._builder(item)) for key, item in structure.items()]
            kind = type(structure)
            return lambda values: _as_mapping(kind, {key: part(values) for key, part in entries})
        if isinstance(structure, SparseTensor):
            three = [self._node(each) for each in (structure.indices, structure.values, structure.dense_shape)]
            return lambda values: SparseTensorValue(*(part(values) for part in three))
        return self._node(structure)

    def _node(self, fetch: Any) -> Build:
        try:
            element = self._graph.as_graph_element(fetch)
        except TypeError as error:
            raise TypeError(f"Argument `fetch` = {fetch!r} has invalid type: {error}") from None
        except (ValueError, KeyError) as error:
            raise ValueError(f"Argument `fetch` = {fetch!r} cannot be interpreted as a Tensor. ({error})") from None
        self.targets.append(element)
        if isinstance(element, Operation):
            return lambda _values: None
        return lambda values: values[element]


def _as_mapping(kind: type, entries: dict[Any, Any]) -> Any:
    return entries if kind is dict else kind(entries)
