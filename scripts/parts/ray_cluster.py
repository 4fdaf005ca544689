"""A Ray cluster on this machine: the raylet of this process, and others that represent other machines."""

import contextlib
import logging
import os
import sys
from typing import Any

STORE_BYTES = 2 << 30  # of each raylet; unused pages take no memory
JOIN_S = 60


class RayCluster(contextlib.AbstractContextManager):
    """Several raylets, until the end of the context. This process is connected to the first one.

    Args:
        num_others: Number of raylets in addition to the first one.
        cpus: CPUs of each of the others.
        own_cpus: CPUs of the first one.
    """

    def __init__(self, num_others: int, cpus: int, own_cpus: int = 1) -> None:
        # Processes of raylets can import our modules.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        import ray
        from ray.cluster_utils import Cluster

        size = {"object_store_memory": STORE_BYTES}
        own = size | {"num_cpus": own_cpus, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=own)
        try:
            added = [self._cluster.add_node(num_cpus=cpus, **size) for _ in range(num_others)]
            self._nodes = {node.node_id: node for node in added}
            self._cluster.wait_for_nodes(JOIN_S)
            ray.init(address=self._cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        except BaseException:
            self.__exit__()
            raise

    @property
    def others(self) -> list[str]:
        """Ids of the other raylets that are running."""
        return list(self._nodes)

    def kill(self, node: str) -> None:
        """Kill one of the other raylets, with all processes that it has started."""
        self._cluster.remove_node(self._nodes.pop(node), allow_graceful=False)

    def __exit__(self, *_: object) -> None:
        """Disconnect from the cluster, and end it."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()


def only_on(node: str) -> Any:
    """Return the scheduling strategy that places everything on one node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)
