"""mpqueue feeds training loops from worker processes through shared memory.

The map of the house, from the ground up; imports point downwards only::

    errors.py ray_options.py options.py   every public exception; the options of all faces
    replacement.py       an attribute of another library that is ours as long as somebody needs it
    system/              process hygiene: descriptors, interrupts, forks, the death of a parent
    telemetry/           what is counted and timed while a stream runs, and how it is shown
    stats.py             what the statistics show
    monitor/             tells other programs of this user what runs in a process
    memory/              the data plane: segment, slots, layout, leases, in-slot allocation
    values/              dtypes, shapes, and Python values as arrays
    control/             the control plane: schedule, seeds, the pipeline that the consumer drives
    coordination/        what a coordinator is made of: members, cancellation, proxies in other processes
    samples/             batches of samples: their order, the shares of ranks, collation
    workers/             nursery, worker loop, backends (process, thread, inline), exceptions across processes
    cluster/             the same on the nodes of a Ray cluster
    sequence.py sources.py forms.py lazy_orders.py   sources of batches, and what is asked of them
    progress.py engine.py iterators.py idle.py   what all faces stand on
    lightning_epochs.py  whether the trainer of Lightning saves at an epoch's end
    loop_position.py epoch_iterator.py orders.py   what a loader stands on
    enqueuers/ loader.py passes.py loader_passes.py   what users of fit loops hold
    keras_resets.py      tells a dataset that Keras begins its data anew
    coordinator.py       the TensorFlow 1 toolbox: threads and processes that stop together,
    parsing/ images/     text, CSV, JSON and Example records as arrays; images,
    queues/              queues within a process and between processes,
    readers/ python_io.py   files as records,
    runs/                how operations are computed for many records at once,
    train/               producers, batching and queue runners,
    service/             one preparation for many trainers: servers, and the consumers that attach to them,
    compat/              and all of it behind TensorFlow 1's own names
    keras.py torch/ jax.py tf.py   one file or folder per framework, imported only on request
    metrics.py           for Prometheus, TensorBoard and OpenTelemetry
    commands/            what the command can do: each of ``mpqueue serve``, ``mpqueue doctor`` and so on
    __main__.py          the command ``mpqueue``

Public is what ``__all__`` here, ``mpqueue.errors``, ``mpqueue.train``, ``mpqueue.compat.v1`` and the
one-framework modules export; everything else may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpqueue import errors

if TYPE_CHECKING:
    from mpqueue import compat as compat
    from mpqueue import jax as jax
    from mpqueue import keras as keras
    from mpqueue import metrics as metrics
    from mpqueue import python_io as python_io
    from mpqueue import tf as tf
    from mpqueue import torch as torch
    from mpqueue import train as train
    from mpqueue.coordinator import Coordinator as Coordinator
    from mpqueue.enqueuers import GeneratorEnqueuer as GeneratorEnqueuer
    from mpqueue.enqueuers import OrderedEnqueuer as OrderedEnqueuer
    from mpqueue.enqueuers import SequenceEnqueuer as SequenceEnqueuer
    from mpqueue.loader import Loader as Loader
    from mpqueue.parsing.csv import decode_csv as decode_csv
    from mpqueue.parsing.features import FixedLenFeature as FixedLenFeature
    from mpqueue.parsing.features import FixedLenSequenceFeature as FixedLenSequenceFeature
    from mpqueue.parsing.features import VarLenFeature as VarLenFeature
    from mpqueue.parsing.json_example import decode_json_example as decode_json_example
    from mpqueue.parsing.parse import parse_example as parse_example
    from mpqueue.parsing.parse import parse_single_example as parse_single_example
    from mpqueue.parsing.raw import decode_raw as decode_raw
    from mpqueue.parsing.sequence import parse_single_sequence_example as parse_single_sequence_example
    from mpqueue.queues import FIFOQueue as FIFOQueue
    from mpqueue.queues import PaddingFIFOQueue as PaddingFIFOQueue
    from mpqueue.queues import QueueBase as QueueBase
    from mpqueue.queues import RandomShuffleQueue as RandomShuffleQueue
    from mpqueue.queues import Session as Session
    from mpqueue.queues import Source as Source
    from mpqueue.queues import get_default_session as get_default_session
    from mpqueue.queues import reset_default_graph as reset_default_graph
    from mpqueue.readers import FixedLengthRecordReader as FixedLengthRecordReader
    from mpqueue.readers import IdentityReader as IdentityReader
    from mpqueue.readers import ReaderBase as ReaderBase
    from mpqueue.readers import TextLineReader as TextLineReader
    from mpqueue.readers import TFRecordReader as TFRecordReader
    from mpqueue.readers import WholeFileReader as WholeFileReader
    from mpqueue.readers import matching_files as matching_files
    from mpqueue.readers import read_file as read_file
    from mpqueue.sequence import Sequence as Sequence
    from mpqueue.service.attach import attach as attach
    from mpqueue.service.consumer import Consumer as Consumer
    from mpqueue.service.queues import connect as connect
    from mpqueue.service.server import Server as Server
    from mpqueue.stats import Statistics as Statistics
    from mpqueue.train.collections import add_queue_runner as add_queue_runner
    from mpqueue.train.collections import get_queue_runners as get_queue_runners
    from mpqueue.train.collections import start_queue_runners as start_queue_runners
    from mpqueue.train.local_variables import local_variables_initializer as local_variables_initializer
    from mpqueue.train.placeholders import placeholder as placeholder
    from mpqueue.train.placeholders import placeholder_with_default as placeholder_with_default
    from mpqueue.train.placeholders import run as run
    from mpqueue.train.placeholders import sparse_placeholder as sparse_placeholder
    from mpqueue.values.sparse import SparseTensorValue as SparseTensorValue
    from mpqueue.workers.context import WorkerInfo as WorkerInfo
    from mpqueue.workers.context import empty as empty
    from mpqueue.workers.context import rng as rng
    from mpqueue.workers.context import stack as stack
    from mpqueue.workers.context import worker_info as worker_info
    from mpqueue.workers.launcher import shutdown as shutdown

__version__ = "0.1.0"

# Where each name lives; loaded on first use, so that a worker process imports only what it needs.
_HOMES = {
    "coordinator": ("Coordinator",),
    "enqueuers": ("GeneratorEnqueuer", "OrderedEnqueuer", "SequenceEnqueuer"),
    "loader": ("Loader",),
    "queues": (
        "FIFOQueue",
        "PaddingFIFOQueue",
        "QueueBase",
        "RandomShuffleQueue",
        "Session",
        "Source",
        "get_default_session",
        "reset_default_graph",
    ),
    "readers": (
        "FixedLengthRecordReader",
        "IdentityReader",
        "ReaderBase",
        "TFRecordReader",
        "TextLineReader",
        "WholeFileReader",
        "matching_files",
        "read_file",
    ),
    "parsing.csv": ("decode_csv",),
    "parsing.features": ("FixedLenFeature", "FixedLenSequenceFeature", "VarLenFeature"),
    "parsing.json_example": ("decode_json_example",),
    "parsing.parse": ("parse_example", "parse_single_example"),
    "parsing.raw": ("decode_raw",),
    "parsing.sequence": ("parse_single_sequence_example",),
    "values.sparse": ("SparseTensorValue",),
    "sequence": ("Sequence",),
    "service.attach": ("attach",),
    "service.consumer": ("Consumer",),
    "service.queues": ("connect",),
    "service.server": ("Server",),
    "stats": ("Statistics",),
    "train.collections": ("add_queue_runner", "get_queue_runners", "start_queue_runners"),
    "train.local_variables": ("local_variables_initializer",),
    "train.placeholders": ("placeholder", "placeholder_with_default", "run", "sparse_placeholder"),
    "workers.context": ("WorkerInfo", "empty", "rng", "stack", "worker_info"),
    "workers.launcher": ("shutdown",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
# Not in `__all__` are those of frameworks and `compat`: a star import would hide the user's own `jax` or `torch`.
_PACKAGES = {"compat", "jax", "keras", "metrics", "python_io", "tf", "torch", "train"}
# What users of other libraries look for.
_ELSEWHERE = {
    "DataLoader": "mpqueue.Loader iterates over any source that has __getitem__ and __len__; torch's own is "
    "mpqueue.torch.DataLoader",
    "Dataset": "mpqueue.Sequence is the base class of sources, and mpqueue.Loader iterates over one",
    "IterableDataset": "pass a generator function to mpqueue.Loader",
    "PyDataset": "mpqueue.Sequence is the base class of sources; mpqueue.keras.accelerate takes a Keras PyDataset",
}

__all__ = [
    "Consumer",
    "Coordinator",
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
