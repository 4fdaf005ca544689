"""A typed program of each frontend, as users write them: checked by mypy and pyright, never run."""

from collections.abc import Iterator
from typing import Any, TypeAlias, assert_type

import jax
import keras
import numpy as np
import tensorflow as tf
import torch

import mpqueue
import mpqueue.jax
import mpqueue.keras
import mpqueue.tf
import mpqueue.torch

Pair: TypeAlias = tuple[np.ndarray, int]


class Pairs:
    """A source of samples without a base class."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Pair:
        return mpqueue.rng().random(8), index


class Batches(mpqueue.Sequence):
    """A source of batches for an enqueuer."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full(8, index)


def joined(samples: list[Pair]) -> np.ndarray:
    return np.stack([pixels for pixels, _ in samples])


def train_with_numpy() -> float:
    weights = np.zeros(8)
    loader: mpqueue.Loader[np.ndarray] = mpqueue.Loader(Pairs(), batch_size=8, collate=joined, workers=2, shuffle=True)
    with loader:
        for batch in loader:
            assert_type(batch, np.ndarray)
            weights -= 0.1 * batch.mean(axis=0)
    with mpqueue.Loader(Pairs(), workers=2) as loader_of_samples:
        for pixels, label in loader_of_samples:
            assert_type(label, int)
            weights += pixels * label
    return float(weights.sum())


def train_with_an_enqueuer() -> float:
    total = 0.0
    with mpqueue.OrderedEnqueuer(Batches(), use_multiprocessing=True) as enqueuer:
        enqueuer.start(workers=2, max_queue_size=4)
        batches = enqueuer.get()
        assert_type(batches, Iterator[np.ndarray])
        for _ in range(len(Batches())):
            total += float(next(batches).sum())
    return total


def stacked(samples: list[Pair]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(pixels) for pixels, _ in samples])


def train_with_torch(model: torch.nn.Module) -> dict[str, Any]:
    loader = mpqueue.torch.DataLoader(Pairs(), batch_size=8, shuffle=True, num_workers=2, collate_fn=stacked)
    assert_type(loader, mpqueue.torch.DataLoader[torch.Tensor])
    for batch in loader:
        model(batch).sum().backward()
    return loader.state_dict()


def train_with_keras(model: keras.Model, train: keras.utils.PyDataset) -> None:
    model.fit(mpqueue.keras.accelerate(train, workers=2), epochs=3)
    with mpqueue.Loader(Pairs(), batch_size=8, workers=2) as loader:
        model.fit(mpqueue.keras.accelerate(loader), epochs=3)


def train_with_jax(step: Any) -> jax.Array:
    total = jax.numpy.zeros(())
    with mpqueue.Loader(Pairs(), batch_size=8, workers=2) as loader:
        for pixels, labels in mpqueue.jax.device_iterator(loader, prefetch=2):
            total = step(total, pixels, labels)
    return total


def train_with_tensorflow(model: keras.Model) -> tf.data.Dataset:
    with mpqueue.Loader(Pairs(), batch_size=8, workers=2) as loader:
        dataset: tf.data.Dataset = mpqueue.tf.dataset(loader)
        model.fit(dataset.repeat(2), steps_per_epoch=8)
        return dataset
