"""Ray clusters on this machine, sources that tell where they run, and hashes of streams."""

import contextlib
import hashlib
import os
import time
import types
from unittest import mock

import numpy as np
import psutil

import mpqueue

STORE_BYTES = 80 << 20
# Passing it means that something hangs. Ray needs a second or two of CPU time to start an agent, which was more than 60 s
# amid hundreds of runnable threads.
WAIT_S = 300
# Raylets that are killed are taken for dead after 3 s, instead of 15; agents that were told to end and do not are
# killed after half a second, instead of 5.
HEALTH = {
    "health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 6,
    "kill_worker_timeout_milliseconds": 500,
}  # fmt: skip


class Cluster:
    """Several raylets on this machine; this process has joined the first one."""

    def __init__(self, num_nodes):
        import ray
        from ray.cluster_utils import Cluster as RayCluster

        with patience():
            self._ray = RayCluster(
                initialize_head=True,
                head_node_args={
                    "wait": False,  # which has 30 s as well; `add` and `ray.init` wait
                    "num_cpus": 2,
                    "object_store_memory": STORE_BYTES,
                    "include_dashboard": False,
                    "include_log_monitor": False,
                    "no_monitor": True,  # nor an autoscaler
                    "_system_config": HEALTH,
                },
            )
        self.address = self._ray.address
        self.others = [self.add() for _ in range(num_nodes - 1)]
        ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        self.own = ray.get_runtime_context().get_node_id()

    def add(self, *, num_cpus=2, **options):
        """Add a node; it is alive when this returns."""
        with patience():
            node = self._ray.add_node(
                wait=False, num_cpus=num_cpus, object_store_memory=STORE_BYTES, include_dashboard=False, **options
            )
        self._ray.wait_for_nodes(WAIT_S)
        return node

    def remove(self, node):
        """Remove a node, if it is still there; it says so itself, which Ray need not find out then."""
        if node in self._ray.worker_nodes:
            self._ray.remove_node(node)
        until(lambda: node.node_id not in alive(), "the end of the node")

    def close(self):
        import ray

        ray.shutdown()
        self._ray.shutdown()


@contextlib.contextmanager
def patience():
    """Have Ray wait for the processes of a node as long as we do: it waits for 30 s, and has no setting for that.

    A node that comes too late is left behind besides, half made, as a process that nobody waits for.
    """
    from ray._private import node

    slow = types.SimpleNamespace(**vars(time) | {"monotonic": lambda: time.monotonic() * 30 / WAIT_S})
    with mock.patch.object(node, "time", slow):
        yield


def alive():
    """The ids of the nodes that Ray takes for alive."""
    import ray

    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def address_of_this_node():
    """The address at which Ray has this machine listen."""
    import ray

    return ray.util.get_node_ip_address()


@contextlib.contextmanager
def started(num_nodes):
    """A cluster for a while."""
    cluster = Cluster(num_nodes)
    try:
        yield cluster
    finally:
        cluster.close()


def on(node_id):
    """The options that put all workers on one node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False), "num_cpus": 0}


def processes_of_ours():
    """All processes below this one that a pool has started, or that are agents, with their names."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            told = f"{process.name()} {' '.join(process.cmdline())}"
            for name in ("MpqueueAgent", "mpqueue-forksrv", "mpqueue-worker", "import fork_server"):
                if name in told:
                    found.add((process.pid, name))
    return found


def agents():
    """The pids of all agents."""
    return [pid for pid, name in processes_of_ours() if name == "MpqueueAgent"]


def until(condition, what):
    """Wait for what another process does, and no event tells of."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)


class Told:
    """Batch i: random numbers of its own, i, and the process that computed it, and its fork server's parent."""

    def __init__(self, length=24, size=100):
        self.length, self.size = length, size

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return mpqueue.rng().integers(0, 255, self.size, dtype=np.uint8), index, os.getpid()


def hash_of(batches):
    """A hash of the numbers of a stream, whoever has computed them."""
    digest = hashlib.sha256()
    for numbers, index, _pid in batches:
        digest.update(numbers.tobytes() + int(index).to_bytes(4, "little"))
    return digest.hexdigest()
