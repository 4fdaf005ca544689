"""The hardware: nodes, and the way of a batch from the node that computes it to the trainer.

    worker --> its node's memory --> link out --> link in --> connection --> memory of the trainer's node --> relay

Each stage takes a whole batch and serves one after the other: a way is longer than in truth, where the bytes flow
through all stages at once, and each stage is as wide. On the trainer's own node a batch is written into the ring.
"""

from parts.scaling.clock import Act, Clock, Line
from parts.scaling.cluster import Cluster
from parts.scaling.layouts import COPIES_AT_WORKER, COPIES_TO_SEND


class Node:
    """A machine.

    Attributes:
        memory: What all of its processes copy.
        out: Its link, to others,
        into: and from them.
    """

    def __init__(self, clock: Clock) -> None:
        self.memory, self.out, self.into = Line(clock), Line(clock), Line(clock)


class Way:
    """The connection of one node to one trainer.

    Args:
        clock: The time.
        cluster: How fast everything is.
        start: The node of the workers.
        end: The node of the trainer.
        interpreter: The trainer's.

    Attributes:
        is_local: They are the same node.
        stream: The connection itself.
    """

    def __init__(self, clock: Clock, cluster: Cluster, start: Node, end: Node, interpreter: Line) -> None:
        self._clock, self._cluster = clock, cluster
        self._start, self._end, self._interpreter = start, end, interpreter
        self.is_local = start is end
        self.stream = Line(clock)

    def carry(self, arrived: Act) -> None:
        """Carry a batch that is computed to the trainer's ring, and its report to the pipe."""
        cluster = self._cluster
        if self.is_local:
            self._start.memory.serve(COPIES_AT_WORKER * cluster.copy_s, arrived)
            return

        def sent() -> None:
            self._clock.after(cluster.latency_s, lambda: self._end.into.serve(cluster.link_s, received))

        def received() -> None:
            self.stream.serve(cluster.stream_s, lambda: self._end.memory.serve(cluster.copies * cluster.copy_s, copied))

        def copied() -> None:
            self._interpreter.serve(cluster.relay_s, arrived)

        copies = COPIES_AT_WORKER + COPIES_TO_SEND
        self._start.memory.serve(copies * cluster.copy_s, lambda: self._start.out.serve(cluster.link_s, sent))

    def grant(self, arrived: Act) -> None:
        """Carry a grant to a worker."""
        self._clock.after(0.0 if self.is_local else self._cluster.latency_s, arrived)
