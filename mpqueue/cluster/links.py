"""The links of one pool: agents are started, their connections accepted, and Ray's table of nodes looked at.

One thread waits for connections and, every `LOOK_S` seconds, looks which nodes there are: a node that has joined gets
an agent, if workers are to move there. Each connection has a thread (`mpqueue.cluster.relay`), which ends with it.

An agent that the pool waits for at its start and that does not come is an error, which names the node; unless the node
died meanwhile. One that comes later is waited for by nobody: where it fails the node is left alone for a while, longer
each time.
"""

import os
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from mpqueue.cluster import wire
from mpqueue.cluster.agents import end_agent, reason_of, start_agent
from mpqueue.cluster.joining import Node, living_nodes
from mpqueue.cluster.relay import LinkState, NodeLink, Relay
from mpqueue.cluster.wire import AgentTerms
from mpqueue.errors import ClusterError
from mpqueue.plan.ray_options import RayOptions
from mpqueue.system import descriptors, hash_seed
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.system.log import warn
from mpqueue.system.wakeup import Wakeup
from mpqueue.transport.credentials import new_token
from mpqueue.workers.launcher import ProcessEvent
from mpqueue.workers.source_send import SourceImage

LOOK_S = 1.0
START_S = 60.0  # until an agent has connected: Ray may have to make its environment, or others hold its CPUs
_CHECK_S = 0.05  # as long as one is awaited
_HANDSHAKE_S = 10.0
_MOST_GREETED = 64  # strangers who connect and say nothing
_MOST_DELAYED_S = 60.0
_JOIN_S = 5.0
_NODE_DIED = "its node has died"  # Ray's words, before its table of nodes says so


