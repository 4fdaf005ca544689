"""Targets of sessions: ``grpc://localhost:2222`` stands for the server of that port on this machine.

No port is opened. The number makes a name, by which `mpqueue.service.server_directory` finds the server: so a program
that knows only the port of another one's server, as TensorFlow's programs do, finds it here, too.
"""

import socket
from typing import Any, Final

from mpqueue.engine.queue_address import QueueDirectory
from mpqueue.errors import NotFoundError, ServiceError, UnavailableError, UnimplementedError
from mpqueue.system.log import documented

WAIT_S: Final = 30.0
_SCHEME: Final = "grpc://"
_LOCAL: Final = ("localhost", "127.0.0.1", "[::1]", "0.0.0.0")  # noqa: S104 - nobody listens there


def queue_directory_of(target: Any, config: Any = None) -> QueueDirectory | None:
    """Return the directory of queues with shared names of a session; None: the session itself.

    Raises:
        TypeError: ``target`` is no str.
        NotFoundError: It is of no known form.
        UnimplementedError: It is on another machine.
        UnavailableError: There is no server in time.
    """
    if not isinstance(target, str):
        raise TypeError(f'Argument `target` must be a string, but got "{type(target).__name__}"')
    if target in ("", "local"):
        return None
    if not target.startswith(_SCHEME):
        raise NotFoundError(
            None,
            None,
            f"there is no session for the target {target!r}: it is '', or a server's, as grpc://localhost:2222",
        )
    from mpqueue.service.server_directory import ServerDirectory  # only now: servers exist on Linux only
    from mpqueue.tf1.serving.connect import find_queues

    directory = ServerDirectory.of(server_name(target.removeprefix(_SCHEME)))
    wait_ms = getattr(config, "__dict__", {}).get("operation_timeout_in_ms")
    try:
        return find_queues(directory, wait_ms / 1000 if wait_ms else WAIT_S)
    except ServiceError as error:
        raise UnavailableError(None, None, f"no session with {target}: {error}") from error


def server_name(address: str) -> str:
    """Return the name of the server of an address such as ``localhost:2222``.

    Raises:
        NotFoundError: It has no port.
        UnimplementedError: It is on another machine.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise NotFoundError(
            None, None, f"{address!r} is no address of a server: give a host and a port, as localhost:2222"
        )
    if host not in (*_LOCAL, socket.gethostname()):
        raise UnimplementedError(
            None,
            None,
            f"{address} is on another machine, and a server here serves the programs of its own. For workers on "
            f'several machines there is backend="ray": see {documented("Several machines with Ray")}',
        )
    return f"grpc-{int(port)}"
