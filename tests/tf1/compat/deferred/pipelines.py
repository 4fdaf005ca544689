"""string_input_producer -> reader -> decoder -> batch, on files of the folder."""

import numpy as np
from golden.topics.pipelines import check
from tf1.compat.deferred.running import run_by_queue_runners

import mpqueue.compat.v1 as tf


def run(case, folder):
    with tf.Graph().as_default(), tf.Session() as session:
        nodes = globals()[case["op"]](**case["args"])
        with run_by_queue_runners(session, case["expect"]) as coord:
            check(case, lambda: session.run(nodes), coord)


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
