"""Every Python example of the README runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mpqueue

README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.S | re.M)


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
