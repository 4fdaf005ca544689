"""Log messages for the operator of a pool, in the logger ``mpqueue``.

Each crash and each restart is one warning with the worker's index; so is the first shortage of memory. Starts, exits
and the state of the ring are debug messages. (`mpqueue.memory.ring` reports copies.)
"""

from mpqueue.backends.processes.handle import Cause
from mpqueue.backends.processes.roster import Exit
from mpqueue.errors import WorkerDied
from mpqueue.memory.ring import Ring
from mpqueue.plan.position.cursors import WorkItem
from mpqueue.system.log import debug, debugs, warn
from mpqueue.system.processes.limits import group_memory
from mpqueue.system.units import count_text, size_text
from mpqueue.system.user_code.exception_texts import text_of


def report_death(leaving: Exit, work_item: WorkItem | None) -> None:
    """Warn that a worker has crashed or was killed."""
    worker, cause = leaving.worker, leaving.worker.life.cause
    index, epoch = (None, None) if work_item is None else (work_item.source_index, work_item.epoch)
    error = WorkerDied(
        worker.index, leaving.exitcode, index, epoch, leaving.peak_bytes, leaving.oom_killed, samples=leaving.samples
    )
    process = worker.process
    where = f" on node {process.machine}" if process is not None and process.machine else ""
    pid = "" if process is None else f" (pid {process.pid}{where})"
    if leaving.lost:
        warn(f"worker {worker.index}{pid} is lost: {leaving.lost}")
        return
    why = "" if cause is None or cause is Cause.CLOSED else f"; it was killed, because {cause.value}"
    warn(f"{error}{pid}{why}", "Worker processes", "Monitor the workers")


def report_hang(index: int, error: BaseException) -> None:
    """Warn that a sample took too long, and that its batch is computed again."""
    warn(f"worker {index} has cancelled the samples of a batch, which is computed again: {text_of(error)}")


def report_restart(index: int) -> None:
    """Warn that a crashed worker is being replaced."""
    warn(f"worker {index} was restarted")


def report_launcher_death(exitcode: int | None, num_workers: int) -> None:
    """Warn that the fork server has crashed, together with its workers."""
    warn(
        f"{WorkerDied(-1, exitcode)}, and its {count_text(num_workers, 'worker')} with it",
        "Worker processes",
        "Monitor the workers",
    )


def report_start(index: int) -> None:
    """Log that a worker was requested."""
    debug(f"worker {index} was requested")


def report_resize(wanted: str, reason: str) -> None:
    """Log a new number of workers."""
    debug(f"changed to {wanted}: {reason}")


def report_threads_would_help(threads: int, gain: float) -> None:
    """Warn that the source waits most of the time, and that threads would overlap its waits."""
    warn(
        f'the source waits most of the time, and workers="auto" adds worker processes only. '
        f"threads={threads} computes samples in threads of each worker: about {gain:.0f} times the samples per second",
        "My training is slow",
        "An automatic number of workers",
    )


def report_end(leaving: Exit) -> None:
    """Log the exit of a worker, whatever the reason."""
    debug(f"{leaving.worker!r} exited with code {leaving.exitcode}; its peak was {leaving.peak_bytes:,} bytes")


def report_shortage(ring: Ring, *, is_first: bool, is_of_group: bool = False) -> None:
    """Warn once that memory for batches is short; log the state of the ring each time."""
    group = group_memory() if is_first and is_of_group else None
    if group is not None:
        warn(
            f"memory for batches is short: the control group allows {size_text(group.limit)}, and "
            f"{size_text(group.room)} are left next to {ring.slots.bytes_reserved():,} bytes of batches. Fewer batches "
            "will be computed ahead. Use a smaller max_queue_size or smaller batches, or raise the limit",
            "Monitor data loading",
            "Memory",
        )
    elif is_first:
        warn(
            f"memory for batches is short: no more fits next to {ring.slots.bytes_reserved():,} bytes of batches. "
            "Fewer batches will be computed ahead; a smaller max_queue_size or smaller batches need less of it",
            "Monitor data loading",
            "Memory",
        )
    report_ring(ring, "a worker waits for memory")


def report_ring(ring: Ring, occasion: str) -> None:
    """Log the state of the ring."""
    if debugs():
        debug(f"{occasion}: {ring!r}")
