"""Name scopes."""

from collections.abc import Iterator
from typing import Any

from mpqueue.system.signals.contexts import context_manager
from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.graph.make import graph_of


@public("name_scope(...)")
@context_manager
def name_scope(name: str | None, default_name: str | None = None, values: Any = None) -> Iterator[str]:
    """Prefix the names of new nodes with ``name/``, made unique, in this context.

    Args:
        name: The prefix. If it ends in "/", it is used as is. If None, ``default_name`` is used, or no prefix.
        default_name: Used if ``name`` is None.
        values: Nodes; new nodes are created in their graph.

    Yields: The prefix, ending in "/".

    Raises:
        ValueError: ``values`` are passed without a name.
        TypeError: ``default_name`` is not a ``str``.
    """
    if default_name is not None and not isinstance(default_name, str):
        raise TypeError(f"default_name must be a str, got {default_name!r}: pass values as the parameter values")
    prefix = default_name if name is None else name
    if prefix is None and values is not None:
        raise ValueError("At least one of name and default_name must be given.")
    graph = graph_of(values or ())
    with graph.as_default(), graph.name_scope(prefix) as scope:
        yield scope
