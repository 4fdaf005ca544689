"""The two sides of a run: *feeds* replace the values of tensors, *fetches* are nested structures of nodes to compute.

Fetches are flattened before a run and rebuilt with values after it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from mpqueue.tf1.compat.graph.nodes import Graph, Operation, Tensor
from mpqueue.tf1.compat.graph.sparse import SparseTensor
from mpqueue.tf1.compat.ops.dims import merged
from mpqueue.tf1.compat.ops.infer import invalid
from mpqueue.tf1.values.conversion import feed_array
from mpqueue.values.dtypes import as_dtype
from mpqueue.values.sparse import SparseTensorValue

Build = Callable[[Mapping[Tensor, Any]], Any]


def fed_values(graph: Graph, feed_dict: Any) -> dict[Tensor, np.ndarray]:
    """Return the arrays of a ``feed_dict``, each checked and cast for its tensor.

    Raises:
        TypeError: ``feed_dict`` is not a dict, a key is not a tensor, or a value is a tensor or has the wrong type.
        ValueError: A value has an incompatible shape, or a tensor cannot be fed.
    """
    if feed_dict is None:
        return {}
    if not isinstance(feed_dict, Mapping):
        raise TypeError(f"feed_dict must be a dict from tensors to values, got {feed_dict!r}")
    return {tensor: fed_array(tensor, value) for tensor, value in _pairs(graph, feed_dict)}


def _pairs(graph: Graph, feed_dict: Mapping[Any, Any]) -> Iterator[tuple[Tensor, Any]]:
    for key, value in feed_dict.items():
        if isinstance(key, tuple):
            for each, part in zip(key, value, strict=True):
                yield from _pairs(graph, {each: part})
        elif isinstance(key, SparseTensor):
            yield from zip(key.parts, value, strict=True)
        else:
            yield _tensor(graph, key), value


def _tensor(graph: Graph, key: Any) -> Tensor:
    try:
        tensor = graph.as_graph_element(key, allow_operation=False)
    except (TypeError, ValueError, KeyError) as error:
        raise TypeError(f"Cannot interpret feed_dict key as Tensor: {error}") from None
    assert isinstance(tensor, Tensor)
    return tensor


def fed_array(tensor: Tensor, value: Any) -> np.ndarray:
    """Convert one value to an array of the tensor's type; where possible, a view that shares memory with the value.

    Raises:
        TypeError: The value is a tensor, or an ``int`` that the type cannot represent.
        ValueError: The value has an incompatible shape, or the tensor cannot be fed.
    """
    if isinstance(value, Tensor):
        raise TypeError(f"The value of a feed cannot be a tf.Tensor object: {value!r} for {tensor.name}")
    array = feed_array(value, as_dtype(tensor.dtype.base_dtype), f"the value of {tensor.name}")
    try:
        merged(tensor.known_dims, array.shape)
    except ValueError:
        raise ValueError(
            f"Cannot feed value of shape {array.shape} for Tensor {tensor.name}, which has shape {tensor.shape}"
        ) from None
    # Other nodes were built from its static value, see `static`: they would not reflect the fed value.
    if not tensor.graph.is_feedable(tensor):
        raise ValueError(f"Tensor {tensor.name} may not be fed.")
    return array


def unfed(name: str) -> Any:
    """Raise the error for a placeholder without a fed value."""
    invalid(f"You must feed a value for placeholder tensor {name!r}")


class Fetches:
    """The nodes of a fetched structure, and a function that rebuilds the structure from their values.

    Args:
        graph: The graph of the nodes.
        structure: A node, a variable, the name of a node, or lists, tuples, named tuples and dicts of them.

    Raises:
        TypeError: An entry is not a node.
        ValueError: A node belongs to another graph, or a name does not exist.
    """

    def __init__(self, graph: Graph, structure: Any) -> None:
        self._graph = graph
        self.targets: list[Tensor | Operation] = []
        # Closures instead of a walk over the structure: a callable rebuilds the same structure in every step.
        self.build: Build = self._builder(structure)

    def _builder(self, structure: Any) -> Build:
        if structure is None:
            raise TypeError("Expected a node, a node's name, or lists, tuples and dicts of them as fetches, got None")
        if isinstance(structure, list | tuple):
            parts = [self._builder(item) for item in structure]
            make = type(structure)._make if hasattr(structure, "_make") else type(structure)
            return lambda values: make(part(values) for part in parts)
        if isinstance(structure, Mapping):
            entries = [(key, self._builder(item)) for key, item in structure.items()]
            kind: Any = type(structure)
            if isinstance(structure, defaultdict):
                kind = partial(kind, structure.default_factory)
            return lambda values: kind({key: part(values) for key, part in entries})
        if isinstance(structure, SparseTensor):
            three = [self._node(each) for each in structure.parts]
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
