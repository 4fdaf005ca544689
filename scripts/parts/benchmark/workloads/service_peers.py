"""Peers that serve the batches of one loader to several trainers: tf.data service, TensorSocket.

Each peer is a context manager that starts its server and yields a function that returns a trainer's batches. Its
package is only imported in the processes that need it, not in the process that starts them.

A `tf.data` server can only run TensorFlow operations, so a batch is a constant plus a number, like mpqueue's copy of a
constant: a new array cannot be cheaper. Its trainers share one computation through its cache.

TensorSocket uses torch's DataLoader. It sends the bytes of batches in main memory (a handle only for GPU memory), and
with each batch the bytes of all batches collated with it, so the number of collated batches is minimal. A trainer that
is later than the length of its rubber band waits for the next epoch, so an epoch starts when all trainers are attached.
"""

import contextlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from parts.benchmark.workloads.trainers import Batches

NUM_PORTS = 4
LENGTH = 1 << 20  # of TensorSocket's loader; no measurement reaches it
COLLATED, RUBBER_BAND = 2, 64  # batches; it fails with one
HEARTBEAT_S = 0.1

# Called with an array to copy for each batch, and the numbers of trainers, workers, and batches to compute ahead.
Peer = Callable[[np.ndarray, int, int, int], AbstractContextManager[Batches]]


@contextlib.contextmanager
def tf_data_service(array: np.ndarray, _num_trainers: int, num_workers: int, ahead: int) -> Iterator[Batches]:
    """Use a dispatcher and a worker in one process. Every trainer gets all batches."""
    with _helper(_serve_tensorflow, ()) as target:

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


@contextlib.contextmanager
def tensorsocket(array: np.ndarray, num_trainers: int, num_workers: int, ahead: int) -> Iterator[Batches]:
    """Use a producer in a separate process with the workers of a DataLoader."""
    port, ack_port, *heart_ports = _free_ports()
    ports = {"port": port, "ack_port": ack_port, "heart_ports": tuple(heart_ports)}
    with _helper(_produce, (array, num_trainers, num_workers, ahead, ports)):

        def batches(_which: int) -> Iterator[Any]:
            from tensorsocket import TensorConsumer

            return iter(TensorConsumer(**ports, batch_size=len(array)))

        yield batches


def _produce(
    array: np.ndarray, num_trainers: int, num_workers: int, ahead: int, ports: dict[str, Any], end: Connection
) -> None:
    from tensorsocket import TensorProducer
    from torch.utils.data import DataLoader

    loader = DataLoader(_Tensors(array), None, num_workers=num_workers, prefetch_factor=max(2, ahead // num_workers))
    bounds = {"rubber_band_pct": RUBBER_BAND / LENGTH, "consumer_max_buffer_size": ahead}
    producer = TensorProducer(loader, **ports, **bounds, producer_batch_size=COLLATED)
    end.send("produces")
    while len(producer.hb.consumers) < num_trainers:
        time.sleep(HEARTBEAT_S)
    for _ in producer:
        pass


class _Tensors:
    """Batches for a DataLoader, with a new tensor each."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        import torch

        return (torch.from_numpy(self.array.copy()),)


@contextlib.contextmanager
def _helper(serve: Callable[..., None], args: tuple[Any, ...]) -> Iterator[Any]:
    """Run a peer's server in a process; yield its first message."""
    context = multiprocessing.get_context("fork")
    end, other = context.Pipe()
    process = context.Process(target=serve, args=(*args, other))
    process.start()
    other.close()
    try:
        yield end.recv()
    finally:
        process.kill()
        process.join()
        end.close()


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(NUM_PORTS)]
        return [each.getsockname()[1] for each in sockets]


PEERS: dict[str, tuple[str, Peer]] = {
    "tf.data service": ("tensorflow", tf_data_service),
    "tensorsocket": ("tensorsocket", tensorsocket),
}
