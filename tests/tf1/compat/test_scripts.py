"""Scripts like those in TensorFlow 1's tutorials run unchanged, and print the same as with TensorFlow."""

import json
import os
from pathlib import Path

import pytest
from helpers import optional_packages
from helpers.forked_programs import Interpreter

pytestmark = pytest.mark.sample(2)

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted((HERE / "scripts").glob("*.py"))
ROOT = HERE.parents[2]
WAYS = {
    "thread": {"MPQUEUE_WORKERS": "thread"},
    "process": {"MPQUEUE_WORKERS": "process"},
    "record by record": {"MPQUEUE_WORKERS": "thread", "RECORD_BY_RECORD": "1"},
}


@pytest.fixture(scope="session")
def launcher():
    with Interpreter("mpqueue.compat.v1", "mpqueue.backends.start.launcher") as made:
        yield made


@pytest.fixture
def printed_by(launcher, tmp_path):
    """Run a script with `mpqueue.compat.v1` in place of TensorFlow, and return the JSON that it prints."""

    def run(script, settings):
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = os.environ | settings | {"PYTHONPATH": path, "WORK": str(tmp_path)}
        command = [HERE / "launch.py", script]
        status, printed, errors = launcher.run(command, tmp_path, environ, timeout=280)
        if status != 0:
            optional_packages.skip_if_missing(errors)
        assert status == 0, errors[-2000:]
        return json.loads(printed)

    return run


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_prints_the_same_as_with_tensorflow(script, way, printed_by):
    expected = (script.parent / "expected" / f"{script.stem}.json").read_text("utf-8")
    assert printed_by(script, WAYS[way]) == json.loads(expected)
