"""Typical uses of TensorFlow 1's names, checked by mypy and never run; names created at run time have signatures."""

from typing import Any, assert_type

import numpy as np

import mpqueue
import mpqueue.compat.v1 as tf
import mpqueue.compat.v1.train
from mpqueue.compat.v1 import image
from mpqueue.compat.v1.keras.utils import OrderedEnqueuer
from mpqueue.compat.v1.train import Coordinator, queue_runner


def read() -> tuple[Any, Any]:
    names = tf.train.string_input_producer(["a", "b"], num_epochs=2, shuffle=False)
    assert_type(names, tf.FIFOQueue)
    reader = tf.TextLineReader(skip_header_lines=1)
    key, line = reader.read(names)
    number, label = tf.decode_csv(line, [[0.0], [0]])
    assert_type(tf.cast(key, tf.string, name="key"), Any)
    tf.summary.scalar("number", number, collections=[])
    assert_type(tf.reduce_sum(number, axis=0, keepdims=True), tf.Tensor)
    return number[tf.newaxis, ...], tf.one_hot(label, 3)


def run() -> None:
    batch = tf.train.shuffle_batch(list(read()), 32, capacity=100, min_after_dequeue=10)
    options = tf.ConfigProto(gpu_options=tf.GPUOptions())
    with tf.Session(config=options) as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        coord = tf.train.Coordinator()
        assert_type(coord, mpqueue.train.Coordinator)
        assert_type(coord, Coordinator)
        threads = mpqueue.compat.v1.train.start_queue_runners(sess, coord)
        try:
            while not coord.should_stop():
                sess.run(batch, feed_dict={})
        except tf.errors.OutOfRangeError as error:
            assert_type(error.error_code, int)
        finally:
            coord.request_stop()
        coord.join(threads)


def pictures(path: str) -> bytes:
    picture = image.resize_images(tf.image.decode_jpeg(tf.read_file(path), channels=3), [28, 28])
    queue = tf.PaddingFIFOQueue(10, [tf.float32], [(None, 28, 3)])
    runner = queue_runner.QueueRunner(queue, [queue.enqueue(picture)] * 4)
    tf.train.add_queue_runner(runner)
    with tf.gfile.GFile(path, "rb") as file, tf.python_io.TFRecordWriter(path) as writer:
        writer.write(b"record")
        content: bytes = file.read()
    return tf.compat.as_bytes(content)


def settings() -> None:
    tf.flags.DEFINE_integer("steps", 10, "How many.")
    tf.logging.set_verbosity(tf.logging.INFO)
    tf.logging.info("%d steps", tf.app.flags.FLAGS.steps)
    tf.app.run(main=lambda argv: len(argv))


def fit(source: mpqueue.Sequence) -> np.dtype[Any]:
    enqueuer = OrderedEnqueuer(source, use_multiprocessing=True)
    enqueuer.start(workers=2)
    return np.dtype(tf.as_dtype("float32").as_numpy_dtype)
