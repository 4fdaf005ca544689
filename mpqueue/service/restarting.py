"""The server that comes back after its death: which streams it can go on with, and how it knows its own again."""

import hashlib
import json

from mpqueue.loader.sources import epoch_end_of
from mpqueue.service.rules import Rules
from mpqueue.service.stream import Stream


def job_of(stream: Stream, rules: Rules) -> str:
    """Return a hash of what makes a stream the same one."""
    identity = [stream.seed, stream.length(), rules.mode, rules.world, repr(stream.plan.job.samples)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def check_restartable(stream: Stream, *, is_ordered: bool) -> None:
    """Raise a `ValueError` if a server that comes back could not go on with this source."""
    source = stream.plan.job.source
    if not is_ordered:
        raise ValueError(
            "a journal counts the batches of each consumer, which says nothing where they come as they are ready: "
            "leave out ordered=False, or journal"
        )
    if stream.is_generator:
        raise ValueError(
            "a journal says which batches were taken, and a generator cannot begin behind them: pass a source with "
            "__getitem__, or leave out journal"
        )
    if epoch_end_of(source) is not None and not hasattr(source, "state_dict"):
        raise ValueError(
            f"{type(source).__name__}.on_epoch_end changes the source, and a server that comes back would have it as "
            "it was at first: give it state_dict() and load_state_dict(), or leave out journal"
        )
