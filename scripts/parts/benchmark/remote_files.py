"""The share of a link that samples of remote files use: a server of the loopback answers late, at the rate of a link.

``python -m parts.benchmark.remote_files`` in the folder of scripts; it prints what each way has used of the link.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator

_CHUNK_BYTES = 64 * 1024
_ANSWER = b'HTTP/1.1 206 Partial Content\r\nETag: "1"\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n'
_REQUEST = re.compile(rb"^range: bytes=(\d+)-(\d+)\r$", re.MULTILINE | re.IGNORECASE)


class _Link:
    """Bytes leave at a rate, whoever they are for.

    Args:
        rate: Bytes a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._free_at = rate, 0.0

    async def send(self, writer: asyncio.StreamWriter, data: memoryview) -> None:
        """Send bytes when those before them have left."""
        for start in range(0, len(data), _CHUNK_BYTES):
            part = data[start : start + _CHUNK_BYTES]
            now = time.monotonic()
            # What a busy machine is late by is sent at once, as a network that has buffers would do.
            self._free_at = max(self._free_at, now - 0.05) + len(part) / self._rate
            writer.write(part)
            await writer.drain()
            if self._free_at > now:
                await asyncio.sleep(self._free_at - now)


async def serve(content: bytes, delay_s: float, rate: float) -> None:
    """Serve a file by ranges until the input ends; the first line of the output is the port."""
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
    """Serve a file from a process of its own; the URL of the file."""
    serving = f"asyncio.run(serve(open({path!r}, 'rb').read(), {delay_s}, {rate}))"
    code = f"import asyncio; from parts.benchmark.remote_files import serve; {serving}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/{os.path.basename(path)}"
        process.kill()


def make_tar(path: str, num_samples: int, sample_bytes: int) -> None:
    """Write an archive of samples of random bytes."""
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
    """Return the bytes a second of one request at a time, in a shuffled order."""
    from mpqueue import files

    source = files.Tar(url, index=folder)
    order = random.Random(1).sample(range(len(source)), len(source))
    num_bytes, began = 0, time.monotonic()
    for number in order:
        num_bytes += len(source[number]["jpg"])
        if time.monotonic() - began > seconds:
            break
    return num_bytes / (time.monotonic() - began)


def by_loader(url: str, folder: str, seconds: float, workers: int, batch_size: int) -> float:
    """Return the bytes a second of a shuffled loader, from its second batch of each worker on."""
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


def main() -> None:
    """Measure by turns, and print the medians as shares of the link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-ms", type=float, default=50.0)
    parser.add_argument("--rate", type=float, default=100e6, help="bytes a second")
    parser.add_argument("--sample-bytes", type=int, nargs="+", default=[100_000, 500_000])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for sample_bytes in options.sample_bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "train.tar")
            make_tar(path, 300_000_000 // sample_bytes, sample_bytes)
            with served(path, options.delay_ms / 1000, options.rate) as url:
                began = time.monotonic()
                by_one(url, folder, 0)
                index = os.path.getsize(path) / (time.monotonic() - began)
                found: dict[str, list[float]] = {"a request at a time": [], "a shuffled Loader": []}
                for _ in range(options.rounds):
                    found["a request at a time"].append(by_one(url, folder, options.seconds))
                    found["a shuffled Loader"].append(
                        by_loader(url, folder, options.seconds, options.workers, options.batch_size)
                    )
        shares = {name: round(statistics.median(rates) / options.rate, 3) for name, rates in found.items()}
        print(
            json.dumps({"sample_bytes": sample_bytes, "the index": round(index / options.rate, 3), **shares}),
            flush=True,
        )


if __name__ == "__main__":
    main()
