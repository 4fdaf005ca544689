"""Keras 3: `model.fit`, `evaluate` and `predict` on mpqueue's workers.

Keras's own `PyDatasetAdapter` remains in control: only it knows `shuffle` and `class_weight`, and it calls the hooks.
`mpqueue.system.user_code.replacement` replaces the `OrderedEnqueuer` that the adapter makes, under that name in the
adapter's module. The replacement is active until each `install` is undone, and while any accelerated dataset exists.
Enqueuers that exist already are not changed.

The signatures of these classes decide whether a version of Keras is supported, not its number. If it is not supported,
a warning is issued, and Keras's own enqueuer runs the dataset.
"""

import functools
import inspect
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any, Unpack

import numpy as np

from mpqueue.frameworks.enqueuers.forms import backend_of, own_of
from mpqueue.frameworks.keras import backups
from mpqueue.frameworks.keras import resets as keras_resets
from mpqueue.frameworks.keras.ahead import takes_ahead
from mpqueue.frameworks.keras.loader_passes import LoaderEnqueuer, LoaderEpochs
from mpqueue.frameworks.keras.passes import PassEnqueuer
from mpqueue.loader.loader import Loader
from mpqueue.loader.session import Latest
from mpqueue.plan.options.backend_kinds import kind_of
from mpqueue.plan.options.checks import flag, integer
from mpqueue.plan.options.options import AccelerateOptions, Options, check_counts
from mpqueue.plan.options.signatures import shows_arguments
from mpqueue.plan.order.resolve import resolve
from mpqueue.plan.order.rules import check_inline
from mpqueue.plan.sources.sources import Items
from mpqueue.system.processes.cpus import num_cpus
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.user_code.extras import import_extra
from mpqueue.system.user_code.replacement import Installation, Replacement
from mpqueue.telemetry import stats
from mpqueue.worker import context
from mpqueue.worker.concurrency.async_sources import value_of

__all__ = ["accelerate", "install"]

_ADAPTER = "keras.src.trainers.data_adapters.py_dataset_adapter"

# The parameters of the adapter and its dataset in the supported versions of Keras.
_PARAMETERS = {
    "PyDatasetAdapter.__init__": ("self", "x", "class_weight", "shuffle"),
    "PyDatasetAdapter.on_epoch_begin": ("self",),
    "PyDatasetAdapter.on_epoch_end": ("self",),
    "PyDataset.__init__": ("self", "workers", "use_multiprocessing", "max_queue_size"),
}


@shows_arguments(AccelerateOptions)
def accelerate(
    py_dataset: Any,
    workers: int | None = None,
    *,
    use_multiprocessing: bool | None = None,
    max_queue_size: int | None = None,
    **options: Unpack[AccelerateOptions],
) -> Any:
    """Return a dataset for `model.fit`, `evaluate` or `predict`, e.g. ``model.fit(accelerate(train, workers=4))``.

    It returns the items of ``py_dataset``, computed ahead by workers that are kept across epochs. The hooks are called
    as in a fit without workers. Its ``workers``, ``use_multiprocessing`` and ``max_queue_size`` can be set later, as
    for every `PyDataset`. Its other attributes belong to ``py_dataset``, also if a callback sets them. A
    `mpqueue.Loader` has its own workers, options and order, which ``shuffle`` of `fit` does not change; each epoch of
    `fit` is an epoch of the loader. For other datasets, Keras draws the shuffled order, which does not depend on
    ``seed``.

    Example:
        Train a model with two workers::

            import keras
            import numpy as np
            import mpqueue

            class Lines:
                def __len__(self):
                    return 4

                def __getitem__(self, index):
                    x = mpqueue.rng().random((8, 1))
                    return x, 2 * x + 1

            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            model.compile("sgd", "mse")
            history = model.fit(mpqueue.keras.accelerate(Lines(), workers=2), epochs=2, verbose=0)
            assert len(history.history["loss"]) == 2

    Args:
        py_dataset: A `keras.utils.PyDataset`; or an object with its methods (at least ``__getitem__``, and ``__len__``
            or ``num_batches``), for which workers need not import Keras; or a `mpqueue.Loader`.
        workers: Number of workers. If None, a `mpqueue.Sequence`'s own number, or one per CPU that this process may
            use. If 0, the training loop computes each item when it needs it.
        use_multiprocessing: Use worker processes (True) or threads (False). If None, a `mpqueue.Sequence`'s own choice,
            or processes.
        max_queue_size: Number of batches computed ahead, including those being computed. A higher number absorbs slow
            batches; a lower one saves memory. If None, a `mpqueue.Sequence`'s own number, or 10.
        **options: See the signature.

    Returns:
        A `keras.utils.PyDataset`; its attribute ``source`` is ``py_dataset``.

    Raises:
        TypeError, ValueError: ``py_dataset`` is not a dataset, or an option has the wrong type or an invalid value.
        ImportError: Keras is not installed; or it is not supported, and ``py_dataset`` is a `Loader`.

    Warns:
        UserWarning: This version of Keras is not supported. Keras's own workers run the dataset.

    Follows: Keras 3's `PyDataset`.
    """
    if hasattr(workers, "__len__") or (hasattr(workers, "__array__") and not isinstance(workers, np.generic)):
        raise TypeError(
            f"accelerate needs one dataset and the number of workers, got {type(workers).__name__} as the number: "
            "arrays x and y in memory need no workers, call fit(x, y). For data that is read or computed, pass an "
            "object with __getitem__(index), which returns a batch (x, y), and __len__, which returns the number of "
            "batches"
        )
    chosen = Options.of(
        AccelerateOptions,
        options,
        "accelerate",
        ("workers", "use_multiprocessing", "max_queue_size"),
        y="arrays x and y in memory need no workers, call fit(x, y)",
        batch_size="the items of py_dataset are batches; for samples, pass mpqueue.Loader(samples, batch_size=...)",
        shuffle="pass it to fit(), or to a mpqueue.Loader",
    )
    numbers = {"workers": workers, "use_multiprocessing": use_multiprocessing, "max_queue_size": max_queue_size}
    passed = {name: value for name, value in numbers.items() if value is not None}
    return _accelerate(py_dataset.source if isinstance(py_dataset, Accelerated) else py_dataset, chosen, passed)


