"""Warnings for the operator of a pool, in the logger ``mpqueue``: deaths and restarts.

Each death and each restart is one warning, with the worker's number. (Copies: `mpqueue.memory.ring`.)
"""

from mpqueue.control.schedule import Ticket
from mpqueue.errors import WorkerDied
from mpqueue.system.log import warn
from mpqueue.workers.lifecycle import Cause
from mpqueue.workers.roster import Exit


def report_death(leaving: Exit, ticket: Ticket | None) -> None:
    """Warn that a worker has died, by itself or because it was killed."""
    worker, cause = leaving.worker, leaving.worker.life.cause
    index, epoch = (None, None) if ticket is None else (ticket.unit, ticket.epoch)
    died = WorkerDied(worker.number, leaving.exitcode, index, epoch, leaving.peak_bytes, leaving.oom_killed)
    process = worker.process
    where = f" on node {process.machine}" if process is not None and process.machine else ""
    pid = "" if process is None else f" (pid {process.pid}{where})"
    if leaving.lost:
        warn(f"worker {worker.number}{pid} is lost: {leaving.lost}")
        return
    why = "" if cause is None or cause is Cause.CLOSED else f"; it was killed, because {cause.value}"
    warn(f"{died}{pid}{why}")


def report_restart(number: int) -> None:
    """Warn that a worker was asked for in the place of one that died."""
    warn(f"worker {number} was started again")


def report_launcher_death(exitcode: int | None, num_workers: int) -> None:
    """Warn that the nursery has died, and its workers with it."""
    warn(f"{WorkerDied(-1, exitcode)}, and its {num_workers} workers with it")
