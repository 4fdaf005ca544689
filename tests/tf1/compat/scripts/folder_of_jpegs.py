"""A folder of JPEG files, found by a pattern, read whole, resized and batched with their names."""

# ruff: noqa: RUF046, UP031 - as scripts of those years are written

import json
import os

import numpy as np
import tensorflow as tf

folder = os.environ["WORK"]


def write_images():
    with tf.Graph().as_default(), tf.Session() as sess:
        pixels = tf.placeholder(tf.uint8, [None, None, 3])
        encoded = tf.image.encode_jpeg(pixels, quality=100)
        for number in range(5):
            height, width = 8 + 2 * number, 16
            image = np.zeros((height, width, 3), np.uint8)
            image[:, :, number % 3] = 40 * number + 20
            with open(os.path.join(folder, "img%d.jpg" % number), "wb") as f:
                f.write(sess.run(encoded, {pixels: image}))
    with open(os.path.join(folder, "readme.txt"), "w") as f:
        f.write("not an image")


write_images()
filename_queue = tf.train.string_input_producer(
    tf.train.match_filenames_once(os.path.join(folder, "*.jpg")), num_epochs=1, shuffle=False
)
image_reader = tf.WholeFileReader()
name, image_file = image_reader.read(filename_queue)
image = tf.image.decode_jpeg(image_file, channels=3)
size = tf.shape(image)
image = tf.image.convert_image_dtype(image, dtype=tf.float32)
image = tf.image.resize_images(image, [4, 4])
image = tf.subtract(image, 0.5)
short_name = tf.string_split([name], "/").values[-1]
images, sizes, names = tf.train.batch([image, size, short_name], batch_size=5)

with tf.Session() as sess:
    sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    coord = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(coord=coord)
    x, s, n = sess.run([images, sizes, names])
    ended = False
    try:
        sess.run(images)
    except tf.errors.OutOfRangeError:
        ended = True
    coord.request_stop()
    coord.join(threads)
print(
    json.dumps(
        {
            "names": [each.decode() for each in n.tolist()],
            "sizes": s.tolist(),
            # decoders can differ by a few gray levels
            "tenths": [[int(round(10 * (v + 0.5))) for v in each.mean(axis=(0, 1))] for each in x],
            "shape": images.get_shape().as_list(),
            "ended": ended,
        }
    )
)
