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
    from mpqueue.frameworks.enqueuers import GeneratorEnqueuer as GeneratorEnqueuer
    from mpqueue.frameworks.enqueuers import OrderedEnqueuer as OrderedEnqueuer
    from mpqueue.frameworks.enqueuers import SequenceEnqueuer as SequenceEnqueuer
    from mpqueue.loader.loader import Loader as Loader
    from mpqueue.plan.sequence import Sequence as Sequence
    from mpqueue.service.consumer import Consumer as Consumer
    from mpqueue.service.consumer import attach as attach
    from mpqueue.service.server import Server as Server
    from mpqueue.telemetry.stats import Statistics as Statistics
    from mpqueue.tf1.root import *  # noqa: F403 - by `__all__`
    from mpqueue.worker.context import WorkerInfo as WorkerInfo
    from mpqueue.worker.context import empty as empty
    from mpqueue.worker.context import rng as rng
    from mpqueue.worker.context import stack as stack
    from mpqueue.worker.context import worker_info as worker_info
    from mpqueue.workers.launcher import shutdown as shutdown

# Where each name lives; loaded on first use, so that a worker process imports only what it needs.
_HOMES = {
    "dataset.dataset": ("Dataset",),
    "frameworks.enqueuers": ("GeneratorEnqueuer", "OrderedEnqueuer", "SequenceEnqueuer"),
    "loader.loader": ("Loader",),
    "plan.sequence": ("Sequence",),
    "service.consumer": ("Consumer", "attach"),
    "service.server": ("Server",),
    "telemetry.stats": ("Statistics",),
    "worker.context": ("WorkerInfo", "empty", "rng", "stack", "worker_info"),
    "workers.launcher": ("shutdown",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
# Not in `__all__`: a star import would hide the user's own `jax` or `torch`.
_FRAMEWORKS = {"files", "jax", "keras", "metrics", "tf", "torch"}
_TENSORFLOW_1 = {"compat", "python_io", "train"}
# What users of other libraries look for.
_ELSEWHERE = {
    "DataLoader": "mpqueue.Loader iterates over any source that has __getitem__ and __len__; torch's own is "
    "mpqueue.torch.DataLoader",
    "IterableDataset": "pass a generator function to mpqueue.Loader",
    "PyDataset": "mpqueue.Sequence is the base class of sources; mpqueue.keras.accelerate takes a Keras PyDataset",
}

__all__ = [
    "Consumer",
    "Dataset",
    "GeneratorEnqueuer",
    "Loader",
    "OrderedEnqueuer",
    "Sequence",
    "SequenceEnqueuer",
    "Server",
    "Statistics",
    "WorkerInfo",
    "__version__",
    "attach",
    "empty",
    "errors",
    "rng",
    "shutdown",
    "stack",
    "worker_info",
]


def __getattr__(name: str) -> Any:
    if name in _FRAMEWORKS or name in _TENSORFLOW_1:
        return import_module(f"mpqueue.{name}")
    home = _HOME_OF.get(name) or _home_in_tensorflow_1(name)
    if home is None:
        remedy = _ELSEWHERE.get(name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}" + (f"; {remedy}" if remedy else ""))
    value = getattr(import_module(f"mpqueue.{home}"), name)
    globals()[name] = value
    return value


def _home_in_tensorflow_1(name: str) -> str | None:
    """Return the module of a name of TensorFlow 1, which `mpqueue.train` documents."""
    try:
        from mpqueue.tf1 import root
    except ModuleNotFoundError:  # the rest of the package works without `tf1/`
        return None
    return "tf1.root" if name in root.__all__ else None


def __dir__() -> list[str]:
    return sorted({*__all__, *_FRAMEWORKS})
