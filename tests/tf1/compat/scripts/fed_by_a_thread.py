"""A Python thread feeds a queue through placeholders, while the main thread takes batches; closed at the end of data."""

import json
import threading

import numpy as np
import tensorflow as tf


class CustomRunner:
    """Feeds data that Python makes."""

    def __init__(self):
        self.dataX = tf.placeholder(dtype=tf.float32, shape=[None, 4])
        self.dataY = tf.placeholder(dtype=tf.int64, shape=[None])
        self.queue = tf.FIFOQueue(shapes=[[4], []], dtypes=[tf.float32, tf.int64], capacity=20)
        self.enqueue_op = self.queue.enqueue_many([self.dataX, self.dataY])
        self.close_op = self.queue.close()

    def get_inputs(self):
        images_batch, labels_batch = self.queue.dequeue_many(5)
        return images_batch, labels_batch

    def data_iterator(self):
        for start in range(0, 40, 8):
            labels = np.arange(start, start + 8)
            yield labels[:, None] * np.ones((1, 4)), labels

    def thread_main(self, sess, coord):
        with coord.stop_on_exception():
            for x, y in self.data_iterator():
                if coord.should_stop():
                    return
                sess.run(self.enqueue_op, feed_dict={self.dataX: x, self.dataY: y})
            sess.run(self.close_op)


custom_runner = CustomRunner()
images_batch, labels_batch = custom_runner.get_inputs()
keep_prob = tf.placeholder_with_default(1.0, shape=[])
weights = tf.get_variable("weights", [4, 1], initializer=tf.ones_initializer())
prediction = tf.squeeze(tf.matmul(images_batch, weights), axis=1) * keep_prob
loss = tf.reduce_mean(prediction - 4.0 * tf.cast(labels_batch, tf.float32))

sess = tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=8, gpu_options=tf.GPUOptions(allow_growth=True)))
sess.run(tf.initialize_all_variables())
coord = tf.train.Coordinator()
thread = threading.Thread(target=custom_runner.thread_main, args=(sess, coord))
thread.daemon = True
coord.register_thread(thread)
thread.start()

labels, losses, errors = [], [], []
while not coord.should_stop():
    try:
        y, value = sess.run([labels_batch, loss], feed_dict={keep_prob: 0.5 if len(labels) == 2 else 1.0})
        labels.append(y.tolist())
        losses.append(float(value))
    except tf.errors.OutOfRangeError as e:
        errors.append(type(e).__name__)
        coord.request_stop()
coord.join()
direct = sess.run(prediction, {images_batch: np.eye(5, 4), keep_prob: 3.0})
sess.close()
try:
    sess.run(loss)
except RuntimeError:
    errors.append("RuntimeError")
print(
    json.dumps(
        {"labels": labels, "losses": losses, "errors": errors, "direct": direct.tolist(), "alive": thread.is_alive()}
    )
)
