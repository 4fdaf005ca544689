"""A launcher for the nodes of a Ray cluster: assigns workers to nodes and starts them there.

    ClusterLauncher --- fork server                       workers on the trainer's own node: they write into the ring
                    +-- Links --- NodeLink, NodeLink, ...     workers on other nodes: see `mpqueue.backends.ray.relay`

To the pool, a worker on another node is like any other worker: grants and reports in pipes, batches in the ring, its
exit an event. This module decides the differences:

- *Placement*: evenly, within the room of the nodes (`mpqueue.backends.ray.placement`). A crashed worker is restarted on
its node, and elsewhere if the node was lost. If no node is left, the consumer gets an error at each call. - *Joining
nodes*: workers move to a node that joins or returns as soon as its agent is running. Workers of a generator
  do not move, because their streams would have to be computed from the beginning again.
- *Source*: it is sent once to each node over its link, and later changes as patches. `ray.put` would add a copy in the
  object store of each node, which may be full, and cannot send patches.
- *A crash of the trainer's own fork server* ends all workers, as without a cluster, and all agents.
"""

import os
import select
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from mpqueue.backends.ray import connect as joining
from mpqueue.backends.ray import placement
from mpqueue.backends.ray.connect import Node
from mpqueue.backends.ray.links import Links
from mpqueue.backends.ray.placement import Room
from mpqueue.backends.ray.relay import LinkState, NodeLink
from mpqueue.backends.ray.remote_worker import RemoteWorker
from mpqueue.backends.sending.source_send import Patch, SourceImage, find_digests
from mpqueue.backends.start.launcher import ForkServer, ProcessEvent, take_fork_server, wait_for
from mpqueue.errors import ClusterError, WorkerDied
from mpqueue.memory.segment import Segment
from mpqueue.plan.options.ray_options import RayOptions
from mpqueue.system.descriptors import descriptors
from mpqueue.system.processes.wakeup import Wakeup
from mpqueue.system.signals.deferred import allow_signals
from mpqueue.telemetry.stats import NodeStatistics
from mpqueue.transport.poller import READABLE
from mpqueue.worker.config import WorkerConfig, WorkerEnds

_NO_NODE = "No node of the Ray cluster can run the worker: wait for a node to join, or use fewer resources per worker"


