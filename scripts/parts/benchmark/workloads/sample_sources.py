"""Endless sources of samples, created in every process that measures them.

Some wait, plain or asynchronous: files, augmented images, and requests with and without Python code.
"""

import asyncio
import collections
import http.client
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from parts.benchmark.in_flight import ENDLESS
from parts.benchmark.workloads import waiting_server
from parts.machine import CACHE, written

AT_ONCE = 64
PYTHON_S = 0.002


class Endlessly:
    """A source with one endless epoch."""

    def __len__(self) -> int:
        return ENDLESS


class Images(Endlessly):
    """Images of a set that does not fit into a CPU cache."""

    def __init__(self) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (256, 224, 224, 3), np.uint8)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[index % len(self.images)]


class Rows(Endlessly):
    """Short rows of numbers, each with a label."""

    def __init__(self) -> None:
        self.rows = np.random.default_rng(0).random((1 << 16, 16), np.float32)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        index %= len(self.rows)
        return self.rows[index], index


class LocalFiles(Endlessly):
    """Files of 128 KB, read from the page cache and normalised."""

    NUM_FILES, BYTES = 512, 1 << 17

    def __init__(self) -> None:
        self.folder = written(CACHE / "random files", self._write)

    def _write(self, folder: Path) -> None:
        folder.mkdir()
        draw = np.random.default_rng(0)
        for number in range(self.NUM_FILES):
            (folder / f"{number}").write_bytes(draw.bytes(self.BYTES))

    def __getitem__(self, index: int) -> np.ndarray:
        data = (self.folder / f"{index % self.NUM_FILES}").read_bytes()
        return (np.frombuffer(data, np.uint8).astype(np.float32) / 255 - 0.5) / 0.25


class Augmented(Endlessly):
    """Decoded images that are cropped, flipped and normalised."""

    SIDE, CROP = 256, 224

    def __init__(self) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (64, 3, self.SIDE, self.SIDE), np.uint8)

    def __getitem__(self, index: int) -> np.ndarray:
        draw = np.random.default_rng(index)
        top, left = draw.integers(0, self.SIDE - self.CROP + 1, 2)
        image = self.images[index % len(self.images), :, top : top + self.CROP, left : left + self.CROP]
        if draw.random() < 0.5:
            image = image[:, :, ::-1]
        return (image.astype(np.float32) / 255 - 0.45) / 0.225


class Requests(Endlessly):
    """Answers of 1 KB; a thread waits 10 ms for each."""

    def __getitem__(self, index: int) -> bytes:
        time.sleep(0.01)
        return index.to_bytes(8, "little") * 128


class Words(Endlessly):
    """Strings that Python code tokenises and pads, which holds the GIL."""

    def __init__(self) -> None:
        self.words = ["a", "sample", "of", "nine", "words", "that", "a", "tokeniser", "reads"] * 40
        self.numbers = {word: index for index, word in enumerate(sorted(set(self.words)))}

    def __getitem__(self, index: int) -> list[int]:
        tokens: list[int] = []
        for _ in range(3):
            tokens = [self.numbers[word] + index % 7 for word in self.words]
        return tokens[:256]


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


def stack_arrays(samples: list[Any]) -> Any:
    """Return one array of arrays; other samples remain a list."""
    return np.stack(samples) if isinstance(samples[0], np.ndarray) else samples
