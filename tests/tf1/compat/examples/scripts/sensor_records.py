# ruff: noqa: B905, UP031 - as scripts of those years are written Examples written to a record file and read back one by
# one, shuffled, two epochs.
import os

import numpy as np
from outcome import emit
from tfmodule import tf

WORK = os.environ["WORK"]
COUNT = 20


def write_records(path):
    rng = np.random.RandomState(3)
    with tf.python_io.TFRecordWriter(path) as writer:
        for number in range(COUNT):
            signal = rng.randint(-8, 8, 4) / 4.0
            signal[0] = number
            example = tf.train.Example(
                features=tf.train.Features(
                    feature={
                        "signal": tf.train.Feature(float_list=tf.train.FloatList(value=signal)),
                        "sensor": tf.train.Feature(bytes_list=tf.train.BytesList(value=[("s%02d" % number).encode()])),
                        "class": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 3])),
                    }
                )
            )
            writer.write(example.SerializeToString())


def main():
    path = os.path.join(WORK, "sensors.tfrecord")
    write_records(path)
    queue = tf.train.string_input_producer([path], num_epochs=2)
    _, serialized = tf.TFRecordReader().read(queue)
    example = tf.parse_single_example(
        serialized,
        {
            "signal": tf.FixedLenFeature([4], tf.float32),
            "sensor": tf.FixedLenFeature([], tf.string),
            "class": tf.FixedLenFeature([], tf.int64),
        },
    )
    signals, sensors, classes = tf.train.shuffle_batch(
        [example["signal"], example["sensor"], tf.one_hot(example["class"], 3)],
        batch_size=6,
        capacity=30,
        min_after_dequeue=10,
        allow_smaller_final_batch=True,
    )
    shapes, rows, belong = [], [], True
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        coord = tf.train.Coordinator()
        threads = tf.train.start_queue_runners(sess=sess, coord=coord)
        try:
            while not coord.should_stop():
                x, name, y = sess.run([signals, sensors, classes])
                shapes.append([list(x.shape), list(name.shape), list(y.shape), x.dtype.name, y.dtype.name])
                for signal, sensor, label in zip(x, name, y):
                    number = int(sensor[1:])
                    belong &= bool(signal[0] == number and label.argmax() == number % 3 and label.sum() == 1)
                    rows.append(number)
        except tf.errors.OutOfRangeError:
            pass
        finally:
            coord.request_stop()
            coord.join(threads)
    emit(shapes=shapes, numbers=sorted(rows), belong=belong, shuffled=rows != sorted(rows))


if __name__ == "__main__":
    main()
