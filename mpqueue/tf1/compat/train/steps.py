"""The global step: a variable that counts training steps."""

from typing import Any

from mpqueue.tf1.compat.functions.keys import GraphKeys
from mpqueue.tf1.compat.functions.variables import Variable
from mpqueue.tf1.compat.graph import Graph, Tensor, get_default_graph
from mpqueue.tf1.compat.ops import dtypes


def get_global_step(graph: Graph | None = None) -> Any:
    """Return the global step of a graph, or None.

    Raises:
        TypeError: The node of that name is not an integer scalar.
    """
    graph = graph or get_default_graph()
    steps = graph.get_collection(GraphKeys.GLOBAL_STEP)
    if len(steps) > 1:
        return None
    try:
        step = steps[0] if steps else graph.get_tensor_by_name("global_step:0")
    except KeyError:
        return None
    assert_global_step(step)
    return step


def create_global_step(graph: Graph | None = None) -> Variable:
    """Create the global step of a graph, a global int64 variable with initial value 0.

    Raises:
        ValueError: The graph has a global step already.
    """
    graph = graph or get_default_graph()
    if get_global_step(graph) is not None:
        raise ValueError('"global_step" already exists.')
    collections = [GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP]
    with graph.as_default(), graph.name_scope(None):
        return Variable(0, trainable=False, collections=collections, name="global_step", dtype=dtypes.int64)


def get_or_create_global_step(graph: Graph | None = None) -> Any:
    """Return the global step of a graph; create it if it does not exist."""
    step = get_global_step(graph)
    return create_global_step(graph) if step is None else step


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """Return the value of the global step in a session."""
    return int(sess.run(global_step_tensor))


def assert_global_step(global_step_tensor: Any) -> None:
    """Check that a node can be a global step.

    Raises:
        TypeError: The node is not an integer scalar.
    """
    if not isinstance(global_step_tensor, Tensor | Variable):
        raise TypeError(f"The global step must be a variable or tensor, got {global_step_tensor!r}")
    if not global_step_tensor.dtype.base_dtype.is_integer:
        raise TypeError(f"The global step must be an integer, got {global_step_tensor!r}")
    shape = global_step_tensor.get_shape()
    if shape.is_fully_defined() and shape.ndims:
        raise TypeError(f"The global step must be a scalar, got {global_step_tensor!r}")
