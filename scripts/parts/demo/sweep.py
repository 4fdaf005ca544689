"""Trainings of a sweep: the same photographs with different learning rates, each in a separate process."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
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


# Opens the batches in the process of the training. Each `for` loop is an epoch.
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
    """Fork a process for each learning rate; yield a function that waits for all of them.

    Raises:
        RuntimeError: Raised by the function if a training has failed.
    """
    context, ends, processes = multiprocessing.get_context("fork"), [], []
    for learning_rate in learning_rates:
        end, other = context.Pipe()
        process = context.Process(target=_train, args=(feed, learning_rate, epochs, other))
        process.start()
        other.close()
        ends.append(end)
        processes.append(process)

    def wait() -> list[Trained]:
        try:
            return [Trained(*end.recv()) for end in ends]
        except EOFError:
            raise RuntimeError("a training has failed; its traceback is printed above") from None

    try:
        yield wait
    finally:
        for process, end in zip(processes, ends, strict=True):
            process.terminate()
            process.join()
            end.close()


def _train(feed: Feed, learning_rate: float, epochs: int, end: Connection) -> None:
    end.send(tuple(train(feed, learning_rate, epochs)))
