"""A thousand code samples with the results that TensorFlow 2.21 had."""

import json
from pathlib import Path

import pytest
from golden.topics import ops

pytestmark = pytest.mark.sample(2)

CASES = sorted((Path(__file__).resolve().parent / "cases").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_code_samples_match_tensorflow(path):
    wrong = {}
    for case in json.loads(path.read_text("utf-8"))["cases"]:
        try:
            ops.run(case, path.parent)
        except ImportError:  # Pillow is missing
            raise
        except Exception as error:
            wrong[case["code"]] = error
    assert wrong == {}
