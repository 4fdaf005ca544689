"""Scripts of the kinds found in TensorFlow 1's tutorials run unchanged, and print what they print with TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted((HERE / "scripts").glob("*.py"))
ROOT = HERE.parent.parent
TENSORFLOW = "tensorflow.compat.v1"


def printed_by(script, module, folder):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"WORK": str(folder), "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "launch.py"), module, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def expected_of(script):
    return json.loads((script.parent / "expected" / f"{script.stem}.json").read_text("utf-8"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_prints_what_it_prints_with_tensorflow(script, tmp_path):
    assert printed_by(script, "mpqueue.compat.v1", tmp_path) == expected_of(script)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_that_is_what_tensorflow_prints(script, tmp_path):
    assert printed_by(script, TENSORFLOW, tmp_path) == expected_of(script)
