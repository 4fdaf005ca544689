"""Train a classifier on batches that the nodes of a Ray cluster decode, after a training with local workers.

The cluster is three raylets on this machine. One raylet is killed in the middle of the training. The batches are still
the same, so both trainings end with the same weights. With RAY_ADDRESS, that cluster is used; its nodes must have this
checkout under the same path.
"""

import contextlib
import os
import time

import mpqueue
from mpqueue.telemetry.stats import NodeStatistics
from parts.demo.options import options
from parts.demo.training import Trained, photographs, train
from parts.ray_cluster import RayCluster

NUM_OTHERS = 2  # nodes in addition to the trainer's


def trained(loader: mpqueue.Loader, made: RayCluster | None) -> tuple[Trained, float, tuple[NodeStatistics, ...]]:
    """Train, and kill a node in the middle; return the result, the seconds to the first batch, and the nodes."""
    num_batches, nodes = chosen.epochs * len(loader), ()

    def after(number: int) -> None:
        nonlocal nodes
        if number == num_batches // 2:
            kill_one(made)
        if number == num_batches:
            nodes = loader.statistics().nodes

    began = time.monotonic()
    with loader:
        result = train(loader, chosen.epochs, after=after)
    return result, result.began - began, nodes


def cluster() -> contextlib.AbstractContextManager[RayCluster | None]:
    """Start a cluster on this machine, unless RAY_ADDRESS is set."""
    if os.environ.get("RAY_ADDRESS"):
        return contextlib.nullcontext()
    print(f"starting a cluster of {NUM_OTHERS + 1} nodes on this machine")
    return RayCluster(NUM_OTHERS, chosen.workers, chosen.workers)


def kill_one(made: RayCluster | None) -> None:
    """Kill a node that has workers."""
    if made is not None:
        victim = made.others[0]
        print(f"killing node {victim[:8]} in the middle of the training; Ray prints messages about it:", flush=True)
        made.kill(victim)


chosen = options()
source, _, _ = photographs(chosen.workers)

ordered = {"workers": chosen.workers, "shuffle": True, "seed": chosen.seed}
local, local_first_s, _ = trained(mpqueue.Loader(source, **ordered), None)
with cluster() as made:
    # At least one worker per node, so that the killed node has one.
    workers = max(chosen.workers, NUM_OTHERS + 1)
    on_nodes = mpqueue.Loader(source, **ordered | {"workers": workers}, backend="ray", ray_options={"num_cpus": 0})
    remote, remote_first_s, nodes = trained(on_nodes, made)

print(f"\n{'':15}{'images/s':>10}{'first batch':>14}{'accuracy':>10}")
for name, one, first_s in (("local workers", local, local_first_s), ("the cluster", remote, remote_first_s)):
    print(f"{name:15}{one.rate:10,.0f}{first_s:12.2f} s{one.accuracy:10.1%}")
print(f"\n{'node':15}{'workers':>10}{'batches':>10}{'deaths':>10}")
for node in nodes:
    print(f"{node.node[:8]:15}{node.workers:10}{node.batches:10}{node.deaths:10}")
print(f"\nthe weights are {'the same' if local.digest == remote.digest else 'NOT the same'}")
