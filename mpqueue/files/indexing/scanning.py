"""Concurrent scans of files in child processes, with results in the order of the files.

Remote files are scanned in threads, which only wait for the network.

A scan is Python code that parses headers, so threads would block each other. The processes are new interpreters: a fork
of the user's process could copy a lock that another thread holds, and `multiprocessing`'s spawn would run the user's
script again.

    caller     one thread per child writes a path and waits for the answer
    child      answers ``(True, arrays)`` or ``(False, exception)``; exits when its input ends, at the latest with its
               parent
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
from mpqueue.files.access.urls import is_url
from mpqueue.files.indexing.index_file import Arrays
from mpqueue.system.processes.cpus import num_cpus
from mpqueue.system.signals import group_signals
from mpqueue.system.signals.masks import set_signal_mask

Scan = Callable[[str], Arrays]

# Starting a child takes 0.2 s. In that time one process scans this much, or more if it reads only headers.
_BYTES_OF_A_CHILD = 512 * 1024 * 1024
_REMOTE_AT_ONCE = 8
_CHILD = "import sys; sys.path[:] = {path!r}; from mpqueue.files.indexing import scanning; scanning.answer()"


def scan_all(scan: Scan, paths: Sequence[str], total_bytes: int) -> Generator[Arrays, None, None]:
    """Yield the result of a scan for each file.

    Args:
        scan: A picklable function.
        paths: The files.
        total_bytes: The total size of the files.

    Raises:
        FileError: A file is invalid, or a child process exited unexpectedly.
        Exception: ``scan`` raised.
    """
    if any(map(is_url, paths)):
        yield from _scan_in_threads(scan, paths)
        return
    num_children = min(num_cpus(), len(paths), total_bytes // _BYTES_OF_A_CHILD)
    yield from map(scan, paths) if num_children < 2 else _scan_in_children(scan, paths, num_children)


def _scan_in_threads(scan: Scan, paths: Sequence[str]) -> Generator[Arrays, None, None]:
    """Scan remote files in threads, which wait for the network."""
    with ThreadPoolExecutor(min(len(paths), _REMOTE_AT_ONCE), "mpqueue-scan") as pool:
        try:
            yield from pool.map(scan, paths)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _scan_in_children(scan: Scan, paths: Sequence[str], num_children: int) -> Generator[Arrays, None, None]:
    idle: queue.SimpleQueue[_ScanProcess] = queue.SimpleQueue()

    def scan_one(path: str) -> Arrays:
        child = idle.get()
        try:
            return child.scan(path)
        finally:
            idle.put(child)

    with contextlib.ExitStack() as children:
        # Entered first, so closed last: threads waiting for a child get an end of file when the child is killed.
        pool = children.enter_context(ThreadPoolExecutor(num_children, "mpqueue-scan"))
        for _ in range(num_children):
            idle.put(children.enter_context(_ScanProcess(scan)))
        children.callback(pool.shutdown, wait=False, cancel_futures=True)
        yield from pool.map(scan_one, paths)


class _ScanProcess:
    """A context manager for a process that scans one file after another. The process is killed at the end."""

    def __init__(self, scan: Scan) -> None:
        command = [sys.executable, "-c", _CHILD.format(path=sys.path)]
        with group_signals.blocked():  # inherited, until `answer` ignores them
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send(scan)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # it has no work to finish
        with contextlib.suppress(BrokenPipeError):
            self._process.__exit__(None, None, None)

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # reading its answer then raises
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def scan(self, path: str) -> Arrays:
        """Return the result of the scan of a file."""
        assert self._process.stdout is not None
        self._send(path)
        try:
            is_good, result = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as cut:
            status = self._process.wait()
            raise FileError(
                path, None, f"the process that indexed it exited unexpectedly, with status {status}"
            ) from cut
        if not is_good:
            raise result
        arrays: Arrays = result
        return arrays


def answer() -> None:
    """Run the main loop of a child: scan the files that the caller requests."""
    # Ctrl-C reaches all processes of a terminal; the caller ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    group_signals.ignore()
    set_signal_mask()
    answers_fd = os.dup(1)
    os.dup2(2, 1)  # redirect other output of this process to stderr
    with open(answers_fd, "wb") as answers, contextlib.suppress(EOFError, BrokenPipeError):
        scan: Scan = pickle.load(sys.stdin.buffer)
        while True:
            path = pickle.load(sys.stdin.buffer)
            try:
                result: tuple[bool, Any] = True, scan(path)
            except Exception as error:
                result = False, error
            pickle.dump(result, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
