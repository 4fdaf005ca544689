"""The default graph: the innermost one that this thread has entered, else one global graph."""

from mpqueue.tf1.compat.graph.nodes import Graph
from mpqueue.tf1.compat.graph.scopes import graphs

__all__ = ["Graph", "get_default_graph", "reset_default_graph"]

_global_graph = Graph()


def get_default_graph() -> Graph:
    """The graph in which nodes are made now, in this thread.

    Follows: ``tf.get_default_graph``.
    """
    return graphs.innermost or _global_graph


def reset_default_graph() -> None:
    """Begin a new global graph; nodes of the old one can no longer be mixed with new ones.

    Raises:
        AssertionError: A graph is entered by ``as_default()``.

    Follows: ``tf.reset_default_graph``.
    """
    global _global_graph
    if graphs.innermost is not None:
        raise AssertionError(
            "Do not use tf.reset_default_graph() to clear nested graphs. If you need a cleared graph, exit the nesting "
            "and create a new graph."
        )
    _global_graph = Graph()
