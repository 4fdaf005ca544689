"""The source of a `mpqueue.Dataset`: its last stages become options of a loader, and those of a loader last stages.

``Loader(dataset, batch_size=32, shuffle=True)`` is ``dataset.shuffle().batch(32)``. Of an indexed dataset whose last
stage makes batches, the workers get the dataset of samples before it and a plan of samples, as of any other source of
samples: they join a batch where it is to lie, leave out single samples, and fill up the last batches of ranks.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from mpqueue.dataset import nodes
from mpqueue.dataset.dataset import Dataset, require_index, stream_stage
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.dataset.source import IndexedSource, StageCollate
from mpqueue.engine.backend_kinds import BackendName, kind_of
from mpqueue.engine.options import SampleOptions
from mpqueue.loader.sources import epoch_end_of
from mpqueue.workers.source_send import why_not_sent


class Unfolded(NamedTuple):
    """A source with the options that say the rest.

    Attributes:
        source: What workers run.
        options: Its options.
        shuffle: As of a `Loader`.
    """

    source: Any
    options: SampleOptions
    shuffle: bool


def unfold(source: Any, options: SampleOptions, *, shuffle: bool) -> Unfolded:
    """Return what workers run for a source and the options of a loader; what is no dataset is returned as it is.

    Raises:
        TypeError: The dataset is a stream, and a sampler asks for elements by their indices.
        ValueError: The dataset gives batches, and ``batch_size`` asks for batches of them; or a stream is to be
            shuffled as a whole.
    """
    if not isinstance(source, Dataset):
        return Unfolded(source, options, shuffle)
    _refuse_batches_of_batches(source, options)
    if options.sampler is not None or options.batch_sampler is not None:
        _require_index(source, "a sampler asks for elements by their indices")
        return Unfolded(_indexed(source.root), options, shuffle)
    if shuffle:
        _require_index(source, "shuffle=True shuffles the whole", remedy="; use its method shuffle(buffer=1000)")
        source = source.shuffle()
    if options.batch_size is not None:
        source = source.batch(options.batch_size, drop_last=bool(options.drop_last), collate=options.collate)
        options = replace(options, batch_size=None, collate=None, drop_last=False)
    return _peel(source, options)


def _peel(dataset: Dataset, options: SampleOptions) -> Unfolded:
    root = dataset.root
    if not root.is_indexed:
        return Unfolded(DatasetLanes(root), options, shuffle=False)
    if not isinstance(root, nodes.BatchNode) or root.input.length() is None:
        return Unfolded(_indexed(root), options, shuffle=False)
    collate = None if root.collate is None else StageCollate(root)
    drops = bool(root.drop_last or options.drop_last)
    plan = replace(options, batch_size=root.size, drop_last=drops, collate=collate)
    return Unfolded(_indexed(root.input, root), plan, shuffle=False)


def runnable(dataset: Dataset) -> Any:
    """Return what gives the elements of a dataset as batches: by their indices, or in lanes."""
    return _indexed(dataset.root) if dataset.root.is_indexed else DatasetLanes(dataset.root)


def items_of(source: Any) -> Any:
    """Return what gives the elements of a dataset as batches, by their indices; what is none is returned as it is.

    Raises:
        TypeError: It is a stream.
    """
    if not isinstance(source, Dataset):
        return source
    require_index(source, "no batches by index, which are asked for here", remedy="mpqueue.Loader takes streams")
    return _indexed(source.root)


def check_portable(source: Any, workers: int, backend: BackendName, start_method: str) -> None:
    """Raise a `TypeError` for a function of a dataset that worker processes cannot get, before any is started.

    Args:
        source: What workers run.
        workers: How many.
        backend: What they are.
        start_method: How they are made; those that are forked from this process have its functions as they are.
    """
    root = getattr(source, "root", None)
    if not isinstance(root, nodes.StageNode) or not workers or not kind_of(backend).in_processes:
        return
    for stage in root.stages() if start_method != "fork" else ():
        for function in stage.node.functions():
            where, why = why_not_sent(function)
            if why:
                raise TypeError(
                    f"{stage.named()} cannot be sent to worker processes: {where} cannot be "
                    f"pickled ({why}). Make it in the function itself, on first use, or in `worker_init`"
                )


def _indexed(root: nodes.StageNode, batch: nodes.BatchNode | None = None) -> IndexedSource:
    source = IndexedSource(root, batch)
    hooks = [hook for hook in map(epoch_end_of, source.sources) if hook is not None]
    if hooks:
        source.on_epoch_end = _Hooks(hooks)  # type: ignore[attr-defined]  # only a source that has one must wait for it
    return source


class _Hooks:
    """Calls the ``on_epoch_end`` of several sources."""

    def __init__(self, hooks: list[Any]) -> None:
        self._hooks = hooks

    def __call__(self) -> None:
        for hook in self._hooks:
            hook()


def _refuse_batches_of_batches(dataset: Dataset, options: SampleOptions) -> None:
    batching = dataset.root.facts.batching
    if options.are_samples and batching is not None:
        asked = "batch_sampler" if options.batch_size is None else f"batch_size={options.batch_size}"
        raise ValueError(
            f"{asked} makes batches of samples, and the dataset gives batches already, by "
            f"{batching.named().rstrip(',')}: leave out one of them (for batches of batches: dataset.batch(n, "
            "collate=function))"
        )


def _require_index(dataset: Dataset, why: str, remedy: str = "") -> None:
    stage = stream_stage(dataset.root)
    if stage is not None:
        kind = ValueError if "shuffle" in why else TypeError
        raise kind(f"{why}, and {stage.named()} makes the dataset a stream{remedy}")
