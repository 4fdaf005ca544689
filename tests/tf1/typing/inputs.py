"""Typical calls of every producer, batching function and placeholder, checked by mypy and never run."""

from pathlib import Path
from typing import assert_type

import numpy as np

import mpqueue
from mpqueue import train


def produce() -> list[mpqueue.QueueBase]:
    rows = mpqueue.Source(lambda: np.zeros((3, 2)), np.float64, [(None, 2)])
    names = train.match_filenames_once(Path("folder") / "*.txt")
    mpqueue.local_variables_initializer()()
    return [
        train.input_producer([[1, 2], [3, 4]], [2], 3, True, 7, capacity=10, shared_name=None, summary_name="size"),
        train.input_producer(rows, num_epochs=None, name="rows", cancel_op=print),
        train.range_input_producer(10, 2, shuffle=False, seed=1, capacity=5, shared_name="shared", name="range"),
        train.string_input_producer(["a", b"b", Path("c")], 1, False, capacity=2, cancel_op=print),
        train.string_input_producer(names),
    ]


def batches() -> None:
    slices: mpqueue.Source = train.slice_input_producer([np.zeros((5, 2)), list("abcde")], 1, seed=3)
    limited = train.limit_epochs([1, 2], 3)
    for images, labels in train.batch(slices, 2, num_threads=1, capacity=10, allow_smaller_final_batch=True):
        images += len(labels)
    padded = train.batch(
        {"x": limited}, 2, enqueue_many=False, shapes=[[None]], dynamic_pad=True, name="padded", workers="process"
    )
    joined = train.batch_join([[limited, 1.5], [limited, 2.5]], 4, capacity=10, shared_name="joined", workers="process")
    shuffled = train.shuffle_batch([limited], 4, 100, 50, num_threads=2, seed=1, enqueue_many=True, workers="thread")
    several = train.shuffle_batch_join([(limited,), (limited,)], 4, 100, 50, seed=1, workers="process")
    for batch in (padded, joined, shuffled, several):
        batch(timeout=1.5)
        assert_type(batch.queue, mpqueue.QueueBase)
        assert_type(batch.queue_runner, train.QueueRunner)
        batch.map(np.sum, dtypes=np.float32, shapes=())
        batch.close()


def feed() -> None:
    x = mpqueue.placeholder(np.float32, [None, 3], "x")
    y = mpqueue.placeholder_with_default([1, 2], shape=[2], name="y")
    s = mpqueue.sparse_placeholder("string", [3, 3])
    mpqueue.run(
        [x, {"y": y}, s], feed_dict={x: np.zeros((2, 3)), s: mpqueue.SparseTensorValue([[0, 0]], ["a"], [3, 3])}
    )
    assert_type(x.check([[1, 2, 3]]), np.ndarray)
    assert_type(s.check(([[0, 0]], ["a"], [3, 3])), mpqueue.SparseTensorValue)
