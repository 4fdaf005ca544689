"""Examples with a variable number of values as sparse tensors, parsed before and after batching."""

import json
import os

import tensorflow as tf

path = os.path.join(os.environ["WORK"], "documents.tfrecord")
DOCUMENTS = [[3, 1, 2], [], [7], [5, 5], [9, 8, 7, 6]]


def write():
    with tf.python_io.TFRecordWriter(path) as writer:
        for number, words in enumerate(DOCUMENTS):
            feature = {
                "words": tf.train.Feature(int64_list=tf.train.Int64List(value=words)),
                "tags": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"t%d" % w for w in words])),
                "number": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


SPEC = {
    "words": tf.VarLenFeature(tf.int64),
    "tags": tf.VarLenFeature(tf.string),
    "number": tf.FixedLenFeature([], tf.int64),
}


def plain(value):
    return {
        "indices": value.indices.tolist(),
        "values": [v.decode() if isinstance(v, bytes) else int(v) for v in value.values.tolist()],
        "shape": value.dense_shape.tolist(),
    }


def records():
    queue = tf.train.string_input_producer([path], num_epochs=1)
    return tf.TFRecordReader().read(queue).value


def single_then_batch():
    parsed = tf.parse_single_example(records(), SPEC)
    return tf.train.batch(parsed, batch_size=2, allow_smaller_final_batch=True)


def batch_then_parse():
    return tf.parse_example(tf.train.batch([records()], batch_size=2, allow_smaller_final_batch=True), SPEC)


def main():
    write()
    out = {"iterated": sum(1 for _ in tf.python_io.tf_record_iterator(path))}
    for build in (single_then_batch, batch_then_parse):
        with tf.Graph().as_default():
            parsed = build()
            dense = tf.sparse_tensor_to_dense(parsed["words"], default_value=-1)
            sums = tf.sparse_reduce_sum(parsed["words"], 1)
            batches = []
            with tf.train.MonitoredSession() as sess:
                while not sess.should_stop():
                    found, table, added = sess.run([parsed, dense, sums])
                    batches.append(
                        {
                            "words": plain(found["words"]),
                            "tags": plain(found["tags"]),
                            "number": found["number"].tolist(),
                            "dense": table.tolist(),
                            "sums": added.tolist(),
                        }
                    )
            out[build.__name__] = batches
    print(json.dumps(out))


main()
