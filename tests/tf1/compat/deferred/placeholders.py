"""Values that can be fed."""

from golden.topics.placeholders import fed_value, play

import mpqueue.compat.v1 as tf


def run(case, folder):
    play(case, fed_and_run)


def fed_and_run(case, args):
    with tf.Graph().as_default(), tf.Session() as session:
        node = getattr(tf, case["op"])(**args)
        feed = case["feed"]
        return session.run(node, None if feed is None else {node: fed_value(feed)})
