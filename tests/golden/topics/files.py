"""matching_files, read_file and match_filenames_once, on a tree of files made for each case."""

import contextlib
import tempfile
from pathlib import Path

import mpqueue
from golden.outcomes import assert_outcome

DIFFERENCES = {
    "s013": "match_filenames_once is usable at once; TensorFlow's variable wants local_variables_initializer first",
}


def run(case, folder):
    with tree_of(case) as root:
        if case["op"] == "match_filenames_once":
            matches = mpqueue.train.match_filenames_once(**case["args"])
            match_filenames_once(case, root, case["expect"]["first"], matches, mpqueue.local_variables_initializer)
        else:
            expected = case["expect"].get("output", case["expect"])
            assert_outcome(lambda: getattr(mpqueue, case["op"])(**case["args"]), expected, case["op"])


@contextlib.contextmanager
def tree_of(case):
    """Make the files of a case in an empty current folder, and return their root."""
    with tempfile.TemporaryDirectory() as elsewhere, contextlib.chdir(elsewhere):
        root = Path(case["tree_root"])
        for name, content in case["tree"].items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode("latin-1"))
        yield root


def match_filenames_once(case, root, before, matches, initialize):
    """Compare the matches before and after each run of the initializer, with a file that is added in between."""
    expected = case["expect"]
    assert_outcome(matches, before, "before the initializer ran")
    initialize()
    assert_outcome(matches, expected["first"], "first")
    (added,) = [key.removeprefix("after_adding_") for key in expected if key.startswith("after_adding_")]
    (root / added).write_bytes(b"")
    assert_outcome(matches, expected[f"after_adding_{added}"], "with a new file")
    initialize()
    assert_outcome(matches, expected["after_init_again"], "after the initializer ran again")
