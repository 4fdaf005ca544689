"""The photographs of a program, and trainings of models on them: of one, or of several at the same time."""

import contextlib
import hashlib
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from parts.demo.model import PatchClassifier
from parts.machine import num_cpus
from parts.photographs.dataset import Photos, photo_files


class Trained(NamedTuple):
    """The result of a training.

    Attributes:
        accuracy: Accuracy on the held-out images.
        loss: Mean cross-entropy of the last epoch.
        digest: Hash of the weights.
        began, ended: Times of the first batch and of the end of the last one, by a clock that all processes share.
        num_images: Number of images trained on.
    """

    accuracy: float
    loss: float
    digest: str
    began: float
    ended: float
    num_images: int

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.num_images / (self.ended - self.began)


def photographs(workers: int) -> tuple[Photos, Photos, int]:
    """Return the batches to train on, the held-out batches, and the number of classes; print what there is."""
    # Workers use the CPUs: if two threads shared a matrix product, one would wait for the time slice of a worker.
    threadpool_limits(1)
    train_files, held_out_files = photo_files()
    num_classes = len(train_files.names)
    print(f"{len(train_files.paths):,} images of {num_classes} photographs, {workers} workers, {num_cpus()} CPUs")
    return Photos(train_files, augment=True), Photos(held_out_files, augment=False), num_classes


def accuracy_of(model: PatchClassifier, batches: Iterable[Any]) -> float:
    """Return the fraction of images that a model recognises."""
    return float(np.mean([model.predict(images) == labels for images, labels in batches]))


def train(
    batches: Iterable[Any], epochs: int, learning_rate: float = 2e-3, after: Callable[[int], object] = lambda _: None
) -> Trained:
    """Train one model, and evaluate it.

    Args:
        batches: An epoch of batches in each loop.
        epochs: Number of epochs.
        learning_rate: Step size.
        after: Called after each batch with the number of batches so far.
    """
    files, held_out = photo_files()
    model = PatchClassifier(len(files.names), rate=learning_rate)
    began, num_images, num_batches = 0.0, 0, 0
    for _ in range(epochs):
        losses = []
        for images, labels in batches:
            began = began or time.monotonic()
            losses.append(model.train(images, labels))
            num_images, num_batches = num_images + len(labels), num_batches + 1
            after(num_batches)
    ended = time.monotonic()
    shown = Photos(held_out, augment=False)
    accuracy = accuracy_of(model, map(shown.__getitem__, range(len(shown))))
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in model.weights)).hexdigest()
    return Trained(accuracy, float(np.mean(losses)), digest, began, ended, num_images)


# Opens the batches in the process of the training; pickled. Each `for` loop is an epoch.
Feed = Callable[[], contextlib.AbstractContextManager[Any]]


def _trained(feed: Feed, epochs: int, learning_rate: float) -> Trained:
    with feed() as batches:
        return train(batches, epochs, learning_rate)


@contextlib.contextmanager
def sweep(feed: Feed, learning_rates: tuple[float, ...], epochs: int) -> Iterator[Callable[[], list[Trained]]]:
    """Fork a process for each learning rate; yield a function that waits for all of them, and raises their errors."""
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(len(learning_rates), fork) as pool:
        trainings = [pool.submit(_trained, feed, epochs, learning_rate) for learning_rate in learning_rates]
        yield lambda: [training.result() for training in trainings]
