"""batch, batch_join, shuffle_batch and shuffle_batch_join of queues with the elements of the sources."""

from functools import partial

from golden.outcomes import assert_outcome, is_error
from golden.topics.batches import check, make
from golden.values import decode_array
from tf1.compat.deferred.running import run_by_queue_runners

import mpqueue.compat.v1 as tf


def run(case, folder):
    expected = case["expect"]
    with tf.Graph().as_default(), tf.Session() as session:
        make_nodes = partial(make, case, tf.train, partial(make_source, session))
        if is_error(expected):
            assert_outcome(make_nodes, expected, case["op"])
            return
        nodes = make_nodes()
        flat = [nodes[key] for key in sorted(nodes)] if isinstance(nodes, dict) else nodes
        flat = flat if isinstance(flat, list) else [flat]
        assert [node.get_shape().as_list() for node in flat] == expected["static_shapes"]
        with run_by_queue_runners(session, expected):
            check(case, lambda: session.run(nodes))


def make_source(session, document):
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
