"""Records of a label byte and an image, depth first, as in CIFAR-10; distorted and shuffled."""

# ruff: noqa: B905, UP031 - as scripts of those years are written

import json
import os

import numpy as np
import tensorflow as tf

folder = os.environ["WORK"]
HEIGHT, WIDTH, DEPTH = 8, 8, 3
RECORD_BYTES = 1 + HEIGHT * WIDTH * DEPTH


class Record:
    pass


def read_picture(filename_queue):
    result = Record()
    reader = tf.FixedLengthRecordReader(record_bytes=RECORD_BYTES)
    result.key, value = reader.read(filename_queue)
    record_bytes = tf.decode_raw(value, tf.uint8)
    result.label = tf.cast(tf.strided_slice(record_bytes, [0], [1]), tf.int32)
    depth_major = tf.reshape(tf.strided_slice(record_bytes, [1], [RECORD_BYTES]), [DEPTH, HEIGHT, WIDTH])
    result.uint8image = tf.transpose(depth_major, [1, 2, 0])
    return result


def write_pictures():
    rng = np.random.RandomState(1)
    for number in range(2):
        with open(os.path.join(folder, "data_batch_%d.bin" % number), "wb") as f:
            for label in range(6):
                f.write(bytes(bytearray([label + 6 * number])))
                f.write(rng.randint(0, 256, RECORD_BYTES - 1).astype(np.uint8).tobytes())


write_pictures()
filenames = [os.path.join(folder, "data_batch_%d.bin" % i) for i in range(2)]
for f in filenames:
    if not tf.gfile.Exists(f):
        raise ValueError("Failed to find file: " + f)
filename_queue = tf.train.string_input_producer(filenames)
read_input = read_picture(filename_queue)
reshaped_image = tf.cast(read_input.uint8image, tf.float32)
plain = tf.image.resize_image_with_crop_or_pad(reshaped_image, 6, 6)
distorted = tf.random_crop(reshaped_image, [6, 6, 3])
distorted = tf.image.random_flip_left_right(distorted)
distorted = tf.image.random_brightness(distorted, max_delta=63)
distorted = tf.image.random_contrast(distorted, lower=0.2, upper=1.8)
whitened = tf.image.per_image_standardization(distorted)
whitened.set_shape([6, 6, 3])
read_input.label.set_shape([1])

min_queue_examples = 10
plains, images, label_batch = tf.train.shuffle_batch(
    [plain, whitened, read_input.label],
    batch_size=4,
    num_threads=3,
    capacity=min_queue_examples + 3 * 4,
    min_after_dequeue=min_queue_examples,
)
labels = tf.reshape(label_batch, [4])

totals = {}
with tf.Session(config=tf.ConfigProto(log_device_placement=False)) as sess:
    coord = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(sess=sess, coord=coord)
    whitened_well = True
    for _ in range(30):
        p, x, y = sess.run([plains, images, labels])
        for total, label in zip(p.sum(axis=(1, 2, 3)).tolist(), y.tolist()):
            totals.setdefault(label, set()).add(total)
        whitened_well &= bool(np.abs(x.mean(axis=(1, 2, 3))).max() < 1e-4)
    coord.request_stop()
    coord.join(threads)
print(
    json.dumps(
        {
            "labels": sorted(totals),
            "totals": {str(label): sorted(found) for label, found in totals.items()},
            "whitened": whitened_well,
            "shapes": [images.get_shape().as_list(), labels.get_shape().as_list(), list(x.shape)],
        },
        sort_keys=True,
    )
)
