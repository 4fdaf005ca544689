"""Single elements of a source that are shuffled into batches: `shuffle_batch`, compared with its peers.

Two threads of this process call the source, as in TensorFlow 1; `tf.data` calls it in one thread.
"""

import contextlib
import queue
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

import mpqueue
from mpqueue import train

NUM_THREADS, BATCH, CAPACITY, AT_LEAST = 2, 32, 2000, 500
SHAPE, DTYPE = (16,), "float32"
_ELEMENT = np.ones(SHAPE, DTYPE)


def element() -> np.ndarray:
    """Return one element of the source."""
    return _ELEMENT.copy()


def _endless() -> Iterator[np.ndarray]:
    while True:
        yield element()


@contextmanager
def ours() -> Iterator[Callable[[], Any]]:
    """Use `mpqueue.train.shuffle_batch`."""
    source = mpqueue.train.Source(element, DTYPE, SHAPE)
    op = train.shuffle_batch([source], BATCH, CAPACITY, AT_LEAST, NUM_THREADS)
    batches = iter(op)
    try:
        yield lambda: next(batches)
    finally:
        op.close()


@contextmanager
def standard() -> Iterator[Callable[[], Any]]:
    """Use `queue.Queue`, and draw random elements from a list."""
    elements: Any = queue.Queue(CAPACITY - AT_LEAST)
    stopping = threading.Event()

    def produce() -> None:
        while not stopping.is_set():
            elements.put(element())

    threads = [threading.Thread(target=produce, daemon=True) for _ in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    held = [elements.get() for _ in range(AT_LEAST)]

    def drawn() -> Any:
        at = random.randrange(AT_LEAST)
        chosen, held[at] = held[at], elements.get()
        return chosen

    yield lambda: np.stack([drawn() for _ in range(BATCH)])
    stopping.set()
    with contextlib.suppress(queue.Empty):
        for _ in range(NUM_THREADS):
            elements.get_nowait()  # makes room for the last element of each thread
    for thread in threads:
        thread.join()


@contextmanager
def tensorflow() -> Iterator[Callable[[], Any]]:
    """Use ``from_generator``, ``shuffle``, ``batch`` and ``prefetch`` of `tf.data`."""
    import tensorflow as tf

    elements = tf.data.Dataset.from_generator(_endless, output_signature=tf.TensorSpec(SHAPE, DTYPE))
    batches = elements.shuffle(AT_LEAST).batch(BATCH).prefetch(CAPACITY // BATCH).as_numpy_iterator()
    yield lambda: next(batches)


SHUFFLERS: dict[str, Callable[[], AbstractContextManager[Callable[[], Any]]]] = {
    "mpqueue": ours,
    "queue.Queue": standard,
    "tf.data": tensorflow,
}
