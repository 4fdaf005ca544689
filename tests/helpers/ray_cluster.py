"""Ray clusters on this machine, sources that report their process, and hashes of streams."""

import contextlib
import hashlib
import os
import time
import types
from unittest import mock

import numpy as np
import psutil

import mpqueue
from helpers import waits

STORE_BYTES = 80 << 20
# Exceeded only if a test hangs. Ray needs one or two seconds of CPU time to start an agent. With hundreds of runnable
# threads, that took more than 60 s.
WAIT_S = 300
# Killed raylets count as dead after 3 s instead of 15 s. Agents that do not end on request are killed after 0.5 s
# instead of 5 s.
HEALTH = {
    "health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 6,
    "kill_worker_timeout_milliseconds": 500,
}  # fmt: skip


class Cluster:
    """Several raylets on this machine. This process is connected to the first one."""

    def __init__(self, num_nodes):
        import ray
        from ray.cluster_utils import Cluster as RayCluster

        with patience():
            self._ray = RayCluster(
                initialize_head=True,
                head_node_args={
                    "wait": False,  # waiting here is limited to 30 s; `add` and `ray.init` wait
                    "num_cpus": 2,
                    "object_store_memory": STORE_BYTES,
                    "include_dashboard": False,
                    "include_log_monitor": False,
                    "no_monitor": True,  # no autoscaler
                    "_system_config": HEALTH,
                },
            )
        self.address = self._ray.address
        self.others = [self.add() for _ in range(num_nodes - 1)]
        ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        self.own = ray.get_runtime_context().get_node_id()

    def add(self, *, num_cpus=2, **options):
        """Add a node, and wait until it is running."""
        with patience():
            node = self._ray.add_node(
                wait=False, num_cpus=num_cpus, object_store_memory=STORE_BYTES, include_dashboard=False, **options
            )
        self._ray.wait_for_nodes(WAIT_S)
        return node

    def remove(self, node):
        """Remove a node if it still exists. It signs off from Ray, so that Ray need not detect its absence."""
        if node in self._ray.worker_nodes:
            self._ray.remove_node(node)
        until(lambda: node.node_id not in alive(), "the end of the node")

    def close(self):
        import ray

        ray.shutdown()
        self._ray.shutdown()


@contextlib.contextmanager
def patience():
    """Make Ray wait `WAIT_S` for the processes of a node, instead of its fixed 30 s.

    Otherwise, Ray would also leak a half-started late node, as a process that is never reaped.
    """
    from ray._private import node

    slow = types.SimpleNamespace(**vars(time) | {"monotonic": lambda: time.monotonic() * 30 / WAIT_S})
    with mock.patch.object(node, "time", slow):
        yield


def alive():
    """Return the ids of the nodes that Ray considers available."""
    import ray

    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def address_of_this_node():
    """Return the address at which Ray listens on this machine."""
    import ray

    return ray.util.get_node_ip_address()


@contextlib.contextmanager
def started(num_nodes):
    """Yield a cluster, and close it at the end."""
    cluster = Cluster(num_nodes)
    try:
        yield cluster
    finally:
        cluster.close()


def on(node_id):
    """Return the options that place all workers on one node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False), "num_cpus": 0}


def processes_of_ours():
    """Return all descendants that are agents or processes of a pool, with their names."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = f"{process.name()} {' '.join(process.cmdline())}"
            for name in ("MpqueueAgent", "mpqueue-forksrv", "mpqueue-worker", "import fork_server"):
                if name in command:
                    found.add((process.pid, name))
    return found


def agents():
    """Return the pids of all agents."""
    return [pid for pid, name in processes_of_ours() if name == "MpqueueAgent"]


def until(condition, what):
    """Poll for a condition in another process."""
    waits.until(condition, f"{what} did not happen", WAIT_S)


class RandomBatches:
    """A source of batches with random numbers, the index, and the process that computed them."""

    def __init__(self, length=24, size=100):
        self.length, self.size = length, size

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return mpqueue.rng().integers(0, 255, self.size, dtype=np.uint8), index, os.getpid()


def hash_of(batches):
    """Return a hash of a stream's numbers that does not depend on the processes that computed them."""
    digest = hashlib.sha256()
    for numbers, index, _pid in batches:
        digest.update(numbers.tobytes() + int(index).to_bytes(4, "little"))
    return digest.hexdigest()
