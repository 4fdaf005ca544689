"""Scripts on the cluster of these tests: the feeds of the benchmark, and the demo with --ray."""

import sys
from itertools import islice

import numpy as np
import pytest
from helpers import small_demo
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


@pytest.mark.slow
def test_model_fed_by_cluster_has_same_weights(cluster, tmp_path):
    code = 'runpy.run_module("parts.demo.train_ray", run_name="__main__")'
    out = small_demo.run(tmp_path, code, "--epochs", "2", "--ray", files=(128, 32), RAY_ADDRESS=cluster.address)
    assert "the weights are the same" in out
    rows = [line.split() for line in out.partition("deaths\n")[2].splitlines() if line]
    assert sum(int(row[1]) for row in rows[:-1]) == 3  # workers, over all nodes
    assert all(int(row[2]) > 0 for row in rows[:-1])  # batches
