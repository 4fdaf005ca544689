"""mpqueue feeds training loops from worker processes through shared memory.

The map of the house, from the ground up; imports point downwards only. Two wings stand on one ground: the engine, with
the faces that are fed by it, and the input toolbox of TensorFlow 1, which the engine does not know::

    errors.py version.py   every public exception; the version
    system/         process hygiene: descriptors, interrupts, forks, the death of a parent
    transport/      how processes find each other, know each other, and talk
    telemetry/      what is counted and timed while a stream runs, and how it is shown
    memory/         the data plane: segment, slots, layout, leases, in-slot allocation
    seeding/        random numbers of batches and samples; shuffled orders
    plan/           what is computed and in which order: source, options, ranks, samplers, states
    engine/         runs a plan: ledger, recovery, the pipeline that the consumer drives
    samples/        samples become batches
    worker/         what runs inside of a worker: main loop, runner of the source, what user code may ask
    values/         dtypes, shapes, and Python values as arrays, by TensorFlow's rules
    examples/       serialized `tf.train.Example` records as arrays
    workers/        the trainer's side of them: nursery, dispatcher, supervision; threads, inline
    cluster/        the same on the nodes of a Ray cluster
    dataset/        `Dataset`: descriptions of samples, and what computes them, by place or as streams in lanes
    files/          files that people have, as sources of samples by index
    loader/         one stream of batches, `Loader`
    service/        one preparation for many trainers: servers, and the consumers that attach to them
    frameworks/     Keras, with the enqueuers; torch, JAX, tf.data
    tf1/            TensorFlow 1: coordinator, queues, readers, parsing, producers, batching, deferred graphs
    keras.py torch.py jax.py tf.py metrics.py train.py python_io.py compat/   thin faces: public names, no code
    commands/       what the command can do: each of ``mpqueue serve``, ``mpqueue doctor`` and so on
    __main__.py     the command ``mpqueue``

Public is what ``__all__`` here, ``mpqueue.errors``, ``mpqueue.train``, ``mpqueue.compat.v1`` and the
one-framework modules and ``mpqueue.files`` export; everything else may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpqueue import errors
from mpqueue.version import __version__

if TYPE_CHECKING:
    from mpqueue import compat as compat
    from mpqueue import files as files
    from mpqueue import jax as jax
    from mpqueue import keras as keras
    from mpqueue import metrics as metrics
    from mpqueue import python_io as python_io
    from mpqueue import tf as tf
    from mpqueue import torch as torch
    from mpqueue import train as train
    from mpqueue.dataset.dataset import Dataset as Dataset
    from mpqueue.examples.features import FixedLenFeature as FixedLenFeature
    from mpqueue.examples.features import FixedLenSequenceFeature as FixedLenSequenceFeature
    from mpqueue.examples.features import VarLenFeature as VarLenFeature
    from mpqueue.frameworks.enqueuers import GeneratorEnqueuer as GeneratorEnqueuer
    from mpqueue.frameworks.enqueuers import OrderedEnqueuer as OrderedEnqueuer
    from mpqueue.frameworks.enqueuers import SequenceEnqueuer as SequenceEnqueuer
    from mpqueue.loader.loader import Loader as Loader
    from mpqueue.plan.sequence import Sequence as Sequence
    from mpqueue.service.consumer import Consumer as Consumer
    from mpqueue.service.consumer import attach as attach
    from mpqueue.service.server import Server as Server
    from mpqueue.telemetry.stats import Statistics as Statistics
    from mpqueue.tf1.coordinator import Coordinator as Coordinator
    from mpqueue.tf1.parsing.csv import decode_csv as decode_csv
    from mpqueue.tf1.parsing.json_example import decode_json_example as decode_json_example
    from mpqueue.tf1.parsing.parse import parse_example as parse_example
    from mpqueue.tf1.parsing.parse import parse_single_example as parse_single_example
    from mpqueue.tf1.parsing.raw import decode_raw as decode_raw
    from mpqueue.tf1.parsing.sequence import parse_single_sequence_example as parse_single_sequence_example
    from mpqueue.tf1.queues import FIFOQueue as FIFOQueue
    from mpqueue.tf1.queues import PaddingFIFOQueue as PaddingFIFOQueue
    from mpqueue.tf1.queues import QueueBase as QueueBase
    from mpqueue.tf1.queues import RandomShuffleQueue as RandomShuffleQueue
    from mpqueue.tf1.queues import Session as Session
    from mpqueue.tf1.queues import Source as Source
    from mpqueue.tf1.queues import get_default_session as get_default_session
    from mpqueue.tf1.queues import reset_default_graph as reset_default_graph
    from mpqueue.tf1.readers import FixedLengthRecordReader as FixedLengthRecordReader
    from mpqueue.tf1.readers import IdentityReader as IdentityReader
    from mpqueue.tf1.readers import ReaderBase as ReaderBase
    from mpqueue.tf1.readers import TextLineReader as TextLineReader
    from mpqueue.tf1.readers import TFRecordReader as TFRecordReader
    from mpqueue.tf1.readers import WholeFileReader as WholeFileReader
    from mpqueue.tf1.readers import matching_files as matching_files
    from mpqueue.tf1.readers import read_file as read_file
    from mpqueue.tf1.serving.connect import connect as connect
    from mpqueue.tf1.train.collections import add_queue_runner as add_queue_runner
    from mpqueue.tf1.train.collections import get_queue_runners as get_queue_runners
    from mpqueue.tf1.train.collections import start_queue_runners as start_queue_runners
    from mpqueue.tf1.train.local_variables import local_variables_initializer as local_variables_initializer
    from mpqueue.tf1.train.placeholders import placeholder as placeholder
    from mpqueue.tf1.train.placeholders import placeholder_with_default as placeholder_with_default
    from mpqueue.tf1.train.placeholders import run as run
    from mpqueue.tf1.train.placeholders import sparse_placeholder as sparse_placeholder
    from mpqueue.values.sparse import SparseTensorValue as SparseTensorValue
    from mpqueue.worker.context import WorkerInfo as WorkerInfo
    from mpqueue.worker.context import empty as empty
    from mpqueue.worker.context import rng as rng
    from mpqueue.worker.context import stack as stack
    from mpqueue.worker.context import worker_info as worker_info
    from mpqueue.workers.launcher import shutdown as shutdown

# Where each name lives; loaded on first use, so that a worker process imports only what it needs.
_HOMES = {
    "tf1.coordinator": ("Coordinator",),
    "dataset.dataset": ("Dataset",),
    "frameworks.enqueuers": ("GeneratorEnqueuer", "OrderedEnqueuer", "SequenceEnqueuer"),
    "loader.loader": ("Loader",),
    "tf1.queues": (
        "FIFOQueue",
        "PaddingFIFOQueue",
        "QueueBase",
        "RandomShuffleQueue",
        "Session",
        "Source",
        "get_default_session",
        "reset_default_graph",
    ),
    "tf1.readers": (
        "FixedLengthRecordReader",
        "IdentityReader",
        "ReaderBase",
        "TFRecordReader",
        "TextLineReader",
        "WholeFileReader",
        "matching_files",
        "read_file",
    ),
    "tf1.parsing.csv": ("decode_csv",),
    "examples.features": ("FixedLenFeature", "FixedLenSequenceFeature", "VarLenFeature"),
    "tf1.parsing.json_example": ("decode_json_example",),
    "tf1.parsing.parse": ("parse_example", "parse_single_example"),
    "tf1.parsing.raw": ("decode_raw",),
    "tf1.parsing.sequence": ("parse_single_sequence_example",),
    "values.sparse": ("SparseTensorValue",),
    "plan.sequence": ("Sequence",),
    "service.consumer": ("Consumer", "attach"),
    "tf1.serving.connect": ("connect",),
    "service.server": ("Server",),
    "telemetry.stats": ("Statistics",),
    "tf1.train.collections": ("add_queue_runner", "get_queue_runners", "start_queue_runners"),
    "tf1.train.local_variables": ("local_variables_initializer",),
    "tf1.train.placeholders": ("placeholder", "placeholder_with_default", "run", "sparse_placeholder"),
    "worker.context": ("WorkerInfo", "empty", "rng", "stack", "worker_info"),
    "workers.launcher": ("shutdown",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
# Not in `__all__` are those of frameworks and `compat`: a star import would hide the user's own `jax` or `torch`.
_PACKAGES = {"compat", "files", "jax", "keras", "metrics", "python_io", "tf", "torch", "train"}
# What users of other libraries look for.
_ELSEWHERE = {
    "DataLoader": "mpqueue.Loader iterates over any source that has __getitem__ and __len__; torch's own is "
    "mpqueue.torch.DataLoader",
    "IterableDataset": "pass a generator function to mpqueue.Loader",
    "PyDataset": "mpqueue.Sequence is the base class of sources; mpqueue.keras.accelerate takes a Keras PyDataset",
}

__all__ = [
    "Consumer",
    "Coordinator",
    "Dataset",
    "FIFOQueue",
    "FixedLenFeature",
    "FixedLenSequenceFeature",
    "FixedLengthRecordReader",
    "GeneratorEnqueuer",
    "IdentityReader",
    "Loader",
    "OrderedEnqueuer",
    "PaddingFIFOQueue",
    "QueueBase",
    "RandomShuffleQueue",
    "ReaderBase",
    "Sequence",
    "SequenceEnqueuer",
    "Server",
    "Session",
    "Source",
    "SparseTensorValue",
    "Statistics",
    "TFRecordReader",
    "TextLineReader",
    "VarLenFeature",
    "WholeFileReader",
    "WorkerInfo",
    "__version__",
    "add_queue_runner",
    "attach",
    "connect",
    "decode_csv",
    "decode_json_example",
    "decode_raw",
    "empty",
    "errors",
    "get_default_session",
    "get_queue_runners",
    "local_variables_initializer",
    "matching_files",
    "parse_example",
    "parse_single_example",
    "parse_single_sequence_example",
    "placeholder",
    "placeholder_with_default",
    "python_io",
    "read_file",
    "reset_default_graph",
    "rng",
    "run",
    "shutdown",
    "sparse_placeholder",
    "stack",
    "start_queue_runners",
    "train",
    "worker_info",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"mpqueue.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        remedy = _ELSEWHERE.get(name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}" + (f"; {remedy}" if remedy else ""))
    value = getattr(import_module(f"mpqueue.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES})
