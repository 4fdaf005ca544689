"""Summaries: ``tf.summary``. They are accepted, and nothing is written anywhere."""

import re
from typing import Any, Self

from mpqueue.tf1.compat.functions.keys import GraphKeys, add_to_collections, get_collection
from mpqueue.tf1.compat.graph import Tensor, constant


def scalar(name: str, *_values: Any, collections: Any = None, **_options: Any) -> Tensor:
    """Return a node that gives an empty text: nothing is summarised. Any arguments are accepted."""
    node = constant(b"", name=re.sub(r"[^-/\w.]", "_", name))
    add_to_collections([GraphKeys.SUMMARIES] if collections is None else collections, node)
    return node


def merge(inputs: Any, collections: Any = None, name: str | None = None) -> Tensor:
    """Return a node that gives an empty text: nothing is summarised."""
    del inputs
    node = constant(b"", name=name or "Merge")
    add_to_collections(collections or [], node)
    return node


def merge_all(key: str = GraphKeys.SUMMARIES, scope: str | None = None, name: str | None = None) -> Tensor | None:
    """Return a node that gives an empty text, None if the graph has no summaries."""
    found = get_collection(key, scope)
    return merge(found, name=name) if found else None


class FileWriter:
    """Accepts summaries, and makes no file.

    Args:
        logdir: Folder that `get_logdir` returns.
        graph: No effect, as all parameters that follow.
    """

    def __init__(self, logdir: Any = None, graph: Any = None, **_options: Any) -> None:
        del graph
        self._logdir = logdir

    def get_logdir(self) -> Any:
        """Return the folder as it was given."""
        return self._logdir

    def _accept(self, *_args: Any, **_options: Any) -> None:
        """Do nothing, whatever the arguments are."""

    add_summary = add_graph = add_event = add_run_metadata = add_session_log = flush = reopen = close = _accept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
