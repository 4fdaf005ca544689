"""The benchmark's feeds from other nodes, on the cluster of these tests."""

import sys
from itertools import islice

import numpy as np
import pytest
from helpers.script_modules import script


class Numbered:
    """Batch i contains i."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return (np.full(3, index),)


@pytest.fixture
def made(monkeypatch):
    """The workloads, pickled by value, because their modules cannot be imported on the nodes."""
    from ray import cloudpickle

    names = ["workloads.sources", "workloads.ray_nodes", "in_flight"]
    modules = [sys.modules[__name__], *(script(f"parts.benchmark.{name}") for name in names)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield script("parts.benchmark.workloads.ray_nodes")
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.parametrize("name", ["mpqueue", "plain actors"])
def test_each_feed_yields_batches_of_source_in_order(cluster, made, name):
    source = Numbered()
    with made.batches_of(name, source, 1, 4, cluster.others[0].node_id) as batches:
        assert [int(batch[0][0]) for batch in islice(batches, 6)] == list(range(6))
