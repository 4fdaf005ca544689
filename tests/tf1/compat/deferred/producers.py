"""The producers, and limit_epochs."""

from golden.outcomes import DEADLOCK_S, assert_outcome, is_error
from golden.topics import producers
from golden.values import decode

import mpqueue.compat.v1 as tf


def run(case, folder):
    expected = case["expect"]
    with tf.Graph().as_default(), tf.Session() as session:
        if is_error(expected):
            assert_outcome(lambda: make(case), expected, case["op"])
            return
        made = make(case)
        runners = tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)
        assert len(runners) == expected["queue_runners"]
        assert [len(runner.enqueue_ops) for runner in runners] == expected["enqueue_ops"]
        item = made.dequeue() if isinstance(made, tf.QueueBase) else made
        session.run(tf.local_variables_initializer())
        coord = tf.train.Coordinator()
        tf.train.start_queue_runners(session, coord)
        try:
            check_queue(made, session, expected)
            producers.check_items(case, lambda: session.run(item), expected)
            assert coord.should_stop() == expected["should_stop_before_request"]
            if "closed" in expected:
                assert session.run(made.is_closed()) == expected["closed"]
        finally:
            coord.request_stop()
        assert_outcome(lambda: coord.join(stop_grace_period_secs=DEADLOCK_S), expected["join"], "join")


def make(case):
    args = {name: decode(value) for name, value in case["args"].items() if name != "unknown_shape"}
    if case["args"].get("unknown_shape"):
        args["input_tensor"] = tf.placeholder_with_default(args["input_tensor"], None)
    return getattr(tf.train, case["op"])(**args)


class _Queue:
    def __init__(self, size, session):
        self._size, self._session = size, session

    def size(self):
        return self._session.run(self._size)


def check_queue(queue, session, expected):
    if "queue_dtype" not in expected:
        return
    assert queue.dtypes[0].name == expected["queue_dtype"]
    assert queue.shapes[0].as_list() == expected["queue_shape"]
    producers.settle(_Queue(queue.size(), session), expected["filled_to"])