def _accelerate(source: Any, options: Options, passed: dict[str, Any]) -> Any:
    misfit = _find_misfit()
    if isinstance(source, Loader):
        if misfit is not None:
            raise ImportError(f"{misfit}, and Keras's own workers cannot run a Loader {_REMEDY}", name="keras")
        accelerated = _accelerated_loader(source, options, passed)
        _replacement.hold_for(accelerated)
        keras_resets.tell(accelerated)
        backups.watch(accelerated)
        return accelerated
    if options.backend is not None:
        passed = {"use_multiprocessing": kind_of(options.backend).copies_source} | passed
    if misfit is not None:  # Keras's own default: its processes would be forks of this one
        passed = {"use_multiprocessing": False} | own_of(source) | passed
    accelerated = _accelerated(source, options, passed)
    if misfit is None:
        _replacement.hold_for(accelerated)  # while it exists, Keras runs it in our workers
    else:
        _warn_of_misfit(misfit)
    return accelerated


def _accelerated(source: Any, options: Options, passed: dict[str, Any]) -> Any:
    chosen = {"workers": num_cpus(), "use_multiprocessing": True, "max_queue_size": 10} | own_of(source) | passed
    flag("use_multiprocessing", chosen["use_multiprocessing"])
    kind = backend_of(options, use_multiprocessing=bool(chosen["use_multiprocessing"]))
    workers, max_queue_size = check_counts(chosen["workers"], chosen["max_queue_size"], kind)
    made = _class_of(Accelerated)(source, options, workers, chosen["use_multiprocessing"], max_queue_size)
    if not workers:
        check_inline(options, is_asynchronous=made._resolved.uses_coroutines(batches=True))
    return made


def _accelerated_loader(loader: Loader, options: Options, passed: dict[str, Any]) -> Any:
    others = options.changed(AccelerateOptions)
    if passed or others:
        raise ValueError(f"a Loader has its own options: pass {', '.join([*passed, *others])} to the Loader instead")
    # Keras makes an enqueuer only if the dataset has workers, and the batches of a loader need one in any case.
    return _class_of(AcceleratedLoader)(loader, options, max(1, loader.workers), True, loader.max_queue_size)


def install() -> Installation:
    """Run every `PyDataset` that has workers by mpqueue's workers, without changing the program.

    After this call, ``PyDataset(workers=..., use_multiprocessing=...)`` means worker processes (or threads) of mpqueue
    wherever Keras's adapter is used: in `fit`, `evaluate`, `predict`, or code that uses `PyDatasetAdapter` itself.

    Returns:
        A context manager: leaving it undoes this installation only.

    Raises:
        ImportError: Keras is not installed.

    Warns:
        UserWarning: This version of Keras is not supported. Keras is not changed, and Keras's own workers run all
            datasets.
    """
    misfit = _find_misfit()
    if misfit is None:
        return _replacement.install()
    _warn_of_misfit(misfit)
    return Installation("mpqueue.keras")


