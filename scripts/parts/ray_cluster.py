"""A Ray cluster on this machine: the raylet of this process, and others that stand for other machines."""

import contextlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from parts.machine import SCRIPTS

STORE_BYTES = 2 << 30  # of each raylet; pages that nobody writes cost nothing
JOIN_S = 60


def is_installed() -> bool:
    """Return True if there is Ray, without importing it."""
    return importlib.util.find_spec("ray") is not None


class RayCluster:
    """Several raylets; this process has joined the first one.

    Args:
        num_others: Raylets beside the first one.
        cpus: Of each of the others.
        own_cpus: Of the first one.
    """

    def __init__(self, num_others: int, cpus: int, own_cpus: int) -> None:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # what raylets start finds our modules
        import ray
        from ray.cluster_utils import Cluster

        size = {"object_store_memory": STORE_BYTES}
        own = size | {"num_cpus": own_cpus, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=own)
        try:
            self._nodes = {node.node_id: node for node in (self._add(cpus, size) for _ in range(num_others))}
            self._cluster.wait_for_nodes(JOIN_S)
            ray.init(address=self._cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        except BaseException:
            self.close()
            raise

    def _add(self, cpus: int, size: dict[str, int]) -> Any:
        return self._cluster.add_node(num_cpus=cpus, **size)

    @property
    def address(self) -> str:
        """Address at which other programs join it."""
        return str(self._cluster.address)

    @property
    def others(self) -> list[str]:
        """The ids of the other raylets that there are."""
        return list(self._nodes)

    def kill(self, node: str) -> None:
        """Kill one of the others, with all that it has started."""
        self._cluster.remove_node(self._nodes.pop(node), allow_graceful=False)

    def close(self) -> None:
        """Leave the cluster, and end it."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()


@contextlib.contextmanager
def ray_cluster(num_others: int, cpus: int, own_cpus: int = 1) -> Iterator[RayCluster]:
    """Start a cluster and join it, as long as it is needed; see `RayCluster`."""
    cluster = RayCluster(num_others, cpus, own_cpus)
    try:
        yield cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def cluster_aside(cpus: int) -> Iterator[str]:
    """Have a cluster of one raylet in another process, for programs that join it; return its address."""
    surroundings = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-m", "parts.ray_cluster", str(cpus)]
    with subprocess.Popen(
        command, cwd=SCRIPTS, env=surroundings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:  # which ends with its input
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate()


def only_on(node: str) -> Any:
    """Return the scheduling strategy that puts everything on one node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def main() -> None:
    with ray_cluster(0, 0, int(sys.argv[1])) as cluster:
        print(cluster.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
