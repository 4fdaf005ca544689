"""Three readers of one file queue, joined into batches of tokens, in order and shuffled."""

# ruff: noqa: B905, UP031 - as scripts of those years are written

import collections
import json
import os

import tensorflow as tf

folder = os.environ["WORK"]
files = []
for number in range(5):
    files.append(os.path.join(folder, "part-%05d.txt" % number))
    with open(files[-1], "w") as f:
        f.writelines("%d %d\n" % (number, line) for line in range(4 + number))


def read_numbers(filename_queue):
    reader = tf.TextLineReader()
    _, line = reader.read(filename_queue)
    tokens = tf.string_split([line]).values
    pair = tf.string_to_number(tokens, out_type=tf.int32)
    pair.set_shape([2])
    return {"pair": pair, "text": line}


def input_pipeline(join, **options):
    filename_queue = tf.train.string_input_producer(files, num_epochs=2)
    example_list = [read_numbers(filename_queue) for _ in range(3)]
    return join(example_list, batch_size=7, allow_smaller_final_batch=True, **options)


result = {}
for label, join, options in (
    ("joined", tf.train.batch_join, {}),
    ("shuffled", tf.train.shuffle_batch_join, {"capacity": 40, "min_after_dequeue": 10}),
):
    tf.reset_default_graph()
    batch = input_pipeline(join, **options)
    count, sizes = collections.Counter(), []
    with tf.Session() as sess:
        sess.run(tf.local_variables_initializer())
        coord = tf.train.Coordinator()
        threads = tf.train.start_queue_runners(sess, coord)
        with coord.stop_on_exception():
            while not coord.should_stop():
                found = sess.run(batch)
                sizes.append(len(found["text"]))
                count.update("%s=%s" % (t.decode(), p.tolist()) for t, p in zip(found["text"], found["pair"]))
        coord.join(threads)
    result[label] = {
        "count": sorted(count.items()),
        "sizes": sizes,
        "threads": len(threads),
        "static": [batch[key].get_shape().as_list() for key in sorted(batch)],
    }
print(json.dumps(result))
