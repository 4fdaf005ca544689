"""mpqueue is a data loader: worker processes prepare batches and pass them to a training loop through shared memory.

The folders, from the bottom up. A module imports only from its own line and the lines above it::

    errors.py version.py   every public exception; the version
    system/         descriptors, signals, forks, the exit of the parent process
    transport/      connections between processes, and the messages on them
    telemetry/      counters and timelines of a stream, and how they are shown
    memory/         shared memory: segment, slots, layout of a batch, leases
    seeding/        random numbers of batches and samples; shuffled orders
    plan/           which batches are computed in which order: source, options, ranks, samplers, states
    engine/         runs a plan: ledger, recovery, the pipeline of a consumer
    samples/        collation of samples to batches
    worker/         the code that runs in a worker: main loop, runners of sources, the API for user code
    values/         values, dtypes and shapes by TensorFlow's rules
    examples/       serialized `tf.train.Example` records as arrays
    backends/       the trainer's side of workers: processes (fork server, dispatcher, supervision), threads, Ray
    dataset/        `Dataset`: descriptions of streams and samples, and the code that computes them
    files/          files as sources of samples by index
    loader/         `Loader`: one stream of batches
    service/        one stream for many trainers: servers and their consumers
    frameworks/     Keras, with the enqueuers; torch, JAX, tf.data
    tf1/            the input pipeline of TensorFlow 1; the other folders work without it
    keras.py torch.py jax.py tf.py metrics.py train.py python_io.py compat/   modules of public names, without code
    commands/       the subcommands of ``mpqueue``: ``serve``, ``doctor`` and others
    __main__.py     the command ``mpqueue``

The public names are those in ``__all__`` of this module, of ``mpqueue.errors``, ``mpqueue.files`` and of the modules in
the line of ``keras.py``. All other names may change without notice. The names of ``mpqueue.tf1.root``, which
``mpqueue.train`` documents, are also found here.
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
    from mpqueue.backends.start.launcher import shutdown as shutdown
    from mpqueue.dataset.caching.cached import cached as cached
    from mpqueue.dataset.dataset import Dataset as Dataset
    from mpqueue.frameworks.enqueuers import GeneratorEnqueuer as GeneratorEnqueuer
    from mpqueue.frameworks.enqueuers import OrderedEnqueuer as OrderedEnqueuer
    from mpqueue.frameworks.enqueuers import SequenceEnqueuer as SequenceEnqueuer
    from mpqueue.loader.loader import Loader as Loader
    from mpqueue.plan.ids.batch_info import BatchInfo as BatchInfo
    from mpqueue.plan.options.balance import Balance as Balance
    from mpqueue.plan.sources.sequence import Sequence as Sequence
    from mpqueue.samples.ragged import Ragged as Ragged
    from mpqueue.service.consuming.consumer import Consumer as Consumer
    from mpqueue.service.consuming.consumer import attach as attach
    from mpqueue.service.serving.server import Server as Server
    from mpqueue.telemetry.stats import Statistics as Statistics
    from mpqueue.tf1.root import *  # noqa: F403 - by `__all__`
    from mpqueue.worker.context import WorkerInfo as WorkerInfo
    from mpqueue.worker.context import empty as empty
    from mpqueue.worker.context import rng as rng
    from mpqueue.worker.context import stack as stack
    from mpqueue.worker.context import worker_info as worker_info

# The module of each name, which is imported at first use: a worker process imports only the modules that it needs.
_HOMES = {
    "dataset.caching.cached": ("cached",),
    "dataset.dataset": ("Dataset",),
    "frameworks.enqueuers": ("GeneratorEnqueuer", "OrderedEnqueuer", "SequenceEnqueuer"),
    "loader.loader": ("Loader",),
    "plan.options.balance": ("Balance",),
    "plan.ids.batch_info": ("BatchInfo",),
    "plan.sources.sequence": ("Sequence",),
    "samples.ragged": ("Ragged",),
    "service.consuming.consumer": ("Consumer", "attach"),
    "service.serving.server": ("Server",),
    "telemetry.stats": ("Statistics",),
    "worker.context": ("WorkerInfo", "empty", "rng", "stack", "worker_info"),
    "backends.start.launcher": ("shutdown",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
# Not in `__all__`: a star import would hide the user's own `jax` or `torch`.
_FRAMEWORKS = {"files", "jax", "keras", "metrics", "tf", "torch"}
_TENSORFLOW_1 = {"compat", "python_io", "train"}
# Names that users of other libraries look for.
_ELSEWHERE = {
    "Blocks": "shuffle by blocks in a dataset, mpqueue.Dataset(source).shuffle(block=n, blocks=16)",
    "DataLoader": "use mpqueue.Loader, or mpqueue.torch.DataLoader, which takes the arguments of torch's",
    "connect": "mpqueue.Server and mpqueue.attach carry batches between programs",
    "IterableDataset": "pass a generator function to mpqueue.Loader",
    "PyDataset": "mpqueue.Sequence is the base class of sources, and mpqueue.keras.accelerate takes a Keras PyDataset",
}

__all__ = [
    "Balance",
    "BatchInfo",
    "Consumer",
    "Dataset",
    "GeneratorEnqueuer",
    "Loader",
    "OrderedEnqueuer",
    "Ragged",
    "Sequence",
    "SequenceEnqueuer",
    "Server",
    "Statistics",
    "WorkerInfo",
    "__version__",
    "attach",
    "cached",
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
        hint = f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    value = getattr(import_module(f"mpqueue.{home}"), name)
    globals()[name] = value
    return value


def _home_in_tensorflow_1(name: str) -> str | None:
    """Return the module of a name that `mpqueue.train` documents, or None."""
    try:
        from mpqueue.tf1 import root
    except ModuleNotFoundError:  # the package works without `tf1/`
        return None
    return "tf1.root" if name in root.__all__ else None


def __dir__() -> list[str]:
    return sorted({*__all__, *_FRAMEWORKS})
