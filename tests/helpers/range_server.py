"""An HTTP server on the loopback interface that serves byte ranges and injects faults."""

import contextlib
import gc
import http.server
import re
import socket
import threading

from mpqueue.files.access import urls


class RangeServer:
    """Files that are served from memory.

    Attributes:
        files: Contents by name. A content that changes has another ETag.
        faults: One fault for each of the next requests: "busy" (503), "drop" (no answer), "cut" (half of an
            answer), "silent" (no answer until the test ends), or None.
        requests: The name, the range (or None) and the port of the connection of each request.
    """

    has_ranges = True
    has_etags = True

    def __init__(self):
        self.files, self.faults, self.requests = {}, [], []
        self.lock, self.ended = threading.Lock(), threading.Event()

    def url(self, name):
        return f"http://127.0.0.1:{self.port}/{name}"


def _etag(data):
    return f'"{hash(data) & 0xFFFFFFFF:x}-{len(data)}"'


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait 40 ms for the acknowledgement of its headers

    def setup(self):
        super().setup()
        with self.served.lock:
            self.connections.append(self.request)

    def log_message(self, *args):
        pass

    def do_GET(self):
        served, name = self.served, self.path.lstrip("/")
        requested = self.headers.get("Range") if served.has_ranges else None
        with served.lock:
            served.requests.append((name, requested, self.client_address[1]))
            fault = served.faults.pop(0) if served.faults else None
        if fault == "silent":
            served.ended.wait()
        if fault in ("drop", "silent"):
            self.close_connection = True
            return
        if fault == "busy":
            self._answer(503, {}, b"")
            return
        data = served.files.get(name)
        root = f"{name.rstrip('/')}/"
        inside = [other[len(root) :].partition("/") for other in list(served.files) if other.startswith(root)]
        if data is None and inside:
            links = "\n".join(f'<a href="{child}{slash}">x</a>' for child, slash, _ in inside)
            self._answer(200, {"Content-Type": "text/html"}, links.encode())
            return
        if data is None:
            self._answer(404, {}, b"")
            return
        headers = {"ETag": _etag(data)} if served.has_etags else {}
        if requested is None:
            self._answer(200, headers, data)
            return
        start, stop = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", requested).groups())
        if start >= len(data):
            self._answer(416, headers | {"Content-Range": f"bytes */{len(data)}"}, b"")
            return
        part = data[start : stop + 1]
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        self._answer(206, headers, part, cut=fault == "cut")

    do_HEAD = do_GET

    def _answer(self, status, headers, data, *, cut=False):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Ignore clients that have disconnected."""


def forget_file_systems():
    """Forget this process's file systems, which closes their connections. The next read creates others."""
    urls._systems.by_key.clear()
    gc.collect()


@contextlib.contextmanager
def range_server():
    """Serve until the end of the context, and then close all connections."""
    served, connections = RangeServer(), []
    handler = type("Handler", (_Handler,), {"served": served, "connections": connections})
    with _Quiet(("127.0.0.1", 0), handler) as server:
        served.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            forget_file_systems()
            served.ended.set()
            server.shutdown()
            thread.join()
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
