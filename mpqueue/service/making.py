"""Creates the stream of a server: a `Stream`, or a `LaneStream` for a source without an index."""

from typing import Any

from mpqueue.service.lane_stream import LaneStream
from mpqueue.service.plan import make_plan
from mpqueue.service.stream import PendingHandle, Stream, StreamStart


def make_stream(source: Any, *, start: StreamStart | None = None, **options: Any) -> Stream:
    """Return a stream of a source.

    Args:
        source: The source, as for a `Loader`.
        start: Where it begins; None: at the beginning of the source.
        options: See `mpqueue.service.plan.make_plan`.

    Raises:
        TypeError: The source has an unsupported type, or an option has the wrong type.
        ValueError: An option has an invalid value, conflicts with another option, or has no meaning for a server.
    """
    plan = make_plan(source, work=PendingHandle, **options)
    kind = Stream if plan.plan.has_index else LaneStream
    return kind(plan, start or StreamStart())
