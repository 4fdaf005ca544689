"""Train a classifier on batches that the nodes of a Ray cluster decode, after a training with local workers.

The cluster is three raylets on this machine. One raylet is killed in the middle of the training. The batches are still
the same, so both trainings end with the same weights. With RAY_ADDRESS, that cluster is used; its nodes must have this
checkout under the same path.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

import mpqueue
from mpqueue.telemetry.stats import NodeStatistics
from parts.demo.model import PatchClassifier
from parts.demo.options import options
from parts.machine import num_cpus
from parts.photographs.dataset import Photos, photo_files
from parts.ray_cluster import RayCluster, ray_cluster

NUM_OTHERS = 2  # nodes in addition to the trainer's


class Trained(NamedTuple):
    """The result of a training.

    Attributes:
        rate: Images per second after the first batch.
        first_s: Seconds to the first batch.
        accuracy: Accuracy on the held-out images.
        digest: Hash of the weights.
        nodes: Counters of the nodes.
    """

    rate: float
    first_s: float
    accuracy: float
    digest: str
    nodes: tuple[NodeStatistics, ...]


def train(loader: mpqueue.Loader, held_out: Photos, epochs: int, at_half: Callable[[], None]) -> Trained:
    """Train for a number of epochs, and call ``at_half`` in the middle."""
    model = PatchClassifier(num_classes)
    began, num_images, num_batches = time.perf_counter(), 0, 0
    first_s = 0.0
    with loader:
        for _ in range(epochs):
            for images, labels in loader:
                first_s = first_s or time.perf_counter() - began
                model.train(images, labels)
                num_images, num_batches = num_images + len(labels), num_batches + 1
                if num_batches == epochs * len(loader) // 2:
                    at_half()
        elapsed_s = time.perf_counter() - began - first_s
        nodes = loader.statistics().nodes
    right = [model.predict(images) == labels for images, labels in map(held_out.__getitem__, range(len(held_out)))]
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in model.weights)).hexdigest()
    return Trained(num_images / elapsed_s, first_s, float(np.mean(right)), digest, nodes)


@contextlib.contextmanager
def cluster() -> Iterator[RayCluster | None]:
    """Start a cluster on this machine, unless RAY_ADDRESS is set."""
    if os.environ.get("RAY_ADDRESS"):
        yield None
    else:
        print(f"starting a cluster of {NUM_OTHERS + 1} nodes on this machine")
        with ray_cluster(NUM_OTHERS, chosen.workers, chosen.workers) as made:
            yield made


def kill_one(made: RayCluster | None) -> None:
    """Kill a node that has workers."""
    if made is not None:
        victim = made.others[0]
        print(f"killing node {victim[:8]} in the middle of the training; Ray prints messages about it:", flush=True)
        made.kill(victim)


# Workers use the CPUs: if two threads shared a matrix product, one would wait for the time slice of a worker.
threadpool_limits(1)
chosen = options()
train_files, held_out_files = photo_files()
source, held_out = Photos(train_files, augment=True), Photos(held_out_files, augment=False)
num_classes = len(train_files.names)
print(f"{len(train_files.paths):,} images of {num_classes} photographs, {chosen.workers} workers, {num_cpus()} CPUs")

ordered = {"workers": chosen.workers, "shuffle": True, "seed": chosen.seed}
local = train(mpqueue.Loader(source, **ordered), held_out, chosen.epochs, lambda: None)
with cluster() as made:
    # At least one worker per node, so that the killed node has one.
    workers = max(chosen.workers, NUM_OTHERS + 1)
    on_nodes = mpqueue.Loader(source, **ordered | {"workers": workers}, backend="ray", ray_options={"num_cpus": 0})
    remote = train(on_nodes, held_out, chosen.epochs, lambda: kill_one(made))

print(f"\n{'':15}{'images/s':>10}{'first batch':>14}{'accuracy':>10}")
for name, one in {"local workers": local, "the cluster": remote}.items():
    print(f"{name:15}{one.rate:10,.0f}{one.first_s:12.2f} s{one.accuracy:10.1%}")
print(f"\n{'node':15}{'workers':>10}{'batches':>10}{'deaths':>10}")
for node in remote.nodes:
    print(f"{node.node[:8]:15}{node.workers:10}{node.batches:10}{node.deaths:10}")
print(f"\nthe weights are {'the same' if local.digest == remote.digest else 'NOT the same'}")
