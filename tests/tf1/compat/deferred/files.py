"""matching_files, read_file and match_filenames_once, on files that are created for each case."""

from golden.outcomes import assert_outcome
from golden.topics.files import tree_of

import mpqueue.compat.v1 as tf


def run(case, folder):
    with tree_of(case) as root, tf.Graph().as_default(), tf.Session() as session:
        if case["op"] == "match_filenames_once":
            match_filenames_once(case, root, session)
        else:
            expected = case["expect"].get("output", case["expect"])
            assert_outcome(lambda: session.run(getattr(tf, case["op"])(**case["args"])), expected, case["op"])


def match_filenames_once(case, root, session):
    expected = case["expect"]
    matches = tf.train.match_filenames_once(**case["args"])
    assert_outcome(lambda: session.run(matches), expected["before_init"], "before")
    session.run(tf.local_variables_initializer())
    assert_outcome(lambda: session.run(matches), expected["first"], "first")
    (added,) = [key.removeprefix("after_adding_") for key in expected if key.startswith("after_adding_")]
    (root / added).write_bytes(b"")
    assert_outcome(lambda: session.run(matches), expected[f"after_adding_{added}"], "with a new file")
    session.run(tf.local_variables_initializer())
    assert_outcome(lambda: session.run(matches), expected["after_init_again"], "after the initializer ran again")
