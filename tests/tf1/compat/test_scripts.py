"""Scripts like those in TensorFlow 1's tutorials run unchanged, and print the same as with TensorFlow."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import optional
from helpers.forked import Interpreter

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted((HERE / "scripts").glob("*.py"))
ROOT = HERE.parents[2]
TENSORFLOW = "tensorflow.compat.v1"
OF_RECORDS = [path for path in SCRIPTS if re.search(r"(TextLine|TFRecord|FixedLengthRecord)Reader", path.read_text())]
STARTS_OTHERS = {"queue_of_two_programs"}  # scripts that start a second process of themselves
ALWAYS = {"queue_by_hand", "records_written_and_read", "table_with_header"}  # not slow


@pytest.fixture(scope="session")
def launcher():
    with Interpreter("mpqueue.compat.v1", "mpqueue.workers.launcher") as made:
        yield made


def in_a_new_interpreter(command, folder, environ, timeout):
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=environ, capture_output=True, text=True, timeout=timeout
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def printed_by(launcher, tmp_path):
    """Run a script with a module in place of TensorFlow, and return the JSON that it prints."""

    def run(script, module, workers="thread", **more):
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = os.environ | more | {"PYTHONPATH": path, "WORK": str(tmp_path), "MPQUEUE_WORKERS": workers}
        run = in_a_new_interpreter if script.stem in STARTS_OTHERS else launcher.run
        command = [HERE / "launch.py", module, script]
        status, printed, errors = run(command, tmp_path, environ | {"CUDA_VISIBLE_DEVICES": "-1"}, timeout=280)
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
    assert printed_by(script, "mpqueue.compat.v1", workers) == expected_of(script)


@pytest.mark.slow
@pytest.mark.parametrize("script", OF_RECORDS, ids=lambda path: path.stem)
def test_a_script_prints_the_same_record_by_record(script, printed_by):
    assert printed_by(script, "mpqueue.compat.v1", RECORD_BY_RECORD="1") == expected_of(script)


@pytest.fixture(scope="module")
def run_by_tensorflow(tmp_path_factory):
    """Import TensorFlow in one process, and run each script in a fork of it."""
    errors = tmp_path_factory.mktemp("tensorflow") / "errors"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(HERE / "launch.py"), TENSORFLOW],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as launcher,
    ):

        def printed(script, folder):
            output = folder / "printed.json"
            print(
                json.dumps({"script": str(script), "work": str(folder), "output": str(output)}),
                file=launcher.stdin,
                flush=True,
            )
            assert launcher.stdout.readline() == "0\n", errors.read_text()[-2000:]
            return json.loads(output.read_text())

        assert launcher.stdout.readline() == "ready\n", errors.read_text()[-2000:]
        yield printed
        launcher.stdin.close()


def test_expected_outputs_match_tensorflow(tmp_path, printed_by, request):
    if not request.config.getoption("stock"):
        pytest.skip("importing TensorFlow takes 10 s: with --stock")
    run_by_tensorflow = request.getfixturevalue("run_by_tensorflow")
    for script in SCRIPTS:
        folder = tmp_path / script.stem
        folder.mkdir()
        is_alone = script.stem not in STARTS_OTHERS
        printed = run_by_tensorflow(script, folder) if is_alone else printed_by(script, TENSORFLOW)
        assert printed == expected_of(script), script.stem
