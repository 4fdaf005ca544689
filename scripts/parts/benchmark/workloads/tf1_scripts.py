"""Input pipelines as TensorFlow 1 scripts, each run by TensorFlow and by mpqueue.

``python tf1_scripts.py JSON`` prints the examples per second. Only the module ``tf`` differs. The interpreter may not
have mpqueue. Batches remain tensors in TensorFlow; only their numbers of examples are fetched.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

WARM_UP_S = 1.0
BATCH = 64
SIDE = 32  # of an image in a record
NUM_COLUMNS = 10  # columns of numbers, in addition to a label
RECORD_BYTES = 1 + 3 * SIDE * SIDE
MANY, FEW, RAW_BYTES = 1000, 32, 28 * 28  # records read at once, large records read at once, and bytes of a short one
TABLE = {
    f"feature_{number:02}": "float32" if number < 12 else "int64" if number < 18 else "string" for number in range(20)
}
IMAGE = {"image/class/label": "int64", "image/encoded": "string", "image/height": "int64", "image/width": "int64"}


def csv(tf: Any, names: Any) -> list[Any]:
    """Lines of text: ten numbers and a label."""
    _, line = tf.TextLineReader().read(names)
    columns = tf.decode_csv(line, [[0.0]] * NUM_COLUMNS + [[0]])
    return [tf.stack(columns[:NUM_COLUMNS]), columns[NUM_COLUMNS]]


def tabular(tf: Any, names: Any) -> list[Any]:
    """Records of twelve numbers, an index and a label."""
    _, record = tf.TFRecordReader().read(names)
    features = {f"x{n}": tf.FixedLenFeature([], tf.float32) for n in range(12)}
    features |= {"index": tf.FixedLenFeature([], tf.int64), "label": tf.FixedLenFeature([], tf.int64)}
    parsed = tf.parse_single_example(record, features)
    numbers = tf.stack([parsed[f"x{n}"] for n in range(12)])
    return [(numbers - 0.5) * 2.0, tf.one_hot(parsed["index"], 8), parsed["label"]]


def image(tf: Any, names: Any) -> list[Any]:
    """Records of an image of 3 KB and a label."""
    _, record = tf.TFRecordReader().read(names)
    features = {"image": tf.FixedLenFeature([], tf.string), "label": tf.FixedLenFeature([], tf.int64)}
    parsed = tf.parse_single_example(record, features)
    pixels = tf.reshape(tf.decode_raw(parsed["image"], tf.uint8), [SIDE, SIDE, 3])
    return [tf.cast(pixels, tf.float32) / 255.0, parsed["label"]]


def jpeg(tf: Any, names: Any) -> list[Any]:
    """Files of one JPEG each."""
    _, content = tf.WholeFileReader().read(names)
    pixels = tf.image.decode_jpeg(content, channels=3)
    pixels = tf.image.resize_images(pixels, [64, 64])
    pixels.set_shape([64, 64, 3])
    return [pixels / 255.0]


def fixed(tf: Any, names: Any) -> list[Any]:
    """Records of fixed length: a label and the planes of an image, as in CIFAR-10."""
    _, record = tf.FixedLengthRecordReader(RECORD_BYTES).read(names)
    numbers = tf.decode_raw(record, tf.uint8)
    label = tf.cast(numbers[0], tf.int32)
    planes = tf.reshape(tf.strided_slice(numbers, [1], [RECORD_BYTES]), [3, SIDE, SIDE])
    return [tf.cast(tf.transpose(planes, [1, 2, 0]), tf.float32) / 255.0, label]


def _parsed(tf: Any, names: Any, count: int, dtypes: dict[str, str]) -> list[Any]:
    _, records = tf.TFRecordReader().read_up_to(names, count)
    features = {name: tf.FixedLenFeature([], tf.as_dtype(dtype)) for name, dtype in dtypes.items()}
    return [*tf.parse_example(records, features).values()]


def image_records(tf: Any, names: Any) -> list[Any]:
    """Large records with images that remain encoded."""
    return _parsed(tf, names, FEW, IMAGE)


def table_records(tf: Any, names: Any) -> list[Any]:
    """Records with the columns of a table."""
    return _parsed(tf, names, MANY, TABLE)


def table_lines(tf: Any, names: Any) -> list[Any]:
    """Lines with the same columns."""
    return tf.decode_csv(*lines(tf, names), [tf.constant([], tf.as_dtype(dtype)) for dtype in TABLE.values()])


def lines(tf: Any, names: Any) -> list[Any]:
    """Lines that are only read."""
    return [tf.TextLineReader().read_up_to(names, MANY)[1]]


def raw(tf: Any, names: Any) -> list[Any]:
    """Short records of fixed length."""
    return [tf.decode_raw(tf.FixedLengthRecordReader(RAW_BYTES).read_up_to(names, MANY)[1], tf.uint8)]


def large_records(tf: Any, names: Any) -> list[Any]:
    """Large records that are only read."""
    return [tf.TFRecordReader().read_up_to(names, FEW)[1]]


Script = Callable[[Any, Any], list[Any]]
# Scripts of single examples, which are shuffled, and scripts of batches.
EXAMPLES: dict[str, Script] = {each.__name__: each for each in (csv, tabular, image, jpeg, fixed)}
BATCHES: dict[str, Script] = {
    each.__name__: each for each in (image_records, table_records, table_lines, lines, raw, large_records)
}


def main() -> None:
    """Run the options of the command line."""
    options = json.loads(sys.argv[1])
    tf = importlib.import_module(options["module"])
    if hasattr(tf, "disable_v2_behavior"):
        tf.disable_v2_behavior()
        tf.logging.set_verbosity(tf.logging.ERROR)
    print(json.dumps(_rate(tf, **{key: options[key] for key in ("script", "files", "workers", "seconds")})))


def _rate(tf: Any, script: str, files: list[str], workers: int, seconds: float) -> float:
    names = tf.train.string_input_producer(files)
    if script in EXAMPLES:
        sizes = {"capacity": 30 * BATCH, "min_after_dequeue": 10 * BATCH}
        batch = tf.train.shuffle_batch(EXAMPLES[script](tf, names), BATCH, num_threads=workers, **sizes)
    else:
        batch = _queued(tf, BATCHES[script](tf, names), workers)
    parts = batch if isinstance(batch, list) else [batch]
    config = tf.ConfigProto(intra_op_parallelism_threads=workers, inter_op_parallelism_threads=workers)
    with tf.Session(config=config) as session:
        coord = tf.train.Coordinator()
        running = tf.train.start_queue_runners(session, coord)
        step = session.make_callable([tf.shape(parts[0])[0], tf.group(*parts)])
        _count(step, WARM_UP_S)
        rate = _count(step, seconds)
        coord.request_stop()
        coord.join(running, stop_grace_period_secs=10)
        return rate


def _queued(tf: Any, batch: list[Any], workers: int) -> Any:
    queue = tf.FIFOQueue(4 * workers, [part.dtype for part in batch])
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [queue.enqueue(batch)] * workers))
    return queue.dequeue()


def _count(step: Callable[[], Any], seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        count += int(step()[0])
    return count / passed


if __name__ == "__main__":
    main()
