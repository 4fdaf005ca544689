"""Every Python example of the README runs as it stands there."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mpqueue
import mpqueue.compat.v1 as tf

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)
NAMES = re.findall(
    r"`((?:mpqueue|tf)\.[\w.]+)`", README.partition("### Where each name lives")[2].partition("\n### ")[0]
)

KERAS = {f"mpqueue.{name}" for name in ("Sequence", "SequenceEnqueuer", "OrderedEnqueuer", "GeneratorEnqueuer")}
OURS = KERAS | {"mpqueue.compat.v1", "mpqueue.Source", "mpqueue.run", "mpqueue.get_queue_runners"}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_example_runs(number, tmp_path):
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[number])
    root = str(Path(mpqueue.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=root),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_a_name_lives_where_the_table_says(name):
    root, *path = name.split(".")
    found = functools.reduce(getattr, path, {"mpqueue": mpqueue, "tf": tf}[root])
    assert found is not None


@pytest.mark.parametrize("name", sorted({name for name in NAMES if name.startswith("mpqueue.")} - OURS))
def test_the_deferred_face_has_it_in_the_same_place(name):
    assert functools.reduce(getattr, name.split(".")[1:], tf) is not None
