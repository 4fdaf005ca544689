"""All workloads by name, in the order of a run."""

import importlib

from parts.benchmark.workload import Workload

_FAMILIES = (
    "batches",
    "starts",
    "samples",
    "queues",
    "tf1",
    "service",
    "ray_nodes",
    "streams",
    "programs",
    "files",
    "balance",
    "balance_training",
    "blocks",
    "cache",
)
WORKLOADS: dict[str, Workload] = {}
for _family in _FAMILIES:
    WORKLOADS |= importlib.import_module(f"parts.benchmark.workloads.{_family}").WORKLOADS
