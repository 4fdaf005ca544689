"""The stage of a user's source: by index, or a stream."""

import inspect
from typing import Any

from mpqueue.dataset.description.nodes import StageNode
from mpqueue.dataset.indexed.readers import SourceNode
from mpqueue.dataset.lanes.roots import StreamNode
from mpqueue.plan.options.coroutines import has_coroutines
from mpqueue.plan.options.validation import check_call, is_sequence, is_torch_iterable, validate_source


def source_node(source: Any) -> StageNode:
    """Return the stage of a source.

    Raises:
        TypeError: The source has an unsupported type.
    """
    if is_torch_iterable(source):
        return StreamNode(source=source)
    validate_source(source, "sample")
    if is_sequence(source):
        if has_coroutines(source, batches=False):
            name = type(source).__name__
            raise TypeError(
                f"the source {name} is asynchronous (async def): map its indices, as in "
                f"mpqueue.Dataset.range(len(source)).map(source.__getitem__), or pass it to a Loader"
            )
        return SourceNode(source=source)
    if hasattr(source, "__next__"):
        raise TypeError(
            f"the source is an iterator ({type(source).__name__}), which can be read only once: "
            "pass the generator function itself, a callable without arguments that returns a new iterator"
        )
    if inspect.isclass(source):
        raise TypeError(f"the source is the class {source.__name__}: pass an instance of it, {source.__name__}(...)")
    if callable(source):
        check_call(source)
        return StreamNode(source=source)
    if hasattr(type(source), "__iter__") or hasattr(type(source), "__aiter__"):
        return StreamNode(source=source)
    raise TypeError(
        f"Unsupported source: expected an object with __getitem__ and __len__, a generator function, or an object "
        f"with __iter__; got {source!r}"
    )
