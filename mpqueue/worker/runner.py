"""Runs a source with an index for one worker, the same in processes, threads and the caller itself.

Before each item the random numbers of its batch are set: so the stream is the same whoever computes it, from wherever
on.
"""

from collections.abc import Callable
from typing import Any

from mpqueue.engine.outcomes import WithTail
from mpqueue.plan.cursors import Listed
from mpqueue.telemetry.recorder import Stages
from mpqueue.telemetry.stage_rows import StageRows
from mpqueue.worker import context
from mpqueue.worker.context import WorkerInfo
from mpqueue.worker.failures import note_of

BeginBatch = Callable[[int, int, int], None]
# Epoch, number and samples, as a runner's `run` takes them, of a batch behind the one at work, the next one for 0;
# None: nobody knows it yet.
BatchAhead = Callable[[int], tuple[int, int, Listed | None] | None]


class StreamEnd(Exception):
    """The lane of a stream has ended.

    Args:
        rows: The work of its stages that was not told before.
    """

    def __init__(self, rows: StageRows = ()) -> None:
        super().__init__()
        self.rows = rows


class Runner:
    """Runs a sequence for one worker.

    Args:
        source: A sequence.
        info: The worker.
        begin_batch: Called with (seed, epoch, unit) before the source computes that batch.

    Attributes:
        stages: Where the parts of its time are noted; None: it is not timed.
    """

    def __init__(self, source: Any, info: WorkerInfo, begin_batch: BeginBatch) -> None:
        self._source, self._info, self._seed, self._begin_batch = source, info, info.seed, begin_batch
        self.stages: Stages | None = None

    def note(self, unit: int, epoch: int) -> str:
        """The note of an exception that `run` raised."""
        return note_of(unit, epoch, self._info)

    def load(self, source: Any) -> None:
        """Go on with another source, a sequence."""
        self._source = source

    def begin_ahead(self, batch_ahead: BatchAhead | None) -> None:
        """Have samples of the next batches begun while threads of the source have nothing else to do."""
        self._source.begin_ahead(batch_ahead)

    def run(self, epoch: int, unit: int, listed: Listed | None = None) -> Any:
        """Compute a batch, by its index.

        A source that is listed what to compute, and no plan of samples says how, has a method ``take`` for it. That
        calls its second argument with (seed, epoch, place) before each sample.

        Raises:
            Exception: What the source raised.
        """
        if listed is not None:
            return self._source.take(listed, self._begin_batch)
        self._begin_batch(self._seed, epoch, unit)
        return self._source[unit]


def run_timed(source: Any, stages: Stages, run: Callable[..., Any], *arguments: Any) -> Any:
    """Run a batch that is timed.

    Args:
        source: Of it. One of stages has a method ``make_tally``: what that returns is where they note their work, in
            this thread and in those that help it, and has a method ``rows`` that takes the nanoseconds of collation.
        stages: Where the parts of the time are noted.
        run: Computes the batch,
        arguments: with these.

    Returns:
        The batch; `WithTail`, if there is work of stages to be told.

    Raises:
        Exception: What is raised in its place.
    """
    if not hasattr(type(source), "make_tally"):
        return run(*arguments)
    tally = source.make_tally()
    context.begin_tally(tally)
    try:
        batch = run(*arguments)
    finally:
        context.begin_tally(None)
    rows = tally.rows(stages.collate_ns)
    return WithTail(batch, None, rows) if rows else batch
