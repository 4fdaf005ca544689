"""Scans of many files at once, in processes of their own: what is found comes in the order of the files.

Remote files are scanned by threads, which wait for the network and not for each other.

A scan is Python that parses headers, so threads would wait for one another. The processes are fresh interpreters: a
fork of the user's process may copy a lock that another of its threads holds, and a spawned one of `multiprocessing`
would run the user's script again.

    caller     a thread for each child writes a path, and waits for the answer
    child      answers ``(True, arrays)`` or ``(False, exception)``; ends with its input, which ends with its parent
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from mpqueue.errors import FileError
from mpqueue.files.index_file import Arrays
from mpqueue.files.urls import is_url
from mpqueue.system.cpus import num_cpus

Scan = Callable[[str], Arrays]

# A child takes a fifth of a second to start, in which a process by itself scans this much, and more where headers only
# are looked at.
_BYTES_OF_A_CHILD = 512 * 1024 * 1024
_REMOTE_AT_ONCE = 8
_CHILD = "import sys; sys.path[:] = {path!r}; from mpqueue.files import scanning; scanning.answer()"


def scan_all(scan: Scan, paths: Sequence[str], total_bytes: int) -> Generator[Arrays, None, None]:
    """Return what a scan finds in each file.

    Args:
        scan: Can be pickled.
        paths: The files.
        total_bytes: Of all files together.

    Raises:
        FileError: A file that it refuses, or at which a child has died.
        Exception: What it raises.
    """
    if any(map(is_url, paths)):
        yield from _scan_in_threads(scan, paths)
        return
    number = min(num_cpus(), len(paths), total_bytes // _BYTES_OF_A_CHILD)
    yield from map(scan, paths) if number < 2 else _scan_in_children(scan, paths, number)


def _scan_in_threads(scan: Scan, paths: Sequence[str]) -> Generator[Arrays, None, None]:
    """Scan remote files, which is to wait for a network."""
    with ThreadPoolExecutor(min(len(paths), _REMOTE_AT_ONCE), "mpqueue-scan") as pool:
        try:
            yield from pool.map(scan, paths)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _scan_in_children(scan: Scan, paths: Sequence[str], number: int) -> Generator[Arrays, None, None]:
    idle: queue.SimpleQueue[_ScanProcess] = queue.SimpleQueue()

    def scan_one(path: str) -> Arrays:
        child = idle.get()
        try:
            return child.scan(path)
        finally:
            idle.put(child)

    with contextlib.ExitStack() as children:
        # Entered first, closed last: a thread that waits for a child's answer gets none when the child is killed.
        pool = children.enter_context(ThreadPoolExecutor(number, "mpqueue-scan"))
        for _ in range(number):
            idle.put(children.enter_context(_ScanProcess(scan)))
        children.callback(pool.shutdown, wait=False, cancel_futures=True)
        yield from pool.map(scan_one, paths)


class _ScanProcess:
    """A process that scans one file after the other; a context, at whose end it is gone."""

    def __init__(self, scan: Scan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD.format(path=sys.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._send(scan)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # it has nothing to finish
        with contextlib.suppress(BrokenPipeError):
            self._process.__exit__(None, None, None)

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its answer, which ends there, tells
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def scan(self, path: str) -> Arrays:
        """Return what is found in a file."""
        assert self._process.stdout is not None
        self._send(path)
        try:
            is_good, found = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as cut:
            status = self._process.wait()
            raise FileError(path, None, f"the process that indexed it died, with status {status}") from cut
        if not is_good:
            raise found
        arrays: Arrays = found
        return arrays


def answer() -> None:
    """Scan what the caller asks for: the whole life of a child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal; the caller ends its children
    answers_fd = os.dup(1)
    os.dup2(2, 1)  # whatever prints here prints to the errors
    with open(answers_fd, "wb") as answers, contextlib.suppress(EOFError, BrokenPipeError):
        scan: Scan = pickle.load(sys.stdin.buffer)
        while True:
            path = pickle.load(sys.stdin.buffer)
            try:
                found: tuple[bool, Any] = True, scan(path)
            except Exception as error:
                found = False, error
            pickle.dump(found, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
