"""Scripts of the kinds found in TensorFlow 1's tutorials run unchanged, and print what they print with TensorFlow."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted((HERE / "scripts").glob("*.py"))
EXAMPLES = sorted((HERE / "examples" / "scripts").glob("*.py"))
ROOT = HERE.parent.parent
TENSORFLOW = "tensorflow.compat.v1"
OF_RECORDS = [path for path in SCRIPTS if re.search(r"(TextLine|TFRecord|FixedLengthRecord)Reader", path.read_text())]
STARTS_OTHERS = {"queue_of_two_programs"}  # which start themselves once more, by their command line


def printed_by(script, module, folder, workers="thread", **more):
    told = {"WORK": str(folder), "MPQUEUE_WORKERS": workers, **more}
    return output_of([str(HERE / "launch.py"), module, str(script)], ROOT, **told)


def output_of(arguments, *paths, **variables):
    path = [*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | variables | {"PYTHONPATH": os.pathsep.join(path), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def expected_of(script):
    return json.loads((script.parent / "expected" / f"{script.stem}.json").read_text("utf-8"))


@pytest.mark.parametrize("workers", ["thread", "process"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_prints_what_it_prints_with_tensorflow(script, workers, tmp_path):
    assert printed_by(script, "mpqueue.compat.v1", tmp_path, workers) == expected_of(script)


@pytest.mark.parametrize("script", OF_RECORDS, ids=lambda path: path.stem)
def test_a_script_prints_the_same_record_by_record(script, tmp_path):
    assert printed_by(script, "mpqueue.compat.v1", tmp_path, RECORD_BY_RECORD="1") == expected_of(script)


@pytest.mark.parametrize("workers", ["thread", "process"])
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_emits_what_it_emits_with_tensorflow(script, workers, tmp_path):
    told = {"WORK": str(tmp_path), "TF_MODULE": "mpqueue.compat.v1", "MPQUEUE_WORKERS": workers}
    emitted = output_of([str(script)], HERE / "examples", ROOT, **told)
    assert_alike(emitted, json.loads((HERE / "examples" / "expected" / f"{script.stem}.json").read_text("utf-8")))


def assert_alike(got, expected):
    """The same, floats to 1e-6."""
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
def tensorflow(tmp_path_factory):
    """Takes the place of `printed_by`: one process imports TensorFlow, and a fork of it runs each script."""
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

        def printed(script, _module, folder):
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
def test_that_is_what_tensorflow_prints(script, tmp_path, tensorflow):
    printed = printed_by if script.stem in STARTS_OTHERS else tensorflow
    assert printed(script, TENSORFLOW, tmp_path) == expected_of(script)
