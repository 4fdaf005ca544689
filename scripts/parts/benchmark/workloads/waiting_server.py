"""A local HTTP server that answers after a delay, as a distant one would; a separate program, which prints its port.

It ends with its standard input, so that it never outlives the measurement. It is a bare protocol of asyncio, because
its CPU time is taken from the programs that are measured.
"""

import asyncio
import functools
import subprocess
import sys
import threading
from typing import Any

DELAY_S = 0.01
BODY = bytes(range(256)) * 4
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


@functools.cache
def port() -> int:
    """Start the server, once for this process, and return its port."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    _running.append(process)  # its input remains open
    return int(process.stdout.readline())


_running: list["subprocess.Popen[bytes]"] = []


class _Answering(asyncio.Protocol):
    """A connection: each request is answered after the delay."""

    def connection_made(self, transport: Any) -> None:
        """Remember the connection."""
        self._transport, self._begun = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer complete requests."""
        *complete, self._begun = (self._begun + data).split(b"\r\n\r\n")
        for _ in complete:
            asyncio.get_running_loop().call_later(DELAY_S, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def await_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=await_end, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve())
