"""Scripts like those in TensorFlow 1's tutorials run unchanged, and print the same as with TensorFlow."""

import importlib.util
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
EXAMPLES = sorted((HERE / "examples" / "scripts").glob("*.py"))
ROOT = HERE.parents[2]
TENSORFLOW = "tensorflow.compat.v1"
OF_RECORDS = [path for path in SCRIPTS if re.search(r"(TextLine|TFRecord|FixedLengthRecord)Reader", path.read_text())]
STARTS_OTHERS = {"queue_of_two_programs"}  # scripts that start a second process of themselves


@pytest.fixture(scope="session")
def launcher():
    with Interpreter("mpqueue.compat.v1", "mpqueue.workers.launcher") as made:
        yield made


@pytest.fixture
def output_of(launcher, tmp_path):
    """Run a script with arguments, and return the JSON that it prints."""

    def run(command, *paths, forked=True, **variables):
        path = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = os.environ | variables | {"PYTHONPATH": path, "WORK": str(tmp_path), "CUDA_VISIBLE_DEVICES": "-1"}
        run = launcher.run if forked else in_a_new_interpreter
        status, printed, errors = run(command, tmp_path, environ, timeout=280)
        if status != 0:
            optional.skip_if_missing(errors)
        assert status == 0, errors[-2000:]
        return json.loads(printed)

    return run


def in_a_new_interpreter(command, folder, environ, timeout):
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=environ, capture_output=True, text=True, timeout=timeout
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def printed_by(output_of):
    """Run a script with a module in place of TensorFlow."""

    def run(script, module, workers="thread", **more):
        command = [HERE / "launch.py", module, script]
        return output_of(command, ROOT, forked=script.stem not in STARTS_OTHERS, MPQUEUE_WORKERS=workers, **more)

    return run


def expected_of(script):
    return json.loads((script.parent / "expected" / f"{script.stem}.json").read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["thread", "process"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_prints_the_same_as_with_tensorflow(script, workers, printed_by):
    assert printed_by(script, "mpqueue.compat.v1", workers) == expected_of(script)


@pytest.mark.slow
@pytest.mark.parametrize("script", OF_RECORDS, ids=lambda path: path.stem)
def test_a_script_prints_the_same_record_by_record(script, printed_by):
    assert printed_by(script, "mpqueue.compat.v1", RECORD_BY_RECORD="1") == expected_of(script)


@pytest.mark.parametrize("workers", ["thread", "process"])
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_outputs_the_same_as_with_tensorflow(script, workers, output_of):
    environment = {"TF_MODULE": "mpqueue.compat.v1", "MPQUEUE_WORKERS": workers}
    emitted = output_of([script], HERE / "examples", ROOT, **environment)
    assert_alike(emitted, json.loads((HERE / "examples" / "expected" / f"{script.stem}.json").read_text("utf-8")))


def assert_alike(got, expected):
    """Return whether two results are equal, with floats equal to 1e-6."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        got, expected = list(got.values()), [expected[key] for key in got]
    if isinstance(expected, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_alike(one, other)
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-6)
    else:
        assert got == expected


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


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_expected_output_matches_tensorflow(script, tmp_path, run_by_tensorflow, printed_by, request):
    if script.stem not in STARTS_OTHERS:
        assert run_by_tensorflow(script, tmp_path) == expected_of(script)
    elif request.config.getoption("stock"):
        assert printed_by(script, TENSORFLOW) == expected_of(script)
    else:
        pytest.skip("two programs that import TensorFlow take 20 s: with --stock")
