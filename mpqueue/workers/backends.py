"""Makes the backend of a job: worker processes, threads, or the caller itself.

All that can be refused is refused here, before any process starts. A fork server is started here then: it is an
interpreter that takes longer than all else at a start, and meanwhile this process imports the rest of what it needs.
"""

import contextlib
import os
import threading
import warnings
from typing import Any

from mpqueue.engine.backend import Backend
from mpqueue.engine.ledger import Ledger
from mpqueue.plan.backend_kinds import BackendName, kind_of
from mpqueue.system.callers import outside_stacklevel
from mpqueue.system.interrupts import allow_signals
from mpqueue.system.safe_threads import counted
from mpqueue.workers.job import MAX_CREDIT, Job


def make_backend(name: BackendName, ledger: Ledger, lock: Any, job: Job) -> Backend:
    """Make a backend that is to be started.

    Args:
        name: Its kind; without workers the caller computes, whatever it says.
        ledger: Whose work items it runs.
        lock: Guards the ledger.
        job: What is to be run.

    Raises:
        TypeError: The source cannot be sent to worker processes, and may not be inherited by fork.
    """
    if job.workers == 0:
        from mpqueue.workers.inline import InlineBackend

        return InlineBackend(ledger, job)
    if not kind_of(name).in_processes:
        from mpqueue.workers.open_handles import warn_of_threads
        from mpqueue.workers.threads import ThreadBackend

        if job.workers > 1:
            warn_of_threads(job.source)
        return ThreadBackend(ledger, lock, job)
    return _make_processes(ledger, job)


def credit_for(name: BackendName, workers: int, max_queue_size: int) -> int:
    """Return how many batches may be under way at a time."""
    if workers == 0:
        return 1
    if not kind_of(name).in_processes:
        return max_queue_size or 1 << 62
    return min(max_queue_size, MAX_CREDIT)


def _make_processes(ledger: Ledger, job: Job) -> Backend:
    from mpqueue.workers.source_send import UnpicklableSource
    from mpqueue.workers.source_sync import SourceSync
    from mpqueue.workers.source_watch import SourceWatch

    image, chosen, watch = None, job.options, SourceWatch(job.payload)
    if chosen.start_method != "fork":
        try:
            image = allow_signals(watch.take_image)
        except UnpicklableSource as error:
            if not chosen.may_fall_back:
                raise
            _announce_fork(error)
    if image is None:
        from mpqueue.workers.open_handles import refuse_what_forks_share

        refuse_what_forks_share(job.source, job.workers)
    sync = SourceSync(watch, image, spawn=chosen.start_method == "spawn")
    with contextlib.ExitStack() as undo:
        undo.callback(sync.drop)
        sync.begin()  # all that is imported from here on, this process imports while the fork server starts
        from mpqueue.workers.process import ProcessBackend

        backend = ProcessBackend(ledger, sync, job)
        undo.pop_all()
    return backend


def _announce_fork(error: BaseException) -> None:
    if _has_cuda_context():
        raise RuntimeError(
            f"{error}. It could only be inherited by forking this process, which has a CUDA context, "
            "and CUDA does not survive a fork"
        ) from error
    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    others = [name for name in others if not name.startswith("mpqueue-")]  # ours are made again where they are needed
    threads = f"; these threads of it will not exist there: {counted(others)}" if others else ""
    warnings.warn(
        f"{error}. So the workers are forked from this process instead, anew for each epoch{threads}",
        RuntimeWarning,
        stacklevel=outside_stacklevel(),
    )


def _has_cuda_context() -> bool:
    """Return True if a GPU driver's device file is open here."""
    try:
        fds = os.listdir("/proc/self/fd")
    except OSError:
        return False
    for fd in fds:
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("/dev/nvidia"):
                return True
        except OSError:  # closed meanwhile
            continue
    return False
