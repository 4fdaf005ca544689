"""`Server`: a directory of queues that several programs on this machine share; see `mpqueue.train.connect`."""

import atexit
import os
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mpqueue.errors import InternalError, NotFoundError, ServiceError, UnimplementedError, UnknownError
from mpqueue.system.log import documented
from mpqueue.tf1.compat.functions.declare import public_class
from mpqueue.tf1.compat.graph.targets import server_name
from mpqueue.tf1.compat.train.cluster import ClusterSpec, ServerDef

if TYPE_CHECKING:
    from mpqueue.tf1.serving.server import QueueServer

_PORTS = range(32768, 61000)
_started: list["Server"] = []  # keeps references to servers until the program ends


@public_class("train.Server")
class Server:
    """A server in this process that holds queues with shared names for the sessions of several programs.

    A `tf.Session` with the server's ``target`` has its queues with shared names on the server. Variables, readers and
    all other state remain in the session. The server ends with its program. Operations on its queues then raise
    `UnavailableError`.

    Args:
        server_or_cluster_def: A `ServerDef`, or the cluster: a `ClusterSpec` or its argument. The cluster must have one
            task on this machine, such as ``{"local": ["localhost:2222"]}``. Port 0 selects a free port.
        job_name: The job of the server's task. If None, the only job.
        task_index: The index of the task in its job. If None, the only task.
        protocol: "grpc". No port is opened: programs of this user find the server by a name with the port number.
        config: No effect.
        start: False to start the server later with `start`.

    Raises:
        TypeError: ``server_or_cluster_def`` does not describe a cluster.
        ValueError: The job or the task is not specified, and there are several.
        InternalError: The job or the task does not exist.
        NotFoundError: Another protocol, or an address without a port.
        UnimplementedError: A cluster with several tasks, or on another machine.
        UnknownError: The port is used by another server.
    """

    def __init__(
        self,
        server_or_cluster_def: Any,
        job_name: str | None = None,
        task_index: int | None = None,
        protocol: str | None = None,
        config: Any = None,
        start: bool = True,
    ) -> None:
        self._server_def = _server_def(server_or_cluster_def, job_name, task_index, protocol, config)
        self._address = _with_port(_address(self._server_def))
        self._name = server_name(self._address)
        self._server: QueueServer | None = None
        if start:
            self.start()

    def start(self) -> None:
        """Start the server, unless it is running already.

        Raises:
            UnknownError: The port is used by another server.
        """
        if self._server is not None:
            return
        from mpqueue.tf1.serving.server import QueueServer  # imported here because servers need Linux

        try:
            self._server = QueueServer(self._name).start()
        except ServiceError as error:
            raise UnknownError(None, None, f"Could not start the server at {self.target}: {error}") from error
        _started.append(self)
        atexit.register(self._server.stop)

    def join(self) -> None:
        """Block until the server ends: indefinitely, or until Ctrl-C.

        Raises:
            RuntimeError: The server is not started.
        """
        if self._server is None:
            raise RuntimeError("The server is not started: call start() before join()")
        self._server.wait()

    @property
    def server_def(self) -> ServerDef:
        """The definition of the server."""
        return self._server_def

    @property
    def target(self) -> str:
        """The target for a `Session` in any program on this machine."""
        return f"grpc://{self._address}"

    @staticmethod
    def create_local_server(config: Any = None, start: bool = True) -> "Server":
        """Return a server of a cluster with a single task, at a free port.

        Args:
            config: No effect.
            start: False to start the server later with `start`.
        """
        return Server({"localhost": ["localhost:0"]}, protocol="grpc", config=config, start=start)


def _server_def(
    argument: Any, job_name: str | None, task_index: int | None, protocol: str | None, config: Any
) -> ServerDef:
    if isinstance(argument, ServerDef):
        changes = {
            "job_name": job_name,
            "task_index": task_index,
            "protocol": protocol,
            "default_session_config": config,
        }
        return replace(argument, **{name: value for name, value in changes.items() if value is not None})
    try:
        cluster = ClusterSpec(argument)
    except TypeError:
        raise TypeError(
            "Could not convert `server_or_cluster_def` to a `tf.train.ServerDef` or `tf.train.ClusterSpec`."
        ) from None
    if job_name is None:
        if len(cluster.jobs) != 1:
            raise ValueError("Must specify an explicit `job_name`.")
        job_name = cluster.jobs[0]
    if task_index is None:
        indices = cluster.task_indices(job_name) if job_name in cluster.jobs else [0]
        if len(indices) != 1:
            raise ValueError("Must specify an explicit `task_index`.")
        task_index = indices[0]
    return ServerDef(cluster.as_cluster_def(), job_name, task_index, protocol or "grpc", config)


def _address(server_def: ServerDef) -> str:
    """Return the address of the only task.

    Raises:
        InternalError: The job or the task does not exist.
        NotFoundError: Another protocol.
        UnimplementedError: The cluster has several tasks.
    """
    jobs = {job.name: job.tasks for job in server_def.cluster.job}
    if server_def.job_name not in jobs:
        raise InternalError(None, None, f'Job "{server_def.job_name}" was not defined in cluster')
    tasks = jobs[server_def.job_name]
    if server_def.task_index not in tasks:
        raise InternalError(None, None, f'Task {server_def.task_index} was not defined in job "{server_def.job_name}"')
    if server_def.protocol != "grpc":
        raise NotFoundError(
            None, None, f"No server factory registered for the protocol {server_def.protocol!r}: use 'grpc'"
        )
    others = [address for each in jobs.values() for address in each.values()]
    if len(others) > 1:
        raise UnimplementedError(
            None,
            None,
            f"Clusters with several tasks are not supported, got {len(others)} tasks ({', '.join(others)}): a server "
            "serves all programs on its machine, as the only task of its cluster. For workers on several machines, use "
            f'backend="ray": see {documented("Several machines with Ray")}',
        )
    return tasks[server_def.task_index]


def _with_port(address: str) -> str:
    """Return the address with a free port in place of port 0."""
    host, colon, port = address.rpartition(":")
    if port != "0":
        return address
    from mpqueue.service.server_directory import ServerDirectory

    while True:
        candidate = f"{host}{colon}{secrets.choice(_PORTS)}"
        if not os.path.exists(ServerDirectory.of(server_name(candidate)).folder):
            return candidate
