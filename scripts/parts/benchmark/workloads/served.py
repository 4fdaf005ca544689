"""A server in a separate process, and its consumers."""

import contextlib
import dataclasses
import multiprocessing
import tempfile
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from typing import Any

import mpqueue

ATTACH_S = 60.0


@dataclasses.dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        name: Name for consumers.
        pid: Process id.
        end: End of a pipe to the process.
    """

    name: str
    pid: int
    end: Connection

    def ring_bytes(self) -> int:
        """Return the allocated memory of the ring."""
        self.end.send("ring")
        return int(self.end.recv())

    def batches(self, rank: int | None = None) -> Generator[Any]:
        """Attach in this process, and yield the batches of one epoch."""
        with mpqueue.attach(self.name, rank=rank, timeout=ATTACH_S) as consumer:
            yield from consumer


@contextlib.contextmanager
def served(make: Callable[[], Any], **options: Any) -> Iterator[Served]:
    """Start a server in a temporary folder.

    Args:
        make: Creates the source in the server's process.
        options: Options of the `mpqueue.Server`.
    """
    context = multiprocessing.get_context("fork")
    end, other = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="mpqueue-") as folder:
        name = f"{folder}/server"
        process = context.Process(target=_serve, args=(name, make, options, other))
        process.start()
        other.close()
        try:
            end.recv()  # the server is ready; an EOFError if it failed
            yield Served(name, process.pid or 0, end)
        finally:
            with contextlib.suppress(BrokenPipeError):  # if the server failed
                end.send("stop")
            process.join()
            end.close()


def _serve(name: str, make: Callable[[], Any], options: dict[str, Any], end: Connection) -> None:
    with mpqueue.Server(name, make(), **options) as server:
        end.send("serves")
        while end.recv() == "ring":
            end.send(server.statistics().ring_bytes)
