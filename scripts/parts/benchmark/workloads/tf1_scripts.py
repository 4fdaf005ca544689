"""Five input pipelines as TensorFlow 1 scripts, each run by TensorFlow and by mpqueue.

``python tf1_scripts.py JSON`` prints one JSON document with the examples per second. Only the module ``tf`` differs.
The interpreter may not have mpqueue.
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


SCRIPTS: dict[str, Callable[[Any, Any], list[Any]]] = {
    each.__name__: each for each in (csv, tabular, image, jpeg, fixed)
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
    example = SCRIPTS[script](tf, names)
    sizes = {"capacity": 30 * BATCH, "min_after_dequeue": 10 * BATCH}
    batch = tf.train.shuffle_batch(example, BATCH, num_threads=workers, **sizes)
    config = tf.ConfigProto(intra_op_parallelism_threads=workers, inter_op_parallelism_threads=workers)
    with tf.Session(config=config) as session:
        coord = tf.train.Coordinator()
        running = tf.train.start_queue_runners(session, coord)
        step = session.make_callable(batch)
        _count(step, WARM_UP_S)
        rate = _count(step, seconds)
        coord.request_stop()
        coord.join(running, stop_grace_period_secs=10)
        return rate


def _count(step: Callable[[], Any], seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        step()
        count += BATCH
    return count / passed


if __name__ == "__main__":
    main()
