"""The links of one pool: starts agents, accepts their connections, and monitors the nodes of the cluster.

One thread waits for connections. Every `LOOK_S` seconds it checks the nodes of the cluster: a node that has joined gets
an agent if workers should move there. Each connection has a thread (`mpqueue.backends.ray.relay`), which ends with it.

If an agent of the initial nodes does not connect, the pool raises an error that names the node, unless the node has
crashed. If an agent of a node that joined later does not connect, the node is ignored for a while, longer each time.
"""

import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from mpqueue.backends.ray import wire
from mpqueue.backends.ray.agents import end_agent, reason_of, start_agent
from mpqueue.backends.ray.connect import Node, living_nodes
from mpqueue.backends.ray.relay import LinkState, NodeLink, Relay
from mpqueue.backends.ray.wire import AgentTerms
from mpqueue.backends.sending.source_send import SourceImage
from mpqueue.backends.start.launcher import ProcessEvent, command_line, working_folder
from mpqueue.errors import ClusterError
from mpqueue.plan.options.ray_options import RayOptions
from mpqueue.system.descriptors import descriptors
from mpqueue.system.log import warn
from mpqueue.system.processes import hash_seed
from mpqueue.system.processes.wakeup import Wakeup
from mpqueue.system.signals.joined_threads import JoinedThread
from mpqueue.system.signals.locks import Lock
from mpqueue.transport.credentials import new_token
from mpqueue.transport.listener import SCARCE

LOOK_S = 1.0
START_S = 60.0  # until an agent has connected: Ray may have to create its environment, or wait for CPUs
_CHECK_S = 0.05  # between two checks of agents that are starting
_HANDSHAKE_S = 10.0
_MOST_GREETED = 64  # connections without a handshake
_MOST_DELAYED_S = 60.0
_JOIN_S = 5.0
_NODE_DIED = "its node has died"  # Ray's message, which can precede the change in its table of nodes