class Accelerated:
    """Base class of the datasets that `accelerate` returns, which are also instances of `keras.utils.PyDataset`.

    Attributes that it lacks belong to the original dataset, also when they are assigned: a callback changes the
    dataset that it was given.

    Attributes:
        source: The original dataset: workers get it, and its hooks are called. You can assign a different one between
            two calls of `fit`.
    """

    _options: Options
    _workers: int
    _use_multiprocessing: bool
    _source: Any
    _resolved: Items
    _enqueuer: "Callable[[], Enqueuer | None]" = staticmethod(lambda: None)  # a weak reference to the latest enqueuer
    _latest: Latest = Latest()  # its counters, which outlive it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_source" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._source, name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(self)
        if "_source" in own and name not in own and not hasattr(type(self), name):
            setattr(self._source, name, value)
        else:
            super().__setattr__(name, value)

    # Keras makes an enqueuer only for several threads, or for processes. So both properties report the values for that.

    @property
    def workers(self) -> int:
        """Number of workers; at least 1, because Keras would compute the items itself otherwise."""
        return max(1, self._workers) if _replacement.is_held else self._workers

    @workers.setter
    def workers(self, workers: int) -> None:
        integer(0)("workers", workers)
        self._workers = workers

    @property
    def use_multiprocessing(self) -> bool:
        """True for worker processes, and for less than two threads."""
        return self._use_multiprocessing or (_replacement.is_held and self._workers < 2)

    @use_multiprocessing.setter
    def use_multiprocessing(self, use_multiprocessing: bool) -> None:
        self._use_multiprocessing = use_multiprocessing

    @property
    def source(self) -> Any:
        """The original dataset."""
        return self._source

    @source.setter
    def source(self, source: Any) -> None:
        self._use(source)
        self._source = source

    def _use(self, source: Any) -> None:
        """Prepare for another dataset.

        Raises:
            TypeError: It is not a dataset.
        """
        resolved = resolve(source, Options(), needs="index", calls_hooks=False).source
        assert isinstance(resolved, Items)
        self._resolved = resolved

    def __getitem__(self, index: int) -> Any:
        """Return the batch at position ``index``; `mpqueue.rng` returns numbers of epoch 0."""
        restore = context.keep_thread()
        try:
            context.begin_batch(self._options.seed or 0, 0, index)
            return value_of(self.source[index])
        finally:
            restore()

    def __len__(self) -> int:
        length = self.num_batches
        if length is None:
            raise TypeError(f"{type(self.source).__name__} is endless and has no length")
        return length

    @property
    def num_batches(self) -> int | None:
        """Number of batches per epoch; None: endless."""
        return self._resolved.length()

    def on_epoch_begin(self) -> None:
        """Call the dataset's own hook. Keras calls this before every epoch."""
        self._call("on_epoch_begin")

    def on_epoch_end(self) -> None:
        """Call the dataset's own hook. Keras calls this after every epoch."""
        self._call("on_epoch_end")

    def statistics(self) -> stats.Statistics:
        """Return the counters of the present or the latest `fit`; all are zero before the first."""
        enqueuer = self._enqueuer()
        return self._latest.statistics if enqueuer is None else enqueuer.statistics()

    def _call(self, hook: str) -> None:
        getattr(self.source, hook, lambda: None)()  # a Sequence of Keras 2 has no on_epoch_begin

    def __repr__(self) -> str:
        return f"<{type(self.source).__name__}, accelerated by mpqueue>"


class AcceleratedLoader(Accelerated):
    """Class of the datasets that `accelerate` returns for a `Loader`."""

    _epochs: LoaderEpochs

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"workers", "use_multiprocessing", "max_queue_size"}:
            raise AttributeError(f"a Loader has its own {name}: make another Loader, and assign it to .source")
        super().__setattr__(name, value)

    def __getitem__(self, index: int) -> Any:
        """Return one of the first batches of the next epoch, without using it up."""
        return self._epochs.peek(index)

    def _use(self, source: Any) -> None:
        if not isinstance(source, Loader):
            raise TypeError(f"expected another Loader, got {type(source).__name__}: pass it to accelerate instead")
        self._epochs = LoaderEpochs(source, takes_ahead)

    @property
    def num_batches(self) -> int | None:
        """Number of batches per epoch; None: the loader has no length."""
        return self._epochs.length

    def on_epoch_begin(self) -> None:
        """Have no effect: the loader begins its epochs itself."""

    def on_epoch_end(self) -> None:
        """End the epoch, so that the loader calls its source's hook. Keras does not request the end of an epoch."""
        self._epochs.end()

    def statistics(self) -> stats.Statistics:
        """Return the loader's counters."""
        return self._epochs.loader.statistics()


