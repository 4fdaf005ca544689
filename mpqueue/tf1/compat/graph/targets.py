"""Session targets: ``grpc://localhost:2222`` is the address of the server with that port on this machine.

No port is opened. `mpqueue.service.server_directory` finds the server by a name derived from the port number. A program
that knows only the port of another program's server, as in TensorFlow, can therefore find that server.
"""

import socket
from typing import Any, Final

from mpqueue.engine.queue_address import QueueDirectory
from mpqueue.errors import NotFoundError, ServiceError, UnavailableError, UnimplementedError
from mpqueue.system.log import documented

WAIT_S: Final = 30.0
_SCHEME: Final = "grpc://"
_LOCAL: Final = ("localhost", "127.0.0.1", "[::1]", "0.0.0.0")  # noqa: S104 - no socket is bound


def queue_directory_of(target: Any, config: Any = None) -> QueueDirectory | None:
    """Return the directory of a session's queues with shared names. None: the session itself holds them.

    Raises:
        TypeError: ``target`` is not a ``str``.
        NotFoundError: ``target`` has an unknown form.
        UnimplementedError: ``target`` is on another machine.
        UnavailableError: The server did not become available in time.
    """
    if not isinstance(target, str):
        raise TypeError(f'Argument `target` must be a string, but got "{type(target).__name__}"')
    if target in ("", "local"):
        return None
    if not target.startswith(_SCHEME):
        raise NotFoundError(
            None,
            None,
            f"Session target must be '' or the address of a server, such as grpc://localhost:2222, got {target!r}",
        )
    from mpqueue.service.server_directory import ServerDirectory  # imported here because servers need Linux
    from mpqueue.tf1.serving.connect import find_queues

    directory = ServerDirectory.of(server_name(target.removeprefix(_SCHEME)))
    wait_ms = getattr(config, "__dict__", {}).get("operation_timeout_in_ms")
    try:
        return find_queues(directory, wait_ms / 1000 if wait_ms else WAIT_S)
    except ServiceError as error:
        raise UnavailableError(None, None, f"Cannot open a session with {target}: {error}") from error


def server_name(address: str) -> str:
    """Return the name of the server at an address such as ``localhost:2222``.

    Raises:
        NotFoundError: The address has no port.
        UnimplementedError: The address is on another machine.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise NotFoundError(None, None, f"Server address must be host:port, such as localhost:2222, got {address!r}")
    if host not in (*_LOCAL, socket.gethostname()):
        raise UnimplementedError(
            None,
            None,
            f"{address} is on another machine, but a server only serves programs on its own machine. For workers on "
            f'several machines, use backend="ray": see {documented("Several machines with Ray")}',
        )
    return f"grpc-{int(port)}"
