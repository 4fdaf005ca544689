"""scripts/demo --ray, on two small pictures and the cluster of these tests."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.scripts import SCRIPTS
from PIL import Image

import mpqueue

SMALL = """
import runpy, sys
from pathlib import Path
from parts.photographs import cut, dataset

folder = Path(sys.argv.pop(1))
dataset.CACHE, dataset.TRAIN_FILES, dataset.HELD_OUT_FILES = folder / "cache", 128, 32
cut.photographs = lambda: [(name, folder / f"{name}.png") for name in ("left", "right")]
runpy.run_module("parts.demo.train_ray", run_name="__main__")
"""


@pytest.mark.slow
def test_model_fed_by_cluster_has_same_weights(cluster, tmp_path):
    for place, name in enumerate(("left", "right")):
        noise = np.random.default_rng(place).integers(0, 256, (300, 320, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    paths = os.pathsep.join([str(SCRIPTS), str(Path(mpqueue.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "--epochs", "2", "--workers", "2", "--ray"],
        env=os.environ | {"PYTHONPATH": paths, "RAY_ADDRESS": cluster.address},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the weights are the same" in done.stdout
    rows = [line.split() for line in done.stdout.partition("deaths\n")[2].splitlines() if line]
    assert sum(int(row[1]) for row in rows[:-1]) == 3  # workers, over all nodes
    assert all(int(row[2]) > 0 for row in rows[:-1])  # batches
