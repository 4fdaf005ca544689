"""`tf.data`: a generator of indices, and a parallel map that calls the source in threads of this process."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from parts.benchmark.in_flight import Endless
from parts.benchmark.workload import OF_TENSORFLOW, Peer


@contextmanager
def tf_data(source: Any, num_workers: int, ahead: int) -> Iterator[Iterator[Any]]:
    """Use a parallel map after ``from_generator``, which alone would call the source in only one thread."""
    import tensorflow as tf

    endless = Endless(source)
    dtypes = [tf.convert_to_tensor(leaf).dtype for leaf in tf.nest.flatten(_leaves(endless[0]))]
    structure = _leaves(endless[0])

    def made(index: Any) -> Any:
        flat = tf.numpy_function(lambda at: tf.nest.flatten(_leaves(endless[int(at)])), [index], dtypes)
        return tf.nest.pack_sequence_as(structure, flat)

    indices = tf.data.Dataset.from_generator(itertools.count, output_signature=tf.TensorSpec((), tf.int64))
    batches = indices.map(made, num_parallel_calls=num_workers, deterministic=True).prefetch(ahead)
    yield batches.as_numpy_iterator()


def _leaves(batch: Any) -> Any:
    """Return the batch with each list of strings as one array, so that it becomes one tensor."""
    import tensorflow as tf

    if isinstance(batch, dict):
        return {key: _leaves(value) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_leaves(value) for value in batch)
    return tf.constant(batch).numpy() if isinstance(batch, list) else batch


PEERS = {"tf.data": Peer(tf_data, "tensorflow", "from_generator, map in parallel, prefetch", environ=OF_TENSORFLOW)}
