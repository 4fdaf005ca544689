"""``scripts/demo``: its trainings run on two small pictures, and give equal results with a service and without."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.scripts import SCRIPTS
from PIL import Image

import mpqueue

SMALL = """
import hashlib, json, runpy, sys
from pathlib import Path
from parts.demo import compare
from parts.photographs import cut, dataset

folder = Path(sys.argv.pop(1))
dataset.CACHE, dataset.TRAIN_FILES, dataset.HELD_OUT_FILES = folder / "cache", 64, 16
cut.photographs = lambda: [(name, folder / f"{name}.png") for name in ("left", "right")]
"""
# Without the comparison of loaders. The last line is a digest of the trained model.
SMALL_DEMO = f"""{SMALL}
compare.compare = lambda *_: {{"no workers": 1.0}}
model = runpy.run_module("parts.demo.train_numpy", run_name="__main__")["model"]
print(hashlib.sha256(b"".join(weight.tobytes() for weight in model._weights)).hexdigest())
"""
# The last line has the losses and accuracies with and without the service, and the number of computed batches.
SMALL_SERVICE = f"""{SMALL}
done = runpy.run_module("parts.demo.train_service", run_name="__main__")
trained = [[(one.loss, one.accuracy) for one in done[how]] for how in ("served", "alone")]
print(json.dumps([*trained, done["num_computed"]]))
"""


@pytest.fixture
def run(tmp_path):
    """Run a program on two small pictures and return its output."""
    for place, name in enumerate(("left", "right")):
        noise = np.random.default_rng(place).integers(0, 256, (300, 320, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")

    def run_program(code, *options):
        (tmp_path / "program.py").write_text(code)
        paths = [str(SCRIPTS), str(Path(mpqueue.__file__).parents[1])]
        done = subprocess.run(
            [sys.executable, "program.py", str(tmp_path), "--epochs", "1", "--workers", "2", *options], cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_program


def test_a_seed_trains_the_same_model_at_each_run(run):
    first, again = (run(SMALL_DEMO).splitlines() for _ in range(2))
    assert any(line.startswith("accuracy") for line in first)
    assert first[-1] == again[-1] != run(SMALL_DEMO, "--seed", "7").splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="the service needs Linux")
def test_a_model_trains_equally_with_a_service_which_computes_each_batch_once(run):
    out = run(SMALL_SERVICE, "--service")
    served, alone, num_computed = json.loads(out.splitlines()[-1])
    assert served == alone
    assert len({loss for loss, _ in served}) == 3  # each has its own learning rate
    assert num_computed == 4
    assert "times the images/s" in out


def test_help_installs_nothing(tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(["sh", "scripts/demo", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    for option in ("--workers N", "--epochs N", "--seed N", "--keras", "--service", "--ray"):
        assert option in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["scripts"]
