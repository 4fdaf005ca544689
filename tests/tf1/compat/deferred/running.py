"""Queue runners of the graph, run in a session with a coordinator."""

import contextlib

from golden.outcomes import DEADLOCK_S, assert_outcome

import mpqueue.compat.v1 as tf


@contextlib.contextmanager
def run_by_queue_runners(session, expected):
    """Run the collected queue runners, and compare the outcome of the coordinator's join at the end."""
    runners = tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)
    assert [len(runner.enqueue_ops) for runner in runners] == expected["enqueue_ops"]
    session.run(tf.local_variables_initializer())
    coord = tf.train.Coordinator()
    tf.train.start_queue_runners(session, coord)
    try:
        yield coord
    finally:
        coord.request_stop()
    assert_outcome(lambda: coord.join(stop_grace_period_secs=DEADLOCK_S), expected["join"], "join")
