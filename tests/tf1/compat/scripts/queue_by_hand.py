"""A RandomShuffleQueue with its own QueueRunner: two threads compute examples, the main thread takes batches."""

# ruff: noqa: B007 - as scripts of those years are written

import itertools
import json

import numpy as np
import tensorflow as tf

counter = itertools.count(1)
number = tf.py_func(lambda: np.int32(next(counter)), [], tf.int32)
number.set_shape([])
example = tf.stack([number, number * number])
queue = tf.RandomShuffleQueue(
    capacity=40, min_after_dequeue=10, dtypes=[tf.int32, tf.float32], shapes=[[2], []], seed=7
)
enqueue_op = queue.enqueue([example, tf.cast(number, tf.float32) / 2.0])
inputs, halves = queue.dequeue_many(6)
total = tf.reduce_sum(tf.to_float(inputs[:, 0]) - 2.0 * halves)

qr = tf.train.QueueRunner(queue, [enqueue_op] * 2)
batches = []
sess = tf.Session()
coord = tf.train.Coordinator()
enqueue_threads = qr.create_threads(sess, coord=coord, start=True)
try:
    for step in range(20):
        if coord.should_stop():
            break
        x, t = sess.run([inputs, total])
        batches.append(x)
        assert t == 0
except Exception as e:
    coord.request_stop(e)
finally:
    coord.request_stop()
    coord.join(enqueue_threads)
left = sess.run(queue.size())
closed = sess.run(queue.is_closed())
rest = [sess.run(queue.dequeue())[0][0] for _ in range(left)]
try:
    sess.run(queue.dequeue())
    ended = False
except tf.errors.OutOfRangeError:
    ended = True
value = next(counter) - 1
sess.close()

seen = np.concatenate(batches)
numbers = seen[:, 0].tolist()
everything = sorted(numbers + [int(each) for each in rest])
print(
    json.dumps(
        {
            "batches": [list(x.shape) for x in batches],
            "squares": bool((seen[:, 1] == seen[:, 0] ** 2).all()),
            "unique": len(set(everything)) == len(everything),
            "shuffled": numbers != sorted(numbers),
            "at_most_in_flight": bool(0 <= value - len(everything) <= 2),
            "closed": bool(closed),
            "ended": ended,
            "threads": [thread.is_alive() for thread in enqueue_threads],
        }
    )
)
