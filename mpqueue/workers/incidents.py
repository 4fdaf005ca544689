"""Messages for the operator of a pool, in the logger ``mpqueue``.

Each death and each restart is one warning, with the worker's number, and so is the first lack of memory. (Copies:
`mpqueue.memory.ring`.) Starts, ends and the state of the ring are debug messages.
"""

from mpqueue.errors import WorkerDied
from mpqueue.memory.ring import Ring
from mpqueue.plan.cursors import WorkItem
from mpqueue.system.log import debug, debugs, warn
from mpqueue.telemetry.units import size_text
from mpqueue.workers.handle import Cause
from mpqueue.workers.roster import Exit


def report_death(leaving: Exit, work_item: WorkItem | None) -> None:
    """Warn that a worker has died, by itself or because it was killed."""
    worker, cause = leaving.worker, leaving.worker.life.cause
    index, epoch = (None, None) if work_item is None else (work_item.unit, work_item.epoch)
    died = WorkerDied(worker.number, leaving.exitcode, index, epoch, leaving.peak_bytes, leaving.oom_killed)
    process = worker.process
    where = f" on node {process.machine}" if process is not None and process.machine else ""
    pid = "" if process is None else f" (pid {process.pid}{where})"
    if leaving.lost:
        warn(f"worker {worker.number}{pid} is lost: {leaving.lost}")
        return
    why = "" if cause is None or cause is Cause.CLOSED else f"; it was killed, because {cause.value}"
    warn(f"{died}{pid}{why}", "Worker processes", "Monitor the workers")


def report_restart(number: int) -> None:
    """Warn that a worker was asked for in the place of one that died."""
    warn(f"worker {number} was started again")


def report_launcher_death(exitcode: int | None, num_workers: int) -> None:
    """Warn that the fork server has died, and its workers with it."""
    warn(
        f"{WorkerDied(-1, exitcode)}, and its {num_workers} workers with it", "Worker processes", "Monitor the workers"
    )


def report_start(number: int) -> None:
    """Tell that a worker was asked for."""
    debug(f"worker {number} was asked for")


def report_resize(wanted: str, reason: str) -> None:
    """Tell that another number of workers, or of threads, is wanted."""
    debug(f"{wanted} from now on: {reason}")


def report_threads_would_help(gain: float) -> None:
    """Log that the source waits, and that threads would overlap its waits."""
    warn(
        f'the source waits most of the time, and workers="auto" adds worker processes only. threads="auto" computes '
        f"samples in several threads of each worker: about {gain:.0f} times the samples per second",
        "Tuning",
        "Automatic numbers of workers and threads",
    )


def report_end(leaving: Exit) -> None:
    """Tell that a worker has ended, for whatever reason."""
    debug(f"{leaving.worker!r} has ended with code {leaving.exitcode}; its peak was {leaving.peak_bytes:,} bytes")


def report_shortage(ring: Ring, *, is_first: bool, is_of_group: bool = False) -> None:
    """Warn that memory for batches is short, once; tell the state of the ring each time."""
    group = None
    if is_first and is_of_group:
        from mpqueue.system.limits import group_memory

        group = group_memory()
    if group is not None:
        warn(
            f"memory for batches is short: the control group allows {size_text(group.limit)}, and "
            f"{size_text(group.room)} are left beside {ring.slots.bytes_reserved():,} bytes of batches. Fewer batches "
            "are computed ahead from now on. Use a smaller max_queue_size or smaller batches, or raise the limit",
            "Monitor data loading",
            "Memory",
        )
    elif is_first:
        warn(
            f"memory for batches is short: there is none for another one beside {ring.slots.bytes_reserved():,} bytes. "
            "Fewer batches are computed ahead from now on; a smaller max_queue_size or smaller batches need less of it",
            "Monitor data loading",
            "Memory",
        )
    report_ring(ring, "a worker waits for memory")


def report_ring(ring: Ring, occasion: str) -> None:
    """Tell the state of the ring."""
    if debugs():
        debug(f"{occasion}: {ring!r}")
