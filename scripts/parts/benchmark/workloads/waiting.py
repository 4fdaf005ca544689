"""Sources that wait, plain and asynchronous: files, augmented images, and requests with and without Python code."""

import asyncio
import collections
import http.client
import threading
import time
from typing import Any

import numpy as np

from parts.benchmark.workloads import waiting_server
from parts.benchmark.workloads.sample_sources import Augmented, Endlessly, LocalFiles

AT_ONCE = 64
PYTHON_S = 0.002


class AsyncFiles(LocalFiles):
    """The files, for an event loop. Reading from the page cache does not wait."""

    async def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return super().__getitem__(index)


class AsyncImages(Augmented):
    """The images, for an event loop."""

    async def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return super().__getitem__(index)


class Answers(Endlessly):
    """Answers of an HTTP server, over one connection for each thread."""

    def __init__(self) -> None:
        self.port = waiting_server.port()
        self._own: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_own": None}

    def __getitem__(self, index: int) -> np.ndarray:
        if self._own is None:
            self._own = threading.local()
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        self._own.connection.request("GET", f"/{index}")
        return self.made(self._own.connection.getresponse().read())

    def made(self, body: bytes) -> np.ndarray:
        """Return the sample for an answer."""
        return np.frombuffer(body, np.uint8)


class AsyncAnswers(Answers):
    """The same, over a pool of connections."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: collections.deque[Any] = collections.deque()

    async def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % index)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0]))
        self.idle.append((reader, writer))
        return self.made(body)

    async def aclose(self) -> None:
        """Close the connections."""
        while self.idle:
            self.idle.pop()[1].close()


class _WithPython:
    """Two milliseconds of Python code for each answer."""

    def made(self, body: bytes) -> np.ndarray:
        """Return the sample for an answer."""
        until, count = time.thread_time() + PYTHON_S, 0
        while time.thread_time() < until:
            count += sum(range(100))
        return np.frombuffer(body, np.uint8)


class AnswersAndPython(_WithPython, Answers):
    """Answers with Python code after them."""


class AsyncAnswersAndPython(_WithPython, AsyncAnswers):
    """The same, for an event loop."""


class Sleeps(Endlessly):
    """Samples that only wait."""

    def __getitem__(self, index: int) -> int:
        time.sleep(waiting_server.DELAY_S)
        return index


class AsyncSleeps(Endlessly):
    """The same, for an event loop."""

    async def __getitem__(self, index: int) -> int:
        await asyncio.sleep(waiting_server.DELAY_S)
        return index
