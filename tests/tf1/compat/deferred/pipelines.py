"""string_input_producer -> reader -> decoder -> batch, on files of the folder."""

import numpy as np
from golden.outcomes import DEADLOCK_S, assert_outcome
from golden.topics.batches import compare, examples_in, shapes_of
from golden.values import encode

import mpqueue.compat.v1 as tf


def run(case, folder):
    expected = case["expect"]
    with tf.Graph().as_default(), tf.Session() as session:
        nodes = globals()[case["op"]](**case["args"])
        runners = tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)
        assert len(runners) == expected["queue_runners"]
        assert [len(runner.enqueue_ops) for runner in runners] == expected["enqueue_ops"]
        session.run(tf.local_variables_initializer())
        coord = tf.train.Coordinator()
        tf.train.start_queue_runners(session, coord)
        try:
            got = [encode(session.run(nodes)) for _ in expected["items"]]
            if case.get("random"):
                assert [shapes_of(batch) for batch in got] == [shapes_of(batch) for batch in expected["items"]]
            if not case.get("random") or case["args"]["allow_smaller_final_batch"]:
                compare(got, expected["items"], examples_in(expected["items"]) if case.get("random") else None)
            for what in ("end", "again"):
                assert_outcome(lambda: session.run(nodes), expected[what], what)
            assert coord.should_stop() == expected["should_stop_before_request"]
        finally:
            coord.request_stop()
        assert_outcome(lambda: coord.join(stop_grace_period_secs=DEADLOCK_S), expected["join"], "join")


def csv_pipeline(files, num_epochs, skip_header_lines, read_up_to, batch_size, allow_smaller_final_batch, shuffle):
    names = tf.train.string_input_producer(files, num_epochs, shuffle=shuffle)
    reader = tf.TextLineReader(skip_header_lines=skip_header_lines)
    key, value = reader.read(names) if read_up_to is None else reader.read_up_to(names, read_up_to)
    number, weight = tf.decode_csv(value, [np.array([], np.int32), np.array([-1], np.float32)])
    return tf.train.batch(
        [key, number, weight],
        batch_size,
        enqueue_many=read_up_to is not None,
        allow_smaller_final_batch=allow_smaller_final_batch,
    )


def record_pipeline(files, num_epochs, batch_size, allow_smaller_final_batch, extra_required_feature):
    names = tf.train.string_input_producer(files, num_epochs, shuffle=False)
    _, record = tf.TFRecordReader().read(names)
    batch = tf.train.batch([record], batch_size, allow_smaller_final_batch=allow_smaller_final_batch)
    features = {"id": tf.FixedLenFeature((), tf.int64), "w": tf.VarLenFeature(tf.string)}
    if extra_required_feature is not None:
        features[extra_required_feature] = tf.FixedLenFeature((), tf.int64)
    return tf.parse_example(batch, features)
