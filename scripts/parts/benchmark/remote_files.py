"""The fraction of a link that samples of remote files use. A loopback server simulates the latency and rate of a link.

The server uses CPU time, too. Therefore a bare reader, which requests ranges in threads and ignores the bytes, is
measured for comparison. If other processes need the CPUs, neither of them uses the full link.
"""

import asyncio
import contextlib
import http.client
import itertools
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator

from parts.machine import SCRIPTS

DELAY_S, RATE = 0.05, 100e6  # of each answer; bytes per second
SET_BYTES, AHEAD_BYTES = 96_000_000, 32_000_000  # of the file; of a batch of all workers
LINK, BARE, ONE_BY_ONE, OURS = "the link", "a bare reader", "a request at a time", "mpqueue"
READERS = (OURS, BARE, ONE_BY_ONE, LINK)
BARE_THREADS = 64
_CHUNK_BYTES = 64 * 1024
_ANSWER = b'HTTP/1.1 206 Partial Content\r\nETag: "1"\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n'
_REQUEST = re.compile(rb"^range: bytes=(\d+)-(\d+)\r$", re.MULTILINE | re.IGNORECASE)


class _Link:
    """A link that sends bytes at a fixed rate to all clients together.

    Args:
        rate: Bytes per second.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._free_at = rate, 0.0

    async def send(self, writer: asyncio.StreamWriter, data: memoryview) -> None:
        """Send bytes after the previous ones have been sent."""
        for start in range(0, len(data), _CHUNK_BYTES):
            part = data[start : start + _CHUNK_BYTES]
            now = time.monotonic()
            # Bytes that a busy machine sends late are sent at once, as by a network with buffers.
            self._free_at = max(self._free_at, now - 0.05) + len(part) / self._rate
            writer.write(part)
            await writer.drain()
            if self._free_at > now:
                await asyncio.sleep(self._free_at - now)


async def serve(content: bytes, delay_s: float, rate: float) -> None:
    """Serve ranges of a file until the input ends; the first line of the output is the port."""
    data = memoryview(content)
    link = _Link(rate)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                found = _REQUEST.search(await reader.readuntil(b"\r\n\r\n"))
                assert found is not None, "a request without a range"
                first, last = int(found[1]), min(int(found[2]), len(data) - 1)
                await asyncio.sleep(delay_s)
                writer.write(_ANSWER % (last + 1 - first, first, last, len(data)))
                await link.send(writer, data[first : last + 1])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def served(path: str, delay_s: float, rate: float) -> Iterator[str]:
    """Serve a file from a separate process; yield the URL of the file."""
    serving = f"asyncio.run(serve(open({path!r}, 'rb').read(), {delay_s}, {rate}))"
    code = f"import asyncio; from parts.benchmark.remote_files import serve; {serving}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/{os.path.basename(path)}"
        finally:
            process.kill()


def make_tar(path: str, num_samples: int, sample_bytes: int) -> None:
    """Write an archive of samples with random bytes."""
    data = random.Random(0).randbytes(sample_bytes)
    with open(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(num_samples):
            member = tarfile.TarInfo(f"{number:06d}.jpg")
            member.size = sample_bytes
            archive.addfile(member, _Bytes(data))


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]


def by_one(url: str, folder: str, seconds: float) -> float:
    """Return the bytes per second with one request at a time, in shuffled order."""
    from mpqueue import files

    source = files.Tar(url, index=folder)
    order = random.Random(1).sample(range(len(source)), len(source))
    num_bytes, began = 0, time.monotonic()
    for number in itertools.cycle(order):
        num_bytes += len(source[number]["jpg"])
        if time.monotonic() - began > seconds:
            break
    return num_bytes / (time.monotonic() - began)


def by_loader(url: str, folder: str, seconds: float, workers: int, batch_size: int) -> float:
    """Return the bytes per second of a shuffled loader after the first batch of each worker."""
    import mpqueue
    from mpqueue import files

    dataset = mpqueue.Dataset(files.Tar(url, index=folder)).shuffle().repeat().batch(batch_size)
    with mpqueue.Loader(dataset, workers=workers, seed=1) as loader:
        batches = iter(loader)
        for _ in range(2 * workers):
            next(batches)
        num_bytes, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            num_bytes += sum(map(len, next(batches)["jpg"]))
        return num_bytes / (time.monotonic() - began)


def by_bare_reader(url: str, size: int, sample_bytes: int, seconds: float) -> float:
    """Return the bytes per second of threads that request random ranges of a file, each over one connection."""
    address = urllib.parse.urlsplit(url)
    until = time.monotonic() + seconds
    counts = [0] * BARE_THREADS

    def read(number: int) -> None:
        dice = random.Random(number)
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        with contextlib.closing(connection):
            while time.monotonic() < until:
                start = dice.randrange(size - sample_bytes)
                connection.request("GET", address.path, headers={"Range": f"bytes={start}-{start + sample_bytes - 1}"})
                counts[number] += len(connection.getresponse().read())

    threads = [threading.Thread(target=read, args=(number,)) for number in range(BARE_THREADS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def link_rate(reader: str, sample_bytes: int, num_workers: int, seconds: float) -> float:
    """Return the bytes per second of one of `READERS` for samples of a given size."""
    if reader == LINK:
        return RATE
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "train.tar")
        make_tar(path, SET_BYTES // sample_bytes, sample_bytes)
        with served(path, DELAY_S, RATE) as url:
            if reader == BARE:
                return by_bare_reader(url, os.path.getsize(path), sample_bytes, seconds)
            if reader == ONE_BY_ONE:
                return by_one(url, folder, seconds)
            return by_loader(url, folder, seconds, num_workers, AHEAD_BYTES // sample_bytes // num_workers)
