"""A list of image files and one of labels, sliced together; PNG files decoded and scaled."""

# ruff: noqa: B905, F841, UP031 - as scripts of those years are written

import json
import os

import numpy as np
import tensorflow as tf

folder = os.environ["WORK"]


def write_pngs():
    paths = []
    with tf.Graph().as_default(), tf.Session() as sess:
        for number in range(6):
            pixels = (np.arange(5 * 4).reshape(5, 4, 1) * (number + 1) % 256).astype(np.uint8)
            paths.append(os.path.join(folder, "%d.png" % number))
            tf.gfile.GFile(paths[-1], "wb").write(tf.image.encode_png(pixels).eval())
    return paths


image_paths = write_pngs()
labels = [number % 2 for number in range(6)]
images = tf.convert_to_tensor(image_paths, dtype=tf.string)
labels = tf.convert_to_tensor(labels, dtype=tf.int32)
input_queue = tf.train.slice_input_producer([images, labels], num_epochs=2, shuffle=True, seed=3)
label = input_queue[1]
file_contents = tf.read_file(input_queue[0])
image = tf.image.decode_png(file_contents, channels=1)
flipped = tf.image.flip_up_down(image)
image = tf.image.resize_images(image, [10, 8], method=tf.image.ResizeMethod.NEAREST_NEIGHBOR)
image.set_shape([10, 8, 1])
flipped.set_shape([5, 4, 1])
scaled = tf.divide(tf.to_float(image), 255.0)
image_batch, flipped_batch, label_batch = tf.train.batch([scaled, flipped, label], batch_size=3, num_threads=2)

rows = []
with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    sess.run(tf.local_variables_initializer())
    coord = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(sess=sess, coord=coord)
    try:
        while not coord.should_stop():
            x, f, y = sess.run([image_batch, flipped_batch, label_batch])
            rows += [[float(a.sum().round(3)), b[0, :, 0].tolist(), int(c)] for a, b, c in zip(x, f, y)]
    except tf.errors.OutOfRangeError:
        coord.request_stop()
    coord.join(threads)
print(json.dumps({"rows": sorted(rows), "shape": image_batch.get_shape().as_list()}))
