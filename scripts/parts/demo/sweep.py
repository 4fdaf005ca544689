"""Trainings of a sweep: the same photographs with different learning rates, each in a separate process."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from parts.demo.model import PatchClassifier
from parts.photographs.dataset import Photos, photo_files


class Trained(NamedTuple):
    """The result of a training.

    Attributes:
        accuracy: Accuracy on the held-out images.
        loss: Mean cross-entropy of the last epoch.
        began, ended: Times of the first batch and of the end of the last one, by a clock that all processes share.
        num_images: Number of images trained on.
    """

    accuracy: float
    loss: float
    began: float
    ended: float
    num_images: int

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.num_images / (self.ended - self.began)


# Opens the batches in the process of the training; pickled. Each `for` loop is an epoch.
Feed = Callable[[], AbstractContextManager[Any]]


def train(feed: Feed, learning_rate: float, epochs: int) -> Trained:
    """Train one model, and evaluate it."""
    files, held_out = photo_files()
    model = PatchClassifier(len(files.names), rate=learning_rate)
    began, num_images = 0.0, 0
    with feed() as batches:
        for _ in range(epochs):
            losses = []
            for images, labels in batches:
                began = began or time.monotonic()
                losses.append(model.train(images, labels))
                num_images += len(labels)
        ended = time.monotonic()
    shown = Photos(held_out, augment=False)
    right = [model.predict(images) == labels for images, labels in (shown[index] for index in range(len(shown)))]
    return Trained(float(np.mean(right)), float(np.mean(losses)), began, ended, num_images)


@contextlib.contextmanager
def sweep(feed: Feed, learning_rates: tuple[float, ...], epochs: int) -> Iterator[Callable[[], list[Trained]]]:
    """Fork a process for each learning rate; yield a function that waits for all of them, and raises their errors."""
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(len(learning_rates), fork) as pool:
        trainings = [pool.submit(train, feed, learning_rate, epochs) for learning_rate in learning_rates]
        yield lambda: [training.result() for training in trainings]
