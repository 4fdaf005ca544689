"""A peer that serves the batches of one loader to several trainers: tf.data service.

It is a context manager that starts its server and yields a function that returns a trainer's batches. Its package is
only imported in the processes that need it, not in the process that starts them.

A `tf.data` server can only run TensorFlow operations, so a batch is a constant plus a number, like mpqueue's copy of a
constant: a new array cannot be cheaper. Its trainers share one computation through its cache.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from parts.benchmark.workloads.trainers import Batches
from parts.children import forks

# Called with an array to copy for each batch, and the numbers of trainers, workers, and batches to compute ahead.
Peer = Callable[[np.ndarray, int, int, int], AbstractContextManager[Batches]]


@contextlib.contextmanager
def tf_data_service(array: np.ndarray, _num_trainers: int, num_workers: int, ahead: int) -> Iterator[Batches]:
    """Use a dispatcher and a worker in one process. Every trainer gets all batches."""
    end, other = multiprocessing.Pipe()
    with forks(_serve_tensorflow, [(other,)]):
        target = end.recv()

        def batches(which: int) -> Iterator[Any]:
            tf = _tensorflow()
            service = tf.data.experimental.service
            constant = tf.constant(array)
            made = tf.data.Dataset.counter().map(
                lambda number: constant + tf.cast(number, constant.dtype), num_parallel_calls=num_workers
            )
            shared = service.distribute(
                service.ShardingPolicy.OFF,
                target,
                job_name="all",
                cross_trainer_cache=service.CrossTrainerCache(trainer_id=f"trainer {which}"),
            )
            return made.apply(shared).prefetch(ahead).as_numpy_iterator()  # type: ignore[no-any-return]

        yield batches


def _serve_tensorflow(end: Connection) -> None:
    service = _tensorflow().data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.partition("://")[2]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
    end.send(dispatcher.target)
    worker.join()


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    return tf


PEERS: dict[str, tuple[str, Peer]] = {"tf.data service": ("tensorflow", tf_data_service)}
