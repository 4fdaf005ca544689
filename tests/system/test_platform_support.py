"""Systems other than Linux: an error at the first use of a loader or a server."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "use",
    [
        "import mpqueue; mpqueue.Loader([1.0])",
        "import mpqueue; mpqueue.attach",
        "from mpqueue.__main__ import main; main(['serve'])",
    ],
    ids=["loader", "attach", "serve"],
)
def test_error_names_required_system_and_alternative(use):
    text = f"import sys; sys.platform = 'darwin'\n{use}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ImportError: mpqueue requires Linux" in done.stderr
    assert "got darwin: use a Linux container or virtual machine" in done.stderr
