"""Sequences of different lengths, padded in a PaddingFIFOQueue, with their lengths; once by hand, once by batch."""

# ruff: noqa: B905, UP031 - as scripts of those years are written

import json
import os

import numpy as np
import tensorflow as tf

path = os.path.join(os.environ["WORK"], "sequences.tfrecord")


def make_example(tokens, labels):
    ex = tf.train.SequenceExample()
    ex.context.feature["length"].int64_list.value.append(len(tokens))
    fl_tokens = ex.feature_lists.feature_list["tokens"]
    fl_labels = ex.feature_lists.feature_list["labels"]
    for token, label in zip(tokens, labels):
        fl_tokens.feature.add().int64_list.value.append(token)
        fl_labels.feature.add().float_list.value.extend([label, -label])
    return ex


with tf.python_io.TFRecordWriter(path) as writer:
    for n in (3, 1, 4, 2, 0, 5):
        tokens = list(range(10 * n, 10 * n + n))
        writer.write(make_example(tokens, [t / 4.0 for t in tokens]).SerializeToString())

context, sequences = tf.parse_single_sequence_example(
    serialized=tf.TFRecordReader().read(tf.train.string_input_producer([path], num_epochs=1))[1],
    context_features={"length": tf.FixedLenFeature([], dtype=tf.int64)},
    sequence_features={
        "tokens": tf.FixedLenSequenceFeature([], dtype=tf.int64),
        "labels": tf.FixedLenSequenceFeature([2], dtype=tf.float32),
    },
)
batched = tf.train.batch([context["length"], sequences["tokens"], sequences["labels"]], batch_size=2, dynamic_pad=True)

queue = tf.PaddingFIFOQueue(10, [tf.int32, tf.string], shapes=[[None], [None, 2]])
ints = tf.placeholder(tf.int32, [None])
texts = tf.placeholder(tf.string, [None, 2])
put = queue.enqueue([ints, texts])
close = queue.close()
some = queue.dequeue_up_to(3)

out = {"static": [each.get_shape().as_list() for each in batched + some], "batches": [], "by_hand": []}
with tf.Session() as sess:
    sess.run(tf.local_variables_initializer())
    coord = tf.train.Coordinator()
    threads = tf.train.start_queue_runners(sess=sess, coord=coord)
    try:
        while not coord.should_stop():
            lengths, tokens, labels = sess.run(batched)
            out["batches"].append([lengths.tolist(), tokens.tolist(), labels.tolist()])
    except tf.errors.OutOfRangeError:
        coord.request_stop()
    coord.join(threads)
    for n in (2, 0, 1, 3):
        sess.run(put, {ints: np.arange(n), texts: np.array([["a%d" % i, "b"] for i in range(n)], object).reshape(n, 2)})
    sess.run(close)
    for _ in range(2):
        numbers, words = sess.run(some)
        out["by_hand"].append(
            [numbers.tolist(), [[w.decode() for w in row] for line in words.tolist() for row in line]]
        )
print(json.dumps(out))
