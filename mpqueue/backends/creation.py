"""Creates the backend of a job: worker processes, threads, or the calling thread.

Invalid jobs are rejected here, before any worker starts. The fork server of this start may be running already, see
`mpqueue.loader.session.fork_server_ahead`: its interpreter takes longer to start than everything else.
"""

import contextlib
import glob
import os
import threading
from typing import Any

from mpqueue.backends.job import MAX_CREDIT, Job
from mpqueue.engine.backend import Backend
from mpqueue.engine.ledger import Ledger
from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.signals.deferred import allow_signals
from mpqueue.system.signals.safe_threads import counted


def make_backend(name: BackendName, ledger: Ledger, lock: Any, job: Job) -> Backend:
    """Return a new backend, not yet started.

    Args:
        name: Kind of backend. Without workers the caller computes the batches, whatever the kind.
        ledger: The ledger of the work items.
        lock: The lock that guards the ledger.
        job: The job to run.

    Raises:
        TypeError: The source cannot be sent to worker processes, and may not be inherited by fork.
    """
    if job.workers == 0:
        from mpqueue.backends.inline import InlineBackend

        return InlineBackend(ledger, job)
    if not kind_of(name).has_start_method:
        from mpqueue.backends.sending.open_handles import warn_of_threads
        from mpqueue.backends.threads import ThreadBackend

        if job.workers > 1:
            warn_of_threads(job.source)
        return ThreadBackend(ledger, lock, job)
    return _make_processes(ledger, job)


def credit_for(name: BackendName, job: Job, max_queue_size: int) -> int:
    """Return the maximum number of batches in flight.

    The samples in flight of coroutines are in more batches than a trainer needs ahead: these are limited by their
    number of samples.
    """
    if job.workers == 0:
        return 1
    if not kind_of(name).has_ring:
        # 0 means no limit, as for the `queue.Queue` of Keras's enqueuers. Threads need no slots.
        return max_queue_size or 1 << 62
    return min(max(max_queue_size, job.num_in_flight), MAX_CREDIT)


def _make_processes(ledger: Ledger, job: Job) -> Backend:
    from mpqueue.backends.processes.source_sync import SourceSync
    from mpqueue.backends.sending.source_send import UnpicklableSource
    from mpqueue.backends.sending.source_watch import SourceWatch

    image, chosen, watch = None, job.options, SourceWatch(job.payload)
    if chosen.start_method != "fork":
        try:
            image = allow_signals(watch.take_image)
        except UnpicklableSource as error:
            if not chosen.may_fall_back:
                if _has_cuda_context():
                    raise
                raise UnpicklableSource(
                    f"{error}. Or pass {job.fork_argument}: forked workers inherit the source instead of unpickling it"
                ) from error
            _announce_fork(error)
    if image is None:
        from mpqueue.backends.sending.open_handles import refuse_what_forks_share

        refuse_what_forks_share(job.source, job.workers)
    spawn, has_other_programs = chosen.start_method == "spawn", job.ring.has_other_programs
    sync = SourceSync(watch, image, spawn=spawn, has_other_programs=has_other_programs)
    with contextlib.ExitStack() as undo:
        undo.callback(sync.drop)
        sync.begin()
        from mpqueue.backends.processes.process import ProcessBackend

        backend = ProcessBackend(ledger, sync, job)
        undo.pop_all()
    return backend


def _announce_fork(error: BaseException) -> None:
    if _has_cuda_context():
        raise RuntimeError(
            f"{error}. The only alternative is to fork this process, which has a CUDA context, "
            "and CUDA does not work in a forked child"
        ) from error
    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    # ours are recreated in the workers that need them
    others = [name for name in others if not name.startswith("mpqueue-")]
    threads = f"; these threads of this process do not exist in the workers: {counted(others)}" if others else ""
    warn_caller(
        f"{error}. The workers are forked from this process instead, again for each epoch{threads}",
        RuntimeWarning,
    )


def _has_cuda_context() -> bool:
    """Return True if the device file of a GPU driver is open in this process."""
    # The driver keeps its device file open as long as the context exists. Asking torch or JAX would import them.
    return any(os.path.realpath(fd).startswith("/dev/nvidia") for fd in glob.glob("/proc/self/fd/*"))
