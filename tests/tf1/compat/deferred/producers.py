"""The producers, and limit_epochs."""

from golden.outcomes import assert_outcome, is_error
from golden.topics import producers
from tf1.compat.deferred.running import run_by_queue_runners

import mpqueue.compat.v1 as tf


def run(case, folder):
    expected = case["expect"]
    with tf.Graph().as_default(), tf.Session() as session:
        if is_error(expected):
            assert_outcome(lambda: make(case), expected, case["op"])
            return
        made = make(case)
        item = made.dequeue() if isinstance(made, tf.QueueBase) else made
        with run_by_queue_runners(session, expected) as coord:
            check_queue(made, session, expected)
            producers.check_items(case, lambda: session.run(item), expected)
            producers.check_end(coord, lambda: session.run(made.is_closed()), expected)


def make(case):
    return producers.make(case, tf.train, lambda rows: tf.placeholder_with_default(rows, None))


def check_queue(queue, session, expected):
    if "queue_dtype" not in expected:
        return
    assert queue.dtypes[0].name == expected["queue_dtype"]
    assert queue.shapes[0].as_list() == expected["queue_shape"]
    size = queue.size()
    producers.settle(lambda: session.run(size), expected["filled_to"])
