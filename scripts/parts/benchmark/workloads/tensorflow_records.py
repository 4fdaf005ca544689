"""Read the same files with TensorFlow's queues (`tf.compat.v1`) and with `tf.data`, in a separate process.

``python tensorflow_records.py JSON`` prints the records per second. mpqueue is not imported,
because the interpreter may not have it. Batches remain tensors; only their numbers of records are fetched.
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow.compat.v1 as tf

WARM_UP_S = 0.5


def main() -> None:
    tf.disable_v2_behavior()
    tf.logging.set_verbosity(tf.logging.ERROR)
    options = json.loads(sys.argv[1])
    name = options["name"].removesuffix(" on one core")
    threads = options["threads"]
    if options["name"] != name:
        threads = 1
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print({"TensorFlow queues": _queues, "tf.data": _data}[name](options, threads))


def _queues(options: dict, threads: int) -> float:
    with tf.Graph().as_default():
        names = tf.train.string_input_producer(options["files"], shuffle=False)
        made = [_decoded(options, _reader(options).read_up_to(names, options["batch"])[1]) for _ in range(threads)]
        queue = tf.FIFOQueue(4 * threads, [each.dtype for each in made[0]])
        closed = (tf.errors.OutOfRangeError, tf.errors.CancelledError)
        ops = [queue.enqueue(each) for each in made]
        tf.train.add_queue_runner(tf.train.QueueRunner(queue, ops, queue_closed_exception_types=closed))
        taken = queue.dequeue()
        with tf.Session(config=_config(threads)) as session:
            coord = tf.train.Coordinator()
            running = tf.train.start_queue_runners(session, coord)
            rate = _count(session, taken if isinstance(taken, list) else [taken], options["seconds"])
            coord.request_stop()
            session.run(queue.close(cancel_pending_enqueues=True))
            coord.join(running, stop_grace_period_secs=10)
            return rate


def _data(options: dict, threads: int) -> float:
    with tf.Graph().as_default():
        calls = None if threads == 1 else threads
        names = tf.data.Dataset.from_tensor_slices(options["files"]).repeat()
        records = names.interleave(_dataset(options), threads, options["batch"], num_parallel_calls=calls)
        batches = records.batch(options["batch"]).map(lambda value: _decoded(options, value), num_parallel_calls=calls)
        taken = tf.data.make_one_shot_iterator(batches.prefetch(2 * threads)).get_next()
        with tf.Session(config=_config(threads)) as session:
            return _count(session, list(taken), options["seconds"])


def _config(threads: int) -> object:
    return tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)


def _reader(options: dict) -> object:
    if options["kind"] == "raw":
        return tf.FixedLengthRecordReader(options["record_bytes"])
    return tf.TextLineReader() if options["kind"] in ("csv", "lines") else tf.TFRecordReader()


def _dataset(options: dict) -> object:
    if options["kind"] == "raw":
        return lambda name: tf.data.FixedLengthRecordDataset(name, options["record_bytes"])
    return tf.data.TextLineDataset if options["kind"] in ("csv", "lines") else tf.data.TFRecordDataset


def _decoded(options: dict, value: object) -> tuple:
    dtypes = {key: tf.as_dtype(dtype) for key, dtype in options["features"].items()}
    if options["kind"] == "example":
        parsed = tf.parse_example(value, {key: tf.FixedLenFeature([], dtype) for key, dtype in dtypes.items()})
        return tuple(parsed[key] for key in dtypes)
    if options["kind"] == "csv":
        return tuple(tf.decode_csv(value, [np.array([], each.as_numpy_dtype) for each in dtypes.values()]))
    return (tf.decode_raw(value, tf.uint8),) if options["kind"] == "raw" else (tf.identity(value),)


def _count(session: object, taken: list, seconds: float) -> float:
    step = session.make_callable([tf.shape(taken[0])[0], tf.group(*taken)])

    def counted(duration: float) -> float:
        began, count = time.perf_counter(), 0
        while True:
            passed = time.perf_counter() - began
            if passed >= duration:
                return count / passed
            count += int(step()[0])

    counted(WARM_UP_S)
    return counted(seconds)


main()
