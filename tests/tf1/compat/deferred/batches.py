"""batch, batch_join, shuffle_batch and shuffle_batch_join of queues with the elements of the sources."""

from golden.outcomes import DEADLOCK_S, assert_outcome, is_error
from golden.topics.batches import compare, given
from golden.values import decode, decode_array, encode

import mpqueue.compat.v1 as tf


def run(case, folder):
    expected = case["expect"]
    with tf.Graph().as_default(), tf.Session() as session:
        if is_error(expected):
            assert_outcome(lambda: make(case, session), expected, case["op"])
            return
        nodes = make(case, session)
        runners = tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)
        assert [len(runner.enqueue_ops) for runner in runners] == expected["enqueue_ops"]
        flat = [nodes[key] for key in sorted(nodes)] if isinstance(nodes, dict) else nodes
        flat = flat if isinstance(flat, list) else [flat]
        assert [node.get_shape().as_list() for node in flat] == expected["static_shapes"]
        coord = tf.train.Coordinator()
        tf.train.start_queue_runners(session, coord)
        try:
            got = [encode(session.run(nodes)) for _ in expected["batches"]]
            compare(got, expected["batches"], given(case) if case.get("random") else None)
            if expected["end"] is not None:
                assert_outcome(lambda: session.run(nodes), expected["end"], "end")
        finally:
            coord.request_stop()
        assert_outcome(lambda: coord.join(stop_grace_period_secs=DEADLOCK_S), expected["join"], "join")


def make(case, session):
    sources = [make_source(document, session) for document in case["sources"]]
    args = {name: decode(value) for name, value in case["args"].items()}
    if case["op"].endswith("_join"):
        return getattr(tf.train, case["op"])(sources, **args)
    return getattr(tf.train, case["op"])(sources[0] if sources else [], **args)


def make_source(document, session):
    """Create nodes that return the elements one by one, and then end."""
    queue = tf.FIFOQueue(1000, document["dtypes"])
    for element in document["elements"]:
        session.run(queue.enqueue([decode_array(array) for array in element]))
    session.run(queue.close())
    nodes = queue.dequeue()
    nodes = nodes if isinstance(nodes, list) else [nodes]
    for node, shape in zip(nodes, document["shapes"], strict=True):
        node.set_shape(shape)
    if document.get("fail_on_negative"):
        with tf.control_dependencies([tf.assert_non_negative(nodes[0])]):
            nodes = [tf.identity(node) for node in nodes]
    if document.get("bare"):
        return nodes[0]
    return dict(zip(document["names"], nodes, strict=True)) if "names" in document else nodes
