"""matching_files, read_file and match_filenames_once, on files that are created for each case."""

from golden.outcomes import assert_outcome
from golden.topics.files import match_filenames_once, tree_of

import mpqueue.compat.v1 as tf


def run(case, folder):
    with tree_of(case) as root, tf.Graph().as_default(), tf.Session() as session:
        if case["op"] == "match_filenames_once":
            names = tf.train.match_filenames_once(**case["args"])
            matches, initialize = map(session.make_callable, (names, tf.local_variables_initializer()))
            match_filenames_once(case, root, case["expect"]["before_init"], matches, initialize)
        else:
            expected = case["expect"].get("output", case["expect"])
            assert_outcome(lambda: session.run(getattr(tf, case["op"])(**case["args"])), expected, case["op"])