class Links:
    """The links of one pool.

    Args:
        options: Of the user.
        spawn: Each worker is to be an interpreter of its own.
        address: Where to listen: this node's, as Ray knows it.
        emit: Takes events of workers, and links that came up late; in any thread.
        choose: Says on which nodes, among those that there are, a late agent is wanted, and for how many workers.

    Attributes:
        by_node: The present link of each node.
        past: All links that there were.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(
        self,
        options: RayOptions,
        *,
        spawn: bool,
        address: str,
        emit: "Callable[[ProcessEvent | NodeLink], None]",
        choose: "Callable[[list[Node]], list[tuple[Node, int]]]",
    ) -> None:
        self.by_node: dict[str, NodeLink] = {}
        self.past: list[NodeLink] = []
        self._options, self._spawn, self._emit, self._choose = options, spawn, emit, choose
        self._token = new_token()
        self._agents: dict[NodeLink, tuple[Any, Any, float]] = {}  # actor, its end, and until when it is to connect
        self._delays: dict[str, tuple[float, float]] = {}  # by node: not before, and how long that was
        self._is_closed = False
        self._relays: list[JoinedThread] = []
        self._wakeup = Wakeup()
        self._listener = descriptors.own_socket(socket.socket())
        wire.enlarge_buffers(self._listener)
        self._listener.bind((address, 0))
        self._listener.listen(128)
        self._thread = JoinedThread(self._run, "mpqueue-cluster")
        self._thread.start()

    def open(self, node: Node, num_workers: int, image: SourceImage | None, *, is_late: bool) -> NodeLink:
        """Have an agent started on a node."""
        link = NodeLink(node.id, node.name, self._emit, is_late=is_late)
        link.image = image
        number = len(self.past)
        self.past.append(link)
        terms = AgentTerms(
            self._listener.getsockname(), self._token, number, list(sys.path), _cwd(),
            hash_seed.chosen_hash_seed(os.environ), self._spawn, self._options.deadline_s,
        )  # fmt: skip
        self.by_node[node.id] = link
        actor, ended = start_agent(node, num_workers, self._options, terms)
        self._agents[link] = actor, ended, time.monotonic() + START_S
        # The thread looks every `_CHECK_S` from now on whether it could be started.
        self._wakeup.wake()
        return link

    def close(self) -> None:
        """End all agents and threads; workers that are left are reported as lost."""
        self._is_closed = True
        self._wakeup.wake()
        # First: from then on no link is opened behind those that are closed here.
        self._thread.join(_JOIN_S)
        for link in list(self.by_node.values()):
            link.close()
            if link.state is LinkState.STARTING:
                link.lose("the pool was stopped")
        for relay in self._relays:
            relay.join(_JOIN_S)
        descriptors.close_object(self._listener)
        # Those that are left: an agent whose relay has told it to end does so by itself.
        for actor, _ended, _until in list(self._agents.values()):
            end_agent(actor)
        self._agents.clear()
        self._wakeup.close()

    # -- The thread

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wakeup.fd, select.POLLIN)
        look_at = time.monotonic() + LOOK_S
        while not self._is_closed:
            is_starting = any(link.state is LinkState.STARTING for link in list(self._agents))
            wait_s = _CHECK_S if is_starting else max(0.0, look_at - time.monotonic())
            for fd, _ in poll.poll(wait_s * 1000):
                if fd == self._wakeup.fd:
                    self._wakeup.clear()
                else:
                    self._accept()
            self._check_starting()
            if time.monotonic() >= look_at:
                self._look()
                look_at = time.monotonic() + LOOK_S

    def _accept(self) -> None:
        self._relays = [relay for relay in self._relays if relay.is_alive()]
        try:
            sock = descriptors.own_socket(self._listener.accept()[0])
        except OSError:  # he is gone already, or there are no descriptors left
            return
        # Each has a thread from here on, before it has proven anything.
        if len(self._relays) >= len(self._agents) + _MOST_GREETED:
            descriptors.close_object(sock)
            return
        relay = JoinedThread(lambda: self._greet(sock), "mpqueue-relay")
        self._relays.append(relay)
        relay.start()

    def _check_starting(self) -> None:
        now = time.monotonic()
        for link, (_actor, ended, until) in list(self._agents.items()):
            if link.state is not LinkState.STARTING:
                continue
            reason = reason_of(ended)
            if reason is None and now > until:
                reason = (
                    f"its agent was not there after {START_S:g} s: are its CPUs (num_cpus of ray_options, for each "
                    "worker) held by others, or does a firewall refuse it this process's ports?"
                )
            if reason is not None:
                self._fail(link, reason)

    def _fail(self, link: NodeLink, reason: str) -> None:
        """An agent could not be started."""
        text = f"node {link.name}: {reason}"
        is_gone = _NODE_DIED in reason or all(node.id != link.node for node in self._nodes())
        if link.is_late and not is_gone:
            warn(f"a node of the cluster cannot be used: {text}")
        link.lose(text, None if is_gone else ClusterError(text))
        self._forget(link)

    def _look(self) -> None:
        """Start agents on nodes that have joined, or are to be tried again."""
        now = time.monotonic()
        nodes = [node for node in self._nodes() if self._delays.get(node.id, (0.0, 0.0))[0] <= now]
        for node, num_workers in self._choose(nodes):
            if node.id not in self.by_node and not self._is_closed:
                try:
                    self.open(node, num_workers, self._image(), is_late=True)
                except Exception as error:
                    warn(f"a node of the cluster cannot be used: node {node.name}: {error}")
                    self._delay(node.id)

    def _image(self) -> SourceImage | None:
        images = [link.image for link in self.past if link.image is not None]
        return images[-1] if images else None

    @staticmethod
    def _nodes() -> list[Node]:
        try:
            return living_nodes()
        except Exception:  # the program has left the cluster, or its head does not answer
            return []

    # -- A connection

    def _greet(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(_HANDSHAKE_S)
            if wire.uses_tls():
                # The descriptor goes over to another object.
                descriptors.forget_object(sock)
                sock = wire.wrap(sock, is_server=True)
                descriptors.own_object(sock)
            number = wire.read_handshake(sock, self._token)
            link = self.past[number] if number < len(self.past) else None
            # An agent that comes when its node was given up has no place: its workers are elsewhere by now.
            if link is None or not link.come_up():
                descriptors.close_object(sock)
                return
            wire.prepare(sock, self._options.deadline_s)
        except OSError:
            descriptors.close_object(sock)
            return
        if link.is_late:
            self._emit(link)
        Relay(link, sock, self._options.deadline_s).run()
        self._forget(link)

    def _forget(self, link: NodeLink) -> None:
        """A link is lost: end what may be left of its agent, and leave the node alone for a while."""
        agent = self._agents.pop(link, None)
        if agent is not None:
            end_agent(agent[0])
        if self.by_node.get(link.node) is link:
            self._delay(link.node)
            del self.by_node[link.node]

    def _delay(self, node: str) -> None:
        delay = min(_MOST_DELAYED_S, 2 * self._delays.get(node, (0.0, LOOK_S / 2))[1])
        self._delays[node] = time.monotonic() + delay, delay


def _cwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"
