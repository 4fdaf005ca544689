"""Makes the stream of a session: its ledger, its pipeline and its backend.

A session imports these modules with its first start, while the fork server starts.
"""

from importlib import import_module
from typing import Any

from mpqueue.backends.creation import credit_for
from mpqueue.backends.job import Job
from mpqueue.engine.backend import Backend
from mpqueue.engine.ledger import Ledger
from mpqueue.engine.pipeline import Pipeline
from mpqueue.engine.skips import Skips
from mpqueue.plan.options.backend_kinds import LOCAL_MAKER, BackendName, kind_of
from mpqueue.plan.order.rules import check_inline
from mpqueue.plan.position.cursors import Cursor, ResumePoint
from mpqueue.telemetry.stage_rows import MOST_ROWS


def make_ledger(job: Job, cursor: Cursor, backend: BackendName, max_queue_size: int, point: ResumePoint) -> Ledger:
    """Return the ledger of a stream that begins at a point.

    Raises:
        ValueError: The source has no batches, or does not have that point; or an option has no effect without workers.
    """
    if not job.workers:
        check_inline(job.options, is_asynchronous=job.coroutines is not None)
    ledger = Ledger(cursor, credit_for(backend, job, max_queue_size), ordered=job.options.ordered)
    ledger.needs_attention = True  # the first step settles the times of this start
    # Before any worker starts: this raises if the source has no batches, or does not have this point.
    ledger.go_to(point)
    # Before the source is sent: otherwise each worker's copy would draw a different order.
    job.plan.source.parts.draw_order()
    return ledger


def connect(job: Job, ledger: Ledger, *, ends_epochs: bool, requests_epochs: bool) -> Pipeline:
    """Return the pipeline of a ledger; its arguments are those of the session."""
    pipeline = Pipeline(
        ledger,
        epoch_end=job.plan.epoch_end,
        timed_epoch_end=ends_epochs and job.workers > 0,
        ends_epochs=ends_epochs,
        requests_epochs=requests_epochs,
        skips=Skips(job.plan.options.max_errors) if job.plan.skips else None,
        recorder=job.recorder,
    )
    job.recorder.caches = job.plan.source.caches
    names = job.plan.source.part_names
    ledger.counts.parts.names = names if len(names) <= MOST_ROWS else ()
    return pipeline


def make_backend(name: BackendName, ledger: Ledger, lock: Any, job: Job) -> Backend:
    """Create a backend, which the caller starts; without workers, the caller's thread computes for any ``name``.

    Raises:
        TypeError: The source cannot be sent to worker processes, and must not be inherited by fork.
    """
    maker = import_module(kind_of(name).maker if job.workers else LOCAL_MAKER)
    made: Backend = maker.make_backend(name, ledger, lock, job)
    return made
