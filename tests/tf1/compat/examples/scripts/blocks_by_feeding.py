# A queue filled in blocks by feeding a placeholder, then closed and emptied in batches.
import numpy as np
from outcome import emit
from tfmodule import tf


def main():
    block = tf.placeholder(tf.float32, shape=[None, 2])
    marks = tf.placeholder(tf.int32, shape=[None])
    queue = tf.FIFOQueue(capacity=16, dtypes=[tf.float32, tf.int32], shapes=[[2], []])
    enqueue = queue.enqueue_many([block, marks])
    points, numbers = queue.dequeue_many(5)
    middle = tf.reduce_mean(points, axis=0)
    close, size = queue.close(), queue.size()

    sizes, batches = [], []
    with tf.Session() as sess:
        first = 0
        for count in (4, 0, 1, 7):
            numbers_fed = np.arange(first, first + count)
            sess.run(
                enqueue, feed_dict={block: np.stack([numbers_fed * 0.5, 10.0 - numbers_fed], 1), marks: numbers_fed}
            )
            first += count
            sizes.append(int(sess.run(size)))
        sess.run(close)
        try:
            while True:
                batches.append(sess.run({"points": points, "numbers": numbers, "middle": middle}))
        except tf.errors.OutOfRangeError as e:
            end = type(e).__name__
        left = sess.run([size, queue.is_closed()])
    emit(
        sizes=sizes,
        batches=batches,
        end=end,
        left=left,
        static=[points.get_shape().as_list(), numbers.get_shape().as_list()],
    )


if __name__ == "__main__":
    main()
