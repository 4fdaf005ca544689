"""Grain: an `IterDataset` with worker processes, and its `ElasticIterator`."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from parts.gauntlet.pipeline import ROW, WEIGHTS, Decode, Running, Setup, keep, keep_sequence, numbers_in, of_rank


@contextlib.contextmanager
def feed(setup: Setup, states: list[Any] | None) -> Iterator[Running]:
    """Use ``get_state`` and ``set_state`` of the iterator. A rank takes a strided slice of the samples."""
    flags.FLAGS.mark_as_parsed()
    samples = _mixed(setup)[setup.rank :: setup.world].to_iter_dataset(grain.ReadOptions(num_threads=1))
    kept = samples.filter(keep_sequence if setup.is_packed else keep)
    shuffled: Any = grain.experimental.WindowShuffleIterDataset(kept, window_size=setup.buffer, seed=setup.seed)
    if setup.is_packed:
        shuffled = grain.experimental.BestFitPackIterDataset(
            shuffled.map(_named), length_struct={"tokens": ROW}, num_packing_bins=64, shuffle_bins=False
        )
    batches = shuffled.batch(setup.batch)
    if setup.workers:
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(setup.workers))
    yield _running(iter(batches), _packed if setup.is_packed else _plain, states, setup)


@contextlib.contextmanager
def elastic(setup: Setup, states: list[Any] | None, *, has_filter: bool = False) -> Iterator[Running]:
    """Use the `ElasticIterator`. It has no filter and no buffer, so shuffle by index in windows of the same size."""
    flags.FLAGS.mark_as_parsed()
    samples = _mixed(setup)
    if has_filter:
        samples = samples.filter(keep)
    shuffled = grain.experimental.WindowShuffleMapDataset(samples, window_size=setup.buffer, seed=setup.seed)
    batches = grain.experimental.ElasticIterator(
        shuffled,
        setup.batch,
        grain.sharding.ShardOptions(setup.rank, setup.world),
        read_options=grain.ReadOptions(num_threads=1),
        multiprocessing_options=grain.MultiprocessingOptions(setup.workers) if setup.workers else None,
    )
    yield _running(iter(batches), _plain, states, setup)


elastic_with_filter = functools.partial(elastic, has_filter=True)


def _mixed(setup: Setup) -> Any:
    sets = [grain.MapDataset.range(numbers.start, numbers.stop) for numbers in setup.ranges]
    return grain.MapDataset.mix(sets, list(WEIGHTS)).map(Decode(setup.cost_s, setup.is_packed))


def _running(batches: Any, numbers: Callable[[Any], list[int]], states: list[Any] | None, setup: Setup) -> Running:
    if states is not None:
        batches.set_state(of_rank(states, setup))
    return Running(map(numbers, batches), batches.get_state)


def _named(sequence: Any) -> Any:
    return {"tokens": sequence}


def _plain(batch: Any) -> list[int]:
    return np.asarray(batch).tolist()


def _packed(batch: Any) -> list[int]:
    return numbers_in(batch["tokens"], batch["tokens_segment_ids"])
