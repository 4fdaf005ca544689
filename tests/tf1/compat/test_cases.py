"""A thousand more pieces of code of which TensorFlow said what they give; `record_cases.py` asked it."""

import json
from pathlib import Path

import pytest
from golden.topics import ops

CASES = sorted((Path(__file__).resolve().parent / "cases").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_pieces_of_code_give_what_tensorflow_gives(path):
    wrong = {}
    for case in json.loads(path.read_text("utf-8"))["cases"]:
        try:
            ops.run(case, path.parent)
        except ImportError:  # of Pillow
            raise
        except Exception as error:
            wrong[case["code"]] = error
    assert wrong == {}
