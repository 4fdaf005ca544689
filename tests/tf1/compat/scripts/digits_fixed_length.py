"""Images and labels in two binary files with headers, as the MNIST files are, read side by side."""

import json
import os
import struct

import numpy as np
import tensorflow as tf

folder = os.environ["WORK"]
ROWS, COLS, COUNT = 4, 3, 9


def write_digits():
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (COUNT, ROWS, COLS)).astype(np.uint8)
    labels = rng.randint(0, 10, COUNT).astype(np.uint8)
    with open(os.path.join(folder, "images.bin"), "wb") as f:
        f.write(struct.pack(">4i", 2051, COUNT, ROWS, COLS) + images.tobytes())
    with open(os.path.join(folder, "labels.bin"), "wb") as f:
        f.write(struct.pack(">2i", 2049, COUNT) + labels.tobytes())


def records(name, record_bytes, header_bytes):
    queue = tf.train.string_input_producer([os.path.join(folder, name)], num_epochs=1, shuffle=False)
    reader = tf.FixedLengthRecordReader(record_bytes, header_bytes=header_bytes)
    key, value = reader.read(queue)
    return key, tf.decode_raw(value, tf.uint8)


write_digits()
key, pixels = records("images.bin", ROWS * COLS, 16)
_, label = records("labels.bin", 1, 8)
image = tf.reshape(pixels, [ROWS, COLS, 1])
image = tf.cast(image, tf.float32) * (1.0 / 255) - 0.5
label = tf.one_hot(tf.reshape(tf.cast(label, tf.int32), []), 10)
images, labels = tf.train.batch([image, label], 4, capacity=16, allow_smaller_final_batch=True)

shapes, means, classes = [], [], []
with tf.Session() as sess:
    sess.run(tf.group(tf.global_variables_initializer(), tf.local_variables_initializer()))
    coord = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(sess=sess, coord=coord)
    try:
        while not coord.should_stop():
            x, y = sess.run([images, labels])
            shapes.append(list(x.shape))
            means.extend(x.mean(axis=(1, 2, 3)).round(5).tolist())
            classes.extend(y.argmax(axis=1).tolist())
    except tf.errors.OutOfRangeError:
        pass
    finally:
        coord.request_stop()
    coord.join(threads)
print(json.dumps({"static": images.get_shape().as_list(), "shapes": shapes, "means": means, "classes": classes}))
