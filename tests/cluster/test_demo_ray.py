"""scripts/demo --ray, on two small pictures and the cluster of these tests."""

import pytest
from helpers import small_demo


@pytest.mark.slow
def test_model_fed_by_cluster_has_same_weights(cluster, tmp_path):
    code = 'runpy.run_module("parts.demo.train_ray", run_name="__main__")'
    out = small_demo.run(tmp_path, code, "--epochs", "2", "--ray", files=(128, 32), RAY_ADDRESS=cluster.address)
    assert "the weights are the same" in out
    rows = [line.split() for line in out.partition("deaths\n")[2].splitlines() if line]
    assert sum(int(row[1]) for row in rows[:-1]) == 3  # workers, over all nodes
    assert all(int(row[2]) > 0 for row in rows[:-1])  # batches
