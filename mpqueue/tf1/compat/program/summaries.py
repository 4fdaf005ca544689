"""Summaries: ``tf.summary``. They are accepted, but not written."""

import re
from typing import Any, Self

from mpqueue.tf1.compat.functions.keys import GraphKeys, add_to_collections, get_collection
from mpqueue.tf1.compat.graph import Tensor, constant


def scalar(name: str, *_values: Any, collections: Any = None, **_options: Any) -> Tensor:
    """Return a node with an empty string instead of a summary. Any arguments are accepted."""
    node = constant(b"", name=re.sub(r"[^-/\w.]", "_", name))
    add_to_collections([GraphKeys.SUMMARIES] if collections is None else collections, node)
    return node


def merge(inputs: Any, collections: Any = None, name: str | None = None) -> Tensor:
    """Return a node with an empty string instead of a merged summary."""
    del inputs
    node = constant(b"", name=name or "Merge")
    add_to_collections(collections or [], node)
    return node


def merge_all(key: str = GraphKeys.SUMMARIES, scope: str | None = None, name: str | None = None) -> Tensor | None:
    """Return a node with an empty string, or None if the graph has no summaries."""
    summaries = get_collection(key, scope)
    return merge(summaries, name=name) if summaries else None


class FileWriter:
    """A writer that accepts summaries without writing a file.

    Args:
        logdir: Directory that `get_logdir` returns.
        graph: No effect, like all further parameters.
    """

    def __init__(self, logdir: Any = None, graph: Any = None, **_options: Any) -> None:
        del graph
        self._logdir = logdir

    def get_logdir(self) -> Any:
        """Return the directory passed to the constructor."""
        return self._logdir

    def _accept(self, *_args: Any, **_options: Any) -> None:
        """Accept any arguments and ignore them."""

    add_summary = add_graph = add_event = add_run_metadata = add_session_log = flush = reopen = close = _accept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