@functools.cache
def _class_of(frontend: type[Accelerated]) -> Callable[[Any, Options, int, bool, int], Any]:
    """Return the subclass of Keras's `PyDataset` with these methods."""
    py_dataset = _import_keras().utils.PyDataset

    def initialise(
        self: Any, source: Any, options: Options, workers: int, use_multiprocessing: bool, max_queue_size: int
    ) -> None:
        py_dataset.__init__(self, workers, use_multiprocessing, max_queue_size)
        self._options, self.source = options, source

    return type("AcceleratedDataset", (frontend, py_dataset), {"__init__": initialise, "__module__": __name__})


class Enqueuer(PassEnqueuer):
    """Replacement for the `OrderedEnqueuer` of Keras's adapter; see `PassEnqueuer`.

    A dataset that is not accelerated gets Keras's own enqueuer, unless an `install` is active.

    Args:
        py_dataset: The dataset of `fit`.
        *args: Arguments of `PassEnqueuer`; those about shards are passed by Keras 3.16 and later.
        **kwargs: Keyword arguments of `PassEnqueuer`.

    Raises:
        ValueError: A distribution divides the batches of a Loader, which divides its batches itself.

    Follows: ``keras.src.trainers.data_adapters.py_dataset_adapter.OrderedEnqueuer``.
    """

    def __new__(cls, py_dataset: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(py_dataset, AcceleratedLoader):
            _check_unsharded(kwargs.get("num_data_shards", 1))
            return LoaderEnqueuer(py_dataset._epochs, shuffle=kwargs.get("shuffle", False))
        if _replacement.num_installations or isinstance(py_dataset, Accelerated):
            return super().__new__(cls)
        return _replacement.replaced(py_dataset, *args, **kwargs)

    def __init__(self, py_dataset: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(py_dataset, Accelerated):
            super().__init__(py_dataset, *args, **kwargs)
        else:
            # In place of Keras's numbers, which may be positional.
            own = py_dataset._workers, py_dataset._use_multiprocessing
            for name in ("workers", "use_multiprocessing"):
                kwargs.pop(name, None)
            super().__init__(py_dataset.source, *own, *args[2:], options=py_dataset._options, **kwargs)
            py_dataset._enqueuer, py_dataset._latest = weakref.ref(self), self.latest
        self.py_dataset = py_dataset


def _check_unsharded(num_data_shards: int) -> None:
    if num_data_shards > 1:
        raise ValueError(
            f"Keras's distribution divides the batches among {num_data_shards} processes, and a Loader divides its "
            "batches itself: pass shard=(rank, number of ranks) to the Loader, and auto_shard_dataset=False to the "
            "distribution"
        )


_REPLACED = "__init__", "start", "stop", "is_running", "get"  # methods of the enqueuer that Keras calls
_REMEDY = 'without mpqueue. Keras 3.10 to 3.16 are supported: pip install "keras>=3.10,<3.17"'


def _import_keras() -> Any:
    remedy = 'pip install "mpqueue[keras,jax]" or "mpqueue[keras,tensorflow]"'
    return import_extra("keras", f"mpqueue.keras needs Keras 3: {remedy}")


def _import_adapter() -> Any:
    _import_keras()
    return import_module(_ADAPTER)


def _find_misfit() -> str | None:
    """Return how this Keras differs from the supported versions; None: it is supported."""
    keras = _import_keras()
    if _replacement.is_held:
        return None
    try:
        why = _difference(import_module(_ADAPTER))
    except ModuleNotFoundError as error:
        why = f"it has no module {error.name}"
    version = getattr(keras, "__version__", "of unknown version")
    return None if why is None else f"mpqueue.keras does not support Keras {version}: {why}"


def _warn_of_misfit(misfit: str) -> None:
    warn_caller(
        f"{misfit}. Keras's own workers run the datasets {_REMEDY}",
        UserWarning,
    )


def _difference(adapter: Any) -> str | None:
    ours = {f"OrderedEnqueuer.{name}": getattr(PassEnqueuer, name) for name in _REPLACED}
    for path, known in (_PARAMETERS | {path: _parameters_of(method) for path, method in ours.items()}).items():
        owner, method = path.split(".")
        function = getattr(getattr(adapter, owner, None), method, None)
        if not inspect.isfunction(function):
            return f"it has no {path}"
        found = _parameters_of(function)
        if found != known[: len(found)]:  # earlier versions of Keras lack the last parameters
            return f"its {path} takes ({', '.join(found)}) instead of ({', '.join(known)})"
    if "OrderedEnqueuer" not in adapter.PyDatasetAdapter.__init__.__code__.co_names:
        return "the constructor of its PyDatasetAdapter does not make an OrderedEnqueuer"
    return None


def _parameters_of(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


_replacement = Replacement("mpqueue.keras", _import_adapter, "OrderedEnqueuer", Enqueuer)
