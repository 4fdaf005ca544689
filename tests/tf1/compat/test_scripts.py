"""Scripts like those in TensorFlow 1's tutorials run unchanged, and print the same as with TensorFlow."""

import json
import os
import re
from pathlib import Path

import pytest
from helpers import optional
from helpers.forked import Interpreter

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted((HERE / "scripts").glob("*.py"))
ROOT = HERE.parents[2]
OF_RECORDS = [path for path in SCRIPTS if re.search(r"(TextLine|TFRecord|FixedLengthRecord)Reader", path.read_text())]
ALWAYS = {"queue_by_hand", "records_written_and_read", "table_with_header"}  # not slow


@pytest.fixture(scope="session")
def launcher():
    with Interpreter("mpqueue.compat.v1", "mpqueue.workers.launcher") as made:
        yield made


@pytest.fixture
def printed_by(launcher, tmp_path):
    """Run a script with `mpqueue.compat.v1` in place of TensorFlow, and return the JSON that it prints."""

    def run(script, workers="thread", **more):
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = os.environ | more | {"PYTHONPATH": path, "WORK": str(tmp_path), "MPQUEUE_WORKERS": workers}
        command = [HERE / "launch.py", script]
        status, printed, errors = launcher.run(command, tmp_path, environ, timeout=280)
        if status != 0:
            optional.skip_if_missing(errors)
        assert status == 0, errors[-2000:]
        return json.loads(printed)

    return run


def expected_of(script):
    return json.loads((script.parent / "expected" / f"{script.stem}.json").read_text("utf-8"))


@pytest.mark.parametrize("workers", ["thread", "process"])
@pytest.mark.parametrize(
    "script",
    [pytest.param(path, marks=[] if path.stem in ALWAYS else pytest.mark.slow, id=path.stem) for path in SCRIPTS],
)
def test_script_prints_the_same_as_with_tensorflow(script, workers, printed_by):
    assert printed_by(script, workers) == expected_of(script)


@pytest.mark.slow
@pytest.mark.parametrize("script", OF_RECORDS, ids=lambda path: path.stem)
def test_a_script_prints_the_same_record_by_record(script, printed_by):
    assert printed_by(script, RECORD_BY_RECORD="1") == expected_of(script)
