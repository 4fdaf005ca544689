"""`Server`: a directory for the queues that several programs of this machine share; see `mpqueue.train.connect`."""

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
_started: list["Server"] = []  # a server lives as long as its program, whoever holds the object


@public_class("train.Server")
class Server:
    """A server in this process: queues with shared names live in it, for the sessions of all programs that name it.

    A `tf.Session` whose ``target`` is the server's has its queues with shared names here; variables, readers and all
    else stay in the session. The server ends with its program, and what uses its queues then gets `UnavailableError`.

    Args:
        server_or_cluster_def: The `ServerDef`, or the cluster: a `ClusterSpec`, or what one is made of. Of one task on
            this machine, as ``{"local": ["localhost:2222"]}``; port 0 stands for a free one.
        job_name: The job of the task that it is, default the only one.
        task_index: The index of the task in its job, default the only one.
        protocol: "grpc". No port is opened: the number is a name, by which programs of this user find the server.
        config: No effect.
        start: False to leave that to `start`.

    Raises:
        TypeError: What is given is no cluster.
        ValueError: The job or the task is not said, and there are several.
        InternalError: There is no such job or task.
        NotFoundError: Another protocol, or an address without a port.
        UnimplementedError: A cluster of several tasks, or on another machine.
        UnknownError: Another server has the port.
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
        """Serve; nothing if it does already.

        Raises:
            UnknownError: Another server has the port.
        """
        if self._server is not None:
            return
        from mpqueue.tf1.serving.server import QueueServer  # only now: it exists on Linux only

        try:
            self._server = QueueServer(self._name).start()
        except ServiceError as error:
            raise UnknownError(None, None, f"Could not start the server at {self.target}: {error}") from error
        _started.append(self)
        atexit.register(self._server.stop)

    def join(self) -> None:
        """Wait until the server ends: for ever, or until Ctrl-C.

        Raises:
            RuntimeError: It was not started.
        """
        if self._server is None:
            raise RuntimeError("the server was not started: call start() before join()")
        self._server.wait()

    @property
    def server_def(self) -> ServerDef:
        """The definition that it was made of."""
        return self._server_def

    @property
    def target(self) -> str:
        """The name of the server for a `Session`, in whatever program of this machine."""
        return f"grpc://{self._address}"

    @staticmethod
    def create_local_server(config: Any = None, start: bool = True) -> "Server":
        """A server of a cluster that has no other task, at a free port.

        Args:
            config: No effect.
            start: False to leave that to `start`.
        """
        return Server({"localhost": ["localhost:0"]}, protocol="grpc", config=config, start=start)


def _server_def(
    given: Any, job_name: str | None, task_index: int | None, protocol: str | None, config: Any
) -> ServerDef:
    if isinstance(given, ServerDef):
        changes = {
            "job_name": job_name,
            "task_index": task_index,
            "protocol": protocol,
            "default_session_config": config,
        }
        return replace(given, **{name: value for name, value in changes.items() if value is not None})
    try:
        cluster = ClusterSpec(given)
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
        InternalError: There is no such job or task.
        NotFoundError: Another protocol.
        UnimplementedError: There are others.
    """
    jobs = {job.name: job.tasks for job in server_def.cluster.job}
    if server_def.job_name not in jobs:
        raise InternalError(None, None, f'Job "{server_def.job_name}" was not defined in cluster')
    tasks = jobs[server_def.job_name]
    if server_def.task_index not in tasks:
        raise InternalError(None, None, f'Task {server_def.task_index} was not defined in job "{server_def.job_name}"')
    if server_def.protocol != "grpc":
        raise NotFoundError(
            None, None, f"No server factory registered for the protocol {server_def.protocol!r}: there is only 'grpc'"
        )
    others = [address for each in jobs.values() for address in each.values()]
    if len(others) > 1:
        raise UnimplementedError(
            None,
            None,
            f"a cluster of {len(others)} tasks ({', '.join(others)}): a server here is the only one of its cluster, "
            'for all programs of its machine. For workers on several there is backend="ray": see '
            f"{documented('Several machines with Ray')}",
        )
    return tasks[server_def.task_index]


def _with_port(address: str) -> str:
    """Return an address whose port is not 0: instead, one that no server has."""
    host, colon, port = address.rpartition(":")
    if port != "0":
        return address
    from mpqueue.service.server_directory import ServerDirectory

    while True:
        found = f"{host}{colon}{secrets.choice(_PORTS)}"
        if not os.path.exists(ServerDirectory.of(server_name(found)).folder):
            return found
