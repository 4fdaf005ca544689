"""Images in Examples, written to record files and read back with parse_single_example in monitored training."""

# ruff: noqa: B905 - as scripts of those years are written

import json
import os

import numpy as np
import tensorflow as tf

flags = tf.app.flags
flags.DEFINE_string("directory", os.environ["WORK"], "Where the files go.")
flags.DEFINE_integer("num_records", 10, "Records in each file.")
flags.DEFINE_boolean("compress", True, "Whether files are packed.")
FLAGS = flags.FLAGS


def _int64_feature(value):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _bytes_feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def convert_to(name, first):
    options = tf.python_io.TFRecordOptions(tf.python_io.TFRecordCompressionType.GZIP)
    filename = os.path.join(FLAGS.directory, name + ".tfrecords")
    writer = tf.python_io.TFRecordWriter(filename, options=options if FLAGS.compress else None)
    for index in range(first, first + FLAGS.num_records):
        image = np.full((2, 3), index, np.uint8)
        feature = {
            "height": _int64_feature(2),
            "width": _int64_feature(3),
            "label": _int64_feature(index % 4),
            "image_raw": _bytes_feature(image.tobytes()),
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        writer.write(example.SerializeToString())
    writer.close()
    return filename, options


def read_and_decode(filename_queue, options):
    reader = tf.TFRecordReader(options=options if FLAGS.compress else None)
    _, serialized_example = reader.read(filename_queue)
    features = tf.parse_single_example(
        serialized_example,
        features={
            "image_raw": tf.FixedLenFeature([], tf.string),
            "label": tf.FixedLenFeature([], tf.int64),
            "weight": tf.FixedLenFeature([], tf.float32, default_value=0.25),
        },
    )
    image = tf.decode_raw(features["image_raw"], tf.uint8)
    image.set_shape([6])
    return tf.cast(image, tf.float32), tf.cast(features["label"], tf.int32), features["weight"]


def main(unused_argv):
    files = [convert_to("train", 0), convert_to("more", 100)]
    with tf.Graph().as_default():
        with tf.name_scope("input"):
            names = [name for name, _ in files]
            filename_queue = tf.train.string_input_producer(names, num_epochs=2)
            image, label, weight = read_and_decode(filename_queue, files[0][1])
            images, labels, weights = tf.train.shuffle_batch(
                [image, label, weight],
                batch_size=8,
                num_threads=2,
                capacity=100,
                min_after_dequeue=16,
                allow_smaller_final_batch=True,
            )
        global_step = tf.train.get_or_create_global_step()
        step_op = tf.assign_add(global_step, 1)
        seen, steps = [], 0
        with tf.Session() as sess:
            sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            coord = tf.train.Coordinator()
            threads = tf.train.start_queue_runners(sess, coord)
            try:
                while not coord.should_stop():
                    x, y, w, steps = sess.run([images, labels, weights, step_op])
                    seen += [[int(row[0]), int(at), float(v)] for row, at, v in zip(x, y, w)]
            except tf.errors.OutOfRangeError:
                coord.request_stop()
            coord.join(threads)
        print(json.dumps({"seen": sorted(seen), "steps": int(steps)}))


if __name__ == "__main__":
    tf.app.run()
