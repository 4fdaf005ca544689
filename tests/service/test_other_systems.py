"""On systems other than Linux, the service raises an ImportError, and the rest of the package works."""

import subprocess
import sys

import pytest


def on_another_system(code):
    text = f"import sys; sys.platform = 'darwin'\n{code}"
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "use",
    ["import mpqueue.service", "import mpqueue; mpqueue.attach", "from mpqueue.__main__ import main; main(['serve'])"],
)
def test_error_names_required_system_and_alternative(use):
    done = on_another_system(use)
    assert done.returncode == 1
    assert "ImportError: mpqueue's service requires Linux" in done.stderr
    assert "got darwin: use an mpqueue.Loader in each trainer" in done.stderr


def test_package_itself_can_be_imported():
    done = on_another_system("import mpqueue; print(mpqueue.Loader, mpqueue.Dataset)")
    assert done.returncode == 0, done.stderr
