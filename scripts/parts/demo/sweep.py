"""Trainings of a sweep: the same photographs with different learning rates, each in a separate process."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from parts.demo.training import Trained, train

# Opens the batches in the process of the training; pickled. Each `for` loop is an epoch.
Feed = Callable[[], AbstractContextManager[Any]]


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