class Links:
    """The links of one pool.

    Args:
        options: The options of the user.
        spawn: Whether each worker is a new interpreter.
        address: The address to listen at: the address of this node in Ray.
        emit: Receives events of workers, and links that connected late; called from any thread.
        choose: Returns the nodes, out of the given ones, that should get a late agent, each with its number of workers.

    Attributes:
        by_node: The current link of each node.
        past: All links so far.
        image: The source of the workers; None if absent yet.

    Raises:
        OSError: The process has no free descriptors or threads, or the address does not belong to this machine.
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
        self.image: SourceImage | None = None
        self._options, self._spawn, self._emit, self._choose = options, spawn, emit, choose
        self._token = new_token()
        self._agents: dict[NodeLink, tuple[Any, Any, float]] = {}  # actor, reference to its result, and deadline
        self._delays: dict[str, tuple[float, float]] = {}  # by node: earliest next attempt, and the delay
        self._is_closed, self._opening = False, Lock()
        self._relays: list[JoinedThread] = []
        self._shortage: OSError | None = None  # why waiting connections cannot be accepted at present
        with contextlib.ExitStack() as undo:
            self._wakeup = Wakeup()
            undo.callback(self._wakeup.close)
            self._listener = descriptors.own_socket(socket.socket())
            undo.callback(descriptors.close_object, self._listener)
            wire.enlarge_buffers(self._listener)
            self._listener.bind((address, 0))
            self._listener.listen(128)
            self._listener.setblocking(False)  # a peer may disconnect before it is accepted
            self._thread = JoinedThread(self._run, "mpqueue-cluster")
            self._thread.start()
            undo.pop_all()

    def open(self, node: Node, num_workers: int, *, is_late: bool) -> NodeLink:
        """Start an agent on a node, unless another thread has just done so.

        Raises:
            Exception: Ray could not create the agent.
        """
        # Both the consumer's thread and this object's open links. A second one would replace the first in `by_node`,
        # and the workers of the first could no longer be killed.
        with self._opening:
            link = self.by_node.get(node.id)
            if link is None or link.state is LinkState.LOST:
                link = self._open(node, num_workers, is_late=is_late)
            return link

    def _open(self, node: Node, num_workers: int, *, is_late: bool) -> NodeLink:
        link = NodeLink(node.id, node.name, self._emit, is_late=is_late)
        link.image = self.image
        # Its index in `past`: the agent sends it after the handshake, and so names its link.
        link_index = len(self.past)
        self.past.append(link)
        program = list(sys.path), command_line(), working_folder(), hash_seed.chosen_hash_seed(os.environ)
        address, deadline_s = self._listener.getsockname(), self._options.deadline_s
        terms = AgentTerms(address, self._token, link_index, *program, self._spawn, deadline_s)
        self.by_node[node.id] = link
        try:
            actor, ended = start_agent(node, num_workers, self._options, terms)
        except BaseException as error:
            # No agent will connect: the node needs a new agent, and workers must not wait for this one.
            del self.by_node[node.id]
            reason = f"its agent could not be created ({type(error).__name__}: {error})"
            link.lose(lost=f"node {node.name} was lost: {reason}")
            raise
        self._agents[link] = actor, ended, time.monotonic() + START_S
        # The thread then checks every `_CHECK_S` whether the agent could be started.
        self._wakeup.wake()
        return link

    def set_image(self, image: SourceImage) -> list[threading.Event]:
        """Send each node the changed parts of a source; return events that are set once the buffers may change."""
        # With the lock: a link that another thread opens now either is in `by_node`, or gets this image.
        with self._opening:
            self.image = image
            return [link.set_image(image) for link in list(self.by_node.values())]

    def close(self) -> None:
        """Stop all agents and threads; remaining workers are reported as lost."""
        self._is_closed = True
        self._wakeup.wake()
        # Stop the thread first: it could open a link after the others were closed.
        self._thread.join(_JOIN_S)
        for link in list(self.by_node.values()):
            link.close()
            if link.state is LinkState.STARTING:
                link.lose(lost="the pool was stopped")
        for relay in self._relays:
            relay.join(_JOIN_S)
        descriptors.close_object(self._listener)
        # Kill the remaining agents. An agent that has received STOP from its relay exits by itself.
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
        except OSError as error:
            if error.errno in SCARCE:
                self._pause(error)
            return
        self._shortage = None
        # Each connection gets a thread before it has authenticated, so limit their number.
        if len(self._relays) >= len(self._agents) + _MOST_GREETED:
            descriptors.close_object(sock)
            return
        # The handshake blocks, and with TLS takes several messages. A silent peer must not delay the other agents.
        relay = JoinedThread(lambda: self._greet(sock), "mpqueue-relay")
        try:
            relay.start()
        except OSError:
            # No thread is left. The agent exits with its connection, and `_check_starting`, in this thread, reports it.
            descriptors.close_object(sock)
            return
        self._relays.append(relay)

    def _pause(self, error: OSError) -> None:
        """Wait before the next attempt: the socket remains readable, and polling it would use a whole CPU."""
        if self._shortage is None:
            self._shortage = error
            warn(f"this process cannot accept connections from nodes of the cluster: {error}; check `ulimit -n`")
        time.sleep(_CHECK_S)

    def _check_starting(self) -> None:
        now = time.monotonic()
        for link, (_actor, ended, until) in list(self._agents.items()):
            if link.state is not LinkState.STARTING:
                continue
            reason = reason_of(ended)
            if reason is None and now > until and self._shortage is not None:
                reason = f"its agent waited {START_S:g} s for this process to accept its connection: {self._shortage}"
            elif reason is None and now > until:
                reason = (
                    f"its agent did not connect within {START_S:g} s: check that its CPUs are free (num_cpus of "
                    "ray_options, per worker), and that no firewall blocks this process's ports"
                )
            if reason is not None:
                self._fail(link, reason)

    def _fail(self, link: NodeLink, reason: str) -> None:
        """Report that an agent could not be started."""
        text = f"node {link.name}: {reason}"
        is_gone = _NODE_DIED in reason or all(node.id != link.node for node in self._nodes())
        if link.is_late and not is_gone:
            warn(f"a node of the cluster cannot be used: {text}")
        link.lose(**{"lost": text} if is_gone else {"error": ClusterError(text)})
        self._forget(link)

    def _look(self) -> None:
        """Start agents on nodes that have joined, or that are due for another attempt."""
        now = time.monotonic()
        nodes = [node for node in self._nodes() if self._delays.get(node.id, (0.0, 0.0))[0] <= now]
        try:
            chosen = self._choose(nodes)
        except Exception:  # Ray does not answer. This thread must continue: it also accepts the connections of agents
            return
        for node, num_workers in chosen:
            if node.id not in self.by_node and not self._is_closed:
                try:
                    self.open(node, num_workers, is_late=True)
                except Exception as error:
                    warn(f"a node of the cluster cannot be used: node {node.name}: {error}")
                    self._delay(node.id)

    @staticmethod
    def _nodes() -> list[Node]:
        try:
            return living_nodes()
        except Exception:  # the program has left the cluster, or its head does not answer
            return []

    # -- A connection

    def _greet(self, sock: socket.socket) -> None:
        try:
            # For each receive and send. `_MOST_GREETED` limits the peers that send one byte at a time.
            sock.settimeout(_HANDSHAKE_S)
            if wire.uses_tls():
                # `wrap` moves the descriptor to another object.
                descriptors.forget_object(sock)
                sock = wire.wrap(sock, is_server=True)
                descriptors.own_object(sock)
            link_index = wire.read_handshake(sock, self._token)
            wire.prepare(sock, self._options.deadline_s)
            link = self.past[link_index] if link_index < len(self.past) else None
            # An agent that connects after its node was given up is rejected: its workers run elsewhere by now.
            if link is None or not link.come_up():
                descriptors.close_object(sock)
                return
        except OSError:
            descriptors.close_object(sock)
            return
        if link.is_late:
            self._emit(link)
        try:
            relay = Relay(link, sock, self._options.deadline_s)
        except OSError as error:
            # The link is up, so only its relay would report its workers, and the pool would wait for them forever.
            descriptors.close_object(sock)
            link.lose(error=ClusterError(f"node {link.name}: {error}"))
        else:
            relay.run()
        self._forget(link)

    def _forget(self, link: NodeLink) -> None:
        """Kill the remaining agent of a lost link, and ignore its node for a while."""
        # Popped once, so that only one of the threads that lose a link at the same time kills the agent.
        agent = self._agents.pop(link, None)
        if agent is not None:
            end_agent(agent[0])
        if self.by_node.get(link.node) is link:
            self._delay(link.node)
            del self.by_node[link.node]

    def _delay(self, node: str) -> None:
        # Doubled, because each attempt creates a process on the node and may wait there for CPUs.
        delay = min(_MOST_DELAYED_S, 2 * self._delays.get(node, (0.0, LOOK_S / 2))[1])
        self._delays[node] = time.monotonic() + delay, delay
