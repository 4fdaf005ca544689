"""Streams: samples that are mapped, filtered, shuffled in a buffer, and batched.

The functions are trivial, so the cost of the stages is measured. Each peer uses its best method: `tf.data` uses graph
operations on many samples at once.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.consuming import rate
from parts.benchmark.in_flight import ENDLESS
from parts.benchmark.peers.torch import batches_of
from parts.benchmark.workload import OF_TENSORFLOW, Figures, Library, Setting, Workload

BUFFER, BATCH, AHEAD, SEED = 1000, 256, 32, 1
MANY = 4_000_000  # minutes of the slowest peer


def more(number: int) -> int:
    """Add one, as a map."""
    return number + 1


def is_kept(number: int) -> bool:
    """Drop one in seven of any slice of the numbers, as a filter."""
    return number % 7 != 0


@contextlib.contextmanager
def ours(num_workers: int) -> Iterator[Iterator[Any]]:
    """Use a `Dataset` in a `Loader` with default options."""
    numbers = mpqueue.Dataset.range(ENDLESS).map(more).filter(is_kept).shuffle(buffer=BUFFER).batch(BATCH)
    with mpqueue.Loader(numbers, workers=num_workers, max_queue_size=AHEAD, seed=SEED) as loader:
        yield iter(loader)


def grains(num_workers: int) -> AbstractContextManager[Iterator[Any]]:
    """Use Grain's `IterDataset` with stages in worker processes."""
    import grain
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # Grain reads flags, which programs without absl's app must mark as parsed
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    kept = grain.MapDataset.range(ENDLESS).to_iter_dataset(options).map(more).filter(is_kept)
    shuffled = grain.experimental.WindowShuffleIterDataset(kept, window_size=BUFFER, seed=SEED)
    workers = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=AHEAD // num_workers)
    batches: Any = iter(shuffled.batch(BATCH).mp_prefetch(workers))
    return contextlib.closing(batches)


@contextlib.contextmanager
def tensorflows(num_workers: int) -> Iterator[Iterator[Any]]:
    """Use `tf.data` with graph operations on many samples at once, which is 40 times as fast as one by one."""
    import tensorflow as tf

    many = tf.data.Dataset.range(ENDLESS).batch(4 * BATCH).map(more, num_parallel_calls=num_workers)
    kept = many.map(lambda numbers: tf.boolean_mask(numbers, numbers % 7 != 0)).unbatch()
    yield kept.shuffle(BUFFER, SEED).batch(BATCH).prefetch(AHEAD).as_numpy_iterator()


def datasets_in_torch(num_workers: int) -> AbstractContextManager[Iterator[Any]]:
    """Use Hugging Face's streaming datasets in torch's loader. Processing many samples at once was not faster."""
    import datasets

    columns = {"number": np.arange(MANY)}
    numbers = datasets.Dataset.from_dict(columns).to_iterable_dataset(num_shards=16)
    mapped = numbers.map(lambda sample: {"number": more(sample["number"])})
    kept = mapped.filter(lambda sample: is_kept(sample["number"]))
    shuffled = kept.shuffle(SEED, buffer_size=BUFFER)
    return batches_of(shuffled, BATCH, num_workers=num_workers, prefetch_factor=AHEAD // num_workers)


def rate_of(name: str, setting: Setting) -> Figures:
    """Return the rate of a feed."""
    with READERS[name].load()(setting.num_workers) as batches:
        return rate(batches, AHEAD, setting.seconds)


READERS = {
    "mpqueue": Library(ours),
    "grain": Library(grains, "grain"),
    "tf.data": Library(tensorflows, "tensorflow", environ=OF_TENSORFLOW),
    "datasets": Library(datasets_in_torch, "datasets"),
}
WORKLOADS = {
    "streams": Workload(
        "256 ints after a trivial map, a filter and a shuffle buffer of 1,000",
        "samples/s",
        BATCH,
        readers=READERS,
        measure=rate_of,
    )
}
