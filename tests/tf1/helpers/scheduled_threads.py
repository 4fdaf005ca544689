"""Whether waiting threads are scheduled: a thread that polls would be."""

import time
from pathlib import Path

from helpers.waits import settled


def thread_ids():
    """Return the ids of all threads of this process."""
    return {task.name for task in Path("/proc/self/task").iterdir()}


def are_never_scheduled(threads, seconds):
    """Wait until all threads with these ids are asleep; return whether none of them runs in the time after that."""

    def switches():
        found = {name: Path(f"/proc/self/task/{name}/status").read_text() for name in threads}
        # a thread that waits for a CPU is not asleep
        are_asleep = all("State:\tS" in status for status in found.values())
        return are_asleep, {name: status.partition("ctxt_switches")[2] for name, status in found.items()}

    before = settled(switches, lambda seen: seen[0] and seen == switches(), 0.1)
    time.sleep(seconds)  # a thread that polls runs in this time
    return switches() == before
