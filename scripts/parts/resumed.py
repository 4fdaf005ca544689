"""Programs that are killed and resumed: their logs, their end, and the samples that they lose or repeat.

A log has a line of JSON for each step, and ``end`` after the last one. Each line is written by one system call, so that
a kill leaves only complete lines.
"""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def lost_and_repeated(expected: Iterable[Iterable[int]], found: Iterable[Iterable[int]]) -> tuple[int, int]:
    """Return how many samples of an uninterrupted run are missing, and how many are there more often.

    Args:
        expected: The samples of each step of the uninterrupted run.
        found: The samples of each step that counts.
    """
    wanted = Counter(number for step in expected for number in step)
    got = Counter(number for step in found for number in step)
    return (wanted - got).total(), (got - wanted).total()


def lines_of(log: Path) -> list[bytes]:
    """Return the lines of the steps."""
    with contextlib.suppress(FileNotFoundError):
        return [line for line in log.read_bytes().splitlines() if line.startswith(b"[")]
    return []


def has_ended(log: Path) -> bool:
    """Return whether the last step was logged."""
    with contextlib.suppress(FileNotFoundError, OSError), log.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return file.read() == b"end\n"
    return False


def kill_group(leader: int) -> None:
    """Kill the processes of a group at the same time, if any is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
