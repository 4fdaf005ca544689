"""Values that can be fed."""

from golden.outcomes import assert_outcome
from golden.topics.placeholders import fed_value
from golden.values import decode

import mpqueue.compat.v1 as tf


def run(case, folder):
    expected = case["expect"]
    assert_outcome(lambda: fed_and_run(case), expected.get("output", expected), case["op"])


def fed_and_run(case):
    args = {name: value if name == "shape" else decode(value) for name, value in case["args"].items()}
    with tf.Graph().as_default(), tf.Session() as session:
        node = getattr(tf, case["op"])(**args)
        feed = case["feed"]
        return session.run(node, None if feed is None else {node: fed_value(feed)})
