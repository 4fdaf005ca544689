"""`recognise`: the kind of an object that a user passed as a source."""

from typing import Any

from mpqueue.plan.options.validation import (
    check_call,
    is_sequence,
    is_torch_iterable,
    reject_batches,
    reject_sequence,
    reject_stream,
    validate_source,
)
from mpqueue.plan.sources.sources import Items, Source


def recognise(source: Any, *, samples: bool = False, sampled: bool = False, needs: str | None = None) -> type[Source]:
    """Return the class for an object that a user passed as a source.

    Args:
        source: The object that the user passed.
        samples: Items of the source are samples.
        sampled: A sampler provides the indices: no length is needed, and any keys are possible.
        needs: "index": only sources with an index are supported; "stream": only streams; None: both.

    Raises:
        TypeError: It is not a source, or not of the required kind.
        ValueError: Its items are batches, but must be samples.
    """
    has_index, opens_lanes = is_sequence(source), hasattr(type(source), "open_lane")
    is_stream = opens_lanes or callable(source) or hasattr(source, "__next__")
    if needs is None and is_torch_iterable(source):
        from mpqueue.plan.sources.stream_sources import TorchIterable

        return TorchIterable
    if sampled and hasattr(type(source), "__getitem__") and not isinstance(source, tuple):
        return Items
    validate_source(source, "sample" if samples else "batch")
    if samples:
        reject_batches(source)
    if needs == "stream" and not is_stream:
        reject_stream(source)
    if needs == "index" and not has_index:
        reject_sequence(source, is_stream=is_stream)
    if has_index and needs != "stream" and (needs == "index" or not opens_lanes):
        return Items
    if not is_stream:
        reject_sequence(source, is_stream=False)
    from mpqueue.plan.sources.stream_sources import Function, Iterator, Lanes  # imported here: most have an index

    if opens_lanes:
        return Lanes
    check_call(source)
    return Function if callable(source) else Iterator