class ClusterLauncher:
    """A `Launcher` for the nodes of a cluster.

    Args:
        num_workers: Number of workers.
        options: The options of the user.
        spawn: Whether each worker is a new interpreter.

    Attributes:
        own: Id of the trainer's node if it runs workers without an agent; otherwise empty.

    Raises:
        ClusterError: No cluster was found, or it has no room.
        OSError: There are not enough descriptors.
    """

    def __init__(self, num_workers: int, options: RayOptions, *, spawn: bool) -> None:
        allow_signals(joining.join)
        self._options, self._spawn = options, spawn
        # With a runtime environment, the workers of this node need an agent, too: only Ray creates the environment.
        self.own = joining.own_node() if options.runtime_env is None else ""
        self._nodes = {node.id: node for node in joining.living_nodes()}
        rooms = self._rooms(list(self._nodes))
        self._require_room(num_workers, rooms)
        self._node_of = dict(enumerate(placement.spread(num_workers, rooms)))  # by worker
        self._where: dict[int, tuple[int, str]] = {}  # by key: worker index, node
        self._arrived: deque[ProcessEvent | NodeLink] = deque()
        self._poller: Any = None
        self._segment: Segment | None = None
        self._is_stream = False
        self._fork_server: ForkServer | None = None
        address = self._nodes[joining.own_node()].address
        self._wakeup = Wakeup()
        try:
            self._links = Links(options, spawn=spawn, address=address, emit=self._arrive, choose=self._choose)
        except BaseException:
            self._wakeup.close()
            raise
        self._begin()

    def _begin(self) -> None:
        """Start all agents and the fork server at the same time."""
        try:
            for node, count in Counter(self._node_of.values()).items():
                if node != self.own:
                    self._links.open(self._nodes[node], count, is_late=False)
            if self.own in self._node_of.values():
                self._fork_server = take_fork_server(spawn=self._spawn)
        except BaseException:
            self.release(reusable=False)
            raise

    # -- Placement

    def _rooms(self, nodes: list[str]) -> list[Room]:
        """Return the nodes with room, in filling order."""
        known = [self._nodes[node] for node in placement.around(self.own, nodes)]
        rooms = [Room(node.id, joining.room_on(node, self._options)) for node in known]
        return [room for room in rooms if room.workers >= 1]

    def _require_room(self, num_workers: int, rooms: list[Room]) -> None:
        required = f"num_cpus={1 if self._options.num_cpus is None else self._options.num_cpus:g} for each worker"
        if self._options.resources:
            required += f" and resources={dict(self._options.resources)}"
        room = sum(room.workers for room in rooms)
        is_requested = self._options.num_cpus is not None or self._options.resources
        if not rooms or (is_requested and room < num_workers):
            raise ClusterError(
                f"the cluster has room for {room:g} workers, got workers={num_workers} ({required}): use fewer "
                "workers, or request fewer resources for each"
            )

    def _place(self, index: int) -> str:
        """Return the node for the start of a worker."""
        links = {node: link.state for node, link in list(self._links.by_node.items())}
        node = self._node_of.get(index)
        if node is not None and (node == self.own or links.get(node, LinkState.LOST) is not LinkState.LOST):
            return node
        # Prefer nodes with an agent: starting another agent takes seconds.
        for state in (LinkState.UP, LinkState.STARTING):
            rooms = self._rooms([self.own] * bool(self.own) + [node for node in links if links[node] is state])
            if rooms:
                break
        else:
            rooms = self._rooms_of_others(index)
        others = [node for other, node in self._node_of.items() if other != index]
        self._node_of[index] = chosen = placement.best(others, rooms)
        if chosen != self.own:
            self._links.open(self._nodes[chosen], 1, is_late=True)  # unless it has an agent
        return chosen

    def _rooms_of_others(self, index: int) -> list[Room]:
        """Return the room on nodes without an agent.

        Raises:
            WorkerDied: No node has room.
        """
        try:
            living = allow_signals(joining.living_nodes)
        except Exception:  # the program has left the cluster
            living = []
        self._nodes.update({node.id: node for node in living})
        rooms = self._rooms([node.id for node in living])
        if not rooms:
            raise WorkerDied(index, None, remedy=_NO_NODE)
        return rooms

    def _choose(self, nodes: list[Node]) -> list[tuple[Node, int]]:
        """Return the nodes without an agent that should get one, each with its number of workers."""
        if self._is_stream:
            return []
        self._nodes.update({node.id: node for node in nodes})
        there = {self.own, *self._links.by_node} & self._nodes.keys()
        new = {node.id: node for node in nodes if node.id not in there}
        if not new:
            return []
        moved = placement.moves(dict(self._node_of), self._rooms([*there, *new]))
        counts = Counter(moved.values())
        return [(node, counts[node.id]) for node in new.values() if counts[node.id]]

    def _moves(self) -> list[ProcessEvent]:
        """Return the moves that distribute the workers evenly."""
        ups = [node for node, link in list(self._links.by_node.items()) if link.state is LinkState.UP]
        rooms = self._rooms([self.own] * bool(self.own) + ups)
        if self._is_stream or not rooms:
            return []
        # Only running workers: a crashed one is restarted at its new place anyway.
        keys = {index: key for key, (index, _) in self._where.items()}
        moved = {index: node for index, node in placement.moves(self._node_of, rooms).items() if index in keys}
        self._node_of.update(moved)
        return [ProcessEvent(keys[index], moves=True) for index in moved]

    # -- The protocol of launchers

    def watch(self, poller: Any) -> None:
        """Register the descriptors that are readable when there are events."""
        poller.register(self._wakeup.fd, READABLE)
        if self._fork_server is not None:
            self._fork_server.watch(poller)
        self._poller = poller

    def set_image(self, image: SourceImage) -> Patch | None:
        """Send each node the changed parts of the source."""
        before = self._links.image
        is_same, known = self.has_image(image), [] if before is None else before.digests
        sent = self._links.set_image(image)
        if self._fork_server is not None:
            self._fork_server.set_image(image)
        for event in sent:
            allow_signals(event.wait)  # the buffers are the source's memory, which the user may change afterwards
        return None if is_same else image.patch(find_digests(image, known))

    def has_image(self, image: SourceImage) -> bool:
        """Return whether all nodes have this source."""
        return self._links.image is not None and self._links.image.fingerprint == image.fingerprint

    def start_worker(self, key: int, config: WorkerConfig, ends: WorkerEnds) -> None:
        """Start a worker on its node.

        Raises:
            WorkerDied: No node can run it.
            LauncherGone: The trainer's fork server has crashed.
            OSError: There are not enough descriptors.
        """
        index, self._is_stream = config.info.id, config.is_stream
        node = self._place(index)
        self._where[key] = index, node
        try:
            self._start_on(node, key, config, ends)
        except BaseException:
            # The pool forgets this key. A later move of the worker would name it.
            self._where.pop(key, None)
            raise

    def _start_on(self, node: str, key: int, config: WorkerConfig, ends: WorkerEnds) -> None:
        if node == self.own:
            self._own_fork_server().start_worker(key, config, ends)
            return
        # One mapping for all remote workers: the relays receive into the ring through it.
        if self._segment is None:
            # A `Segment` owns its descriptor, and the caller still owns this one.
            fd = descriptors.above_standard(os.dup(ends.segment))
            self._segment = Segment(fd, config.segment_bytes, config.segment_kind)
        worker = RemoteWorker(key, ends, self._segment, config.stride)
        link = self._links.by_node.get(node)
        if link is None:  # lost just now
            worker.close()
            self._arrive(ProcessEvent(key, lost=f"node {self._nodes[node].name} was lost before it was started"))
        else:
            link.start_worker(worker, config)

    def _own_fork_server(self) -> ForkServer:
        if self._fork_server is None:
            self._fork_server = take_fork_server(spawn=self._spawn)
            if self._poller is not None:
                self._fork_server.watch(self._poller)
            if self._links.image is not None:
                self._fork_server.set_image(self._links.image)
        return self._fork_server

    def kill(self, key: int, number: int) -> None:
        """Send a signal to a worker on any node."""
        _index, node = self._where.get(key, (0, ""))
        link = self._link_of(key)
        if link is not None:
            link.kill(key, number)
        elif node == self.own and self._fork_server is not None:
            self._fork_server.kill(key, number)

    def _link_of(self, key: int) -> NodeLink | None:
        for link in list(self._links.by_node.values()):
            if key in link.workers:
                return link
        return None

    def give_up(self, key: int) -> bool:
        """Mark the node of a worker that does not exit after a kill as lost."""
        link = self._link_of(key)
        if link is None:
            return False
        link.give_up("a killed worker on it does not exit")
        return True

    def events(self, timeout_s: float | None = 0) -> list[ProcessEvent]:
        """Return the events of all nodes."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._wakeup.fd, select.POLLIN)
        if self._fork_server is not None:
            poll.register(self._fork_server.fileno(), select.POLLIN)
        while True:
            events = self._take()
            left = None if until is None else max(0.0, until - time.monotonic())
            if events or left == 0:
                return events
            wait_for(poll, left)

    def _take(self) -> list[ProcessEvent]:
        # Before the events are taken: one that arrives after this line makes the next wait return.
        self._wakeup.clear()
        events: list[ProcessEvent] = []
        while self._arrived:
            arrived = self._arrived.popleft()
            events += self._moves() if isinstance(arrived, NodeLink) else [arrived]
        if self._fork_server is not None:
            events += self._fork_server.events()
        for event in events:
            if event.process is None and not event.moves:
                index, node = self._where.pop(event.key)
                # A crashed worker is restarted on its node, and elsewhere if the node was lost.
                if event.lost and self._node_of.get(index) == node:
                    del self._node_of[index]
        return events

    def _arrive(self, event: ProcessEvent | NodeLink) -> None:
        """Queue an event; called from any thread."""
        self._arrived.append(event)
        self._wakeup.wake()

    def release(self, *, reusable: bool) -> int | None:
        """Stop the agents, and park or stop the fork server."""
        if self._poller is not None:
            self._poller.unregister(self._wakeup.fd)
        # Before the segment: the relays receive into it until their threads exit.
        self._links.close()
        if self._segment is not None:
            self._segment.close()
        self._wakeup.close()
        return None if self._fork_server is None else self._fork_server.release(reusable=reusable)

    # -- Statistics

    def counts(self, deaths: Mapping[str, int]) -> dict[str, NodeStatistics]:
        """Return the counters of each node that has or had workers; without batches for the own node.

        Args:
            deaths: Number of crashed workers by the name of their node; "" is the own one.
        """
        load = Counter(node for _index, node in list(self._where.values()))
        counters = {}
        for node in [*dict.fromkeys([self.own, *(link.node for link in self._links.past)])]:
            known = self._nodes.get(node)
            if known is not None and (node != self.own or load[node] or self._fork_server is not None):
                links = [link for link in self._links.past if link.node == node]
                sent = sum(link.num_batches for link in links), sum(link.num_bytes for link in links)
                crashed = deaths["" if node == self.own else known.name]
                counters[node] = NodeStatistics(node, known.address, load[node], *sent, crashed)
        return counters
