"""Interpreters of golden topics about functions: these create nodes, and a session of their graph runs them."""

import contextlib
from functools import partial

import numpy as np
from golden import decoding
from golden.outcomes import DEADLOCK_S, assert_outcome, is_error
from golden.topics import batches, files, pipelines, placeholders, producers
from golden.values import assert_same, decode_array

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


def run_batches(case, session):
    """Run batching functions of queues with the elements of the sources."""
    expected = case["expect"]
    make_nodes = partial(batches.make, case, tf.train, partial(make_source, session))
    if is_error(expected):
        assert_outcome(make_nodes, expected, case["op"])
        return
    nodes = make_nodes()
    flat = [nodes[key] for key in sorted(nodes)] if isinstance(nodes, dict) else nodes
    flat = flat if isinstance(flat, list) else [flat]
    assert [node.get_shape().as_list() for node in flat] == expected["static_shapes"]
    with run_by_queue_runners(session, expected):
        batches.check(case, lambda: session.run(nodes))


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


DIFFERENCES = {
    "decode_csv/s069": "ValueError",  # TensorFlow's error class is accidental
    "decode_raw/s020": "TypeError",  # NumPy has no bfloat16
}


def run_decoders(case, session):
    """Compare results and static shapes of decoders and parsers."""
    if case["id"] in DIFFERENCES:
        case = {**case, "expect": {"error": DIFFERENCES[case["id"]]}}
    args = decoding.arguments(case)

    def call():
        nodes = getattr(tf, case["op"])(**args)
        return nodes, session.run(nodes)

    decoding.check(case, call, check_result)


def check_result(got, expected):
    nodes, result = got
    for key, output in outputs_of(expected):
        assert_same(result if key is None else result[key], output, where=str(key))
    for key, shape in expected.get("static_shapes", {}).items():
        assert nodes[key].get_shape().as_list() == shape, key


def outputs_of(expected):
    if "parsed" in expected:
        return []  # the eager interpreter compares the contents of the strings
    if "output" in expected:
        return [(None, expected["output"])]
    outputs = expected["outputs"]
    return outputs.items() if isinstance(outputs, dict) else enumerate(outputs)


def run_files(case, session):
    """Find and read files that are created for each case."""
    with files.tree_of(case) as root:
        if case["op"] == "match_filenames_once":
            names = tf.train.match_filenames_once(**case["args"])
            matches, initialize = map(session.make_callable, (names, tf.local_variables_initializer()))
            files.match_filenames_once(case, root, case["expect"]["before_init"], matches, initialize)
        else:
            expected = case["expect"].get("output", case["expect"])
            assert_outcome(lambda: session.run(getattr(tf, case["op"])(**case["args"])), expected, case["op"])


def run_pipelines(case, session):
    """Run string_input_producer, a reader, a decoder and batch on files of the folder."""
    nodes = globals()[case["op"]](**case["args"])
    with run_by_queue_runners(session, case["expect"]) as coord:
        pipelines.check(case, lambda: session.run(nodes), coord)


def csv_pipeline(files, num_epochs, skip_header_lines, read_up_to, shuffle, **options):
    names = tf.train.string_input_producer(files, num_epochs, shuffle=shuffle)
    reader = tf.TextLineReader(skip_header_lines=skip_header_lines)
    key, value = reader.read(names) if read_up_to is None else reader.read_up_to(names, read_up_to)
    number, weight = tf.decode_csv(value, [np.array([], np.int32), np.array([-1], np.float32)])
    return tf.train.batch([key, number, weight], enqueue_many=read_up_to is not None, **options)


def record_pipeline(files, num_epochs, extra_required_feature, **options):
    names = tf.train.string_input_producer(files, num_epochs, shuffle=False)
    _, record = tf.TFRecordReader().read(names)
    features = {"id": tf.FixedLenFeature((), tf.int64), "w": tf.VarLenFeature(tf.string)}
    if extra_required_feature is not None:
        features[extra_required_feature] = tf.FixedLenFeature((), tf.int64)
    return tf.parse_example(tf.train.batch([record], **options), features)


def run_placeholders(case, session):
    """Feed a value."""

    def fed_and_run(case, args):
        node = getattr(tf, case["op"])(**args)
        feed = case["feed"]
        return session.run(node, None if feed is None else {node: placeholders.fed_value(feed)})

    placeholders.play(case, fed_and_run)


def run_producers(case, session):
    """Take the items of a producer, or of limit_epochs."""
    expected = case["expect"]
    make = partial(producers.make, case, tf.train, lambda rows: tf.placeholder_with_default(rows, None))
    if is_error(expected):
        assert_outcome(make, expected, case["op"])
        return
    made = make()
    item = made.dequeue() if isinstance(made, tf.QueueBase) else made
    with run_by_queue_runners(session, expected) as coord:
        if "queue_dtype" in expected:
            assert made.dtypes[0].name == expected["queue_dtype"]
            assert made.shapes[0].as_list() == expected["queue_shape"]
            producers.settle(session.make_callable(made.size()), expected["filled_to"])
        producers.check_items(case, lambda: session.run(item), expected)
        producers.check_end(coord, lambda: session.run(made.is_closed()), expected)
