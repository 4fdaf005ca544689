"""Workers whose nursery is gone: who ends them, and who knows that they have ended."""

import select
import signal
import time
from collections.abc import Iterable

from mpqueue.workers.handle import WorkerHandle

STUCK_S = 5.0  # what SIGKILL has not ended by then is stuck in the kernel


def end_orphans(workers: Iterable[WorkerHandle]) -> list[WorkerHandle]:
    """Kill workers whose nursery is gone and wait for them; return those that are stuck in the kernel."""
    poll = select.poll()
    waiting: dict[int, WorkerHandle] = {}
    for worker in workers:
        process = worker.process
        if process is not None and process.sentinel >= 0:
            process.send(signal.SIGKILL)
            waiting[process.sentinel] = worker
            poll.register(process.sentinel, select.POLLIN)
        elif worker.pipes.reports >= 0:
            # The nursery had no time to tell of it, so it has run no user code yet: the end of its pipe is its own.
            waiting[worker.pipes.reports] = worker
            poll.register(worker.pipes.reports, 0)
    until = time.monotonic() + STUCK_S
    while waiting and (left := until - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            process = waiting.pop(fd).process
            if process is not None and process.sentinel >= 0:
                process.reap_as_init()
    return list(waiting.values())
