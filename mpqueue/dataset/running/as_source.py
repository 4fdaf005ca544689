"""The source of a `mpqueue.Dataset` in a plan: its last stages become options of a loader, and options become stages.

``Loader(dataset, batch_size=32, shuffle=True)`` is ``dataset.shuffle().batch(32)``. If the last stage of an indexed
dataset makes batches, workers receive the dataset of samples before it and a `Batching`, as for any other source of
samples. They can then assemble a batch in its final memory, skip single samples, and pad the last batches of ranks.
"""

import copy
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

from mpqueue.dataset.description import nodes
from mpqueue.dataset.indexed.finding import check_ids
from mpqueue.dataset.indexed.readers import SourceNode
from mpqueue.dataset.mix.parts import part_names_of
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.dataset.running.source import GroupsSource, IndexedSource, StageCollate
from mpqueue.dataset.transformations.batch import BatchNode
from mpqueue.plan.ids.batch_info import SampleId, SampleIds
from mpqueue.plan.ids.history import Changes, History
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.backend_kinds import BackendName, kind_of
from mpqueue.plan.options.batching import Batching, RunnerKind
from mpqueue.plan.options.options import Options
from mpqueue.plan.sources.sources import CacheUse, ItemIds, Items, Source, SourceParts, cache_use, cached_methods
from mpqueue.plan.sources.stream_sources import Lanes
from mpqueue.system.user_code.object_walk import title_of


class _DatasetSource(Source):
    """A dataset as a source. The weights of its mixture may change during a run.

    Args:
        dataset: The dataset.
        runs: What workers run.
        options: The options that remain for the plan; None to use the frontend's options.
    """

    runs: IndexedSource | DatasetLanes

    def __init__(self, dataset: Any, runs: IndexedSource | DatasetLanes, options: Options | None) -> None:
        super().__init__(dataset, runs)
        self._options, self._first_root = options, runs.root  # with the weights of the description

    @cached_property
    def part_names(self) -> tuple[str | int, ...]:
        """The names of the parts of its mixtures; empty without mixtures."""
        names = part_names_of(self._first_root)
        return () if names is None else names.all()

    @property
    def caches(self) -> dict[str, CacheUse]:
        """Its caches, by name."""
        found: dict[str, CacheUse] = {}
        for stage_index, node in self._first_root.stages():
            cache, function = getattr(node, "cache", None), getattr(node, "function", None)
            if cache is not None:
                found[f"{stage_index}: {cache!r}"] = CacheUse(cache.counts, cache.release)
            elif isinstance(node, SourceNode):
                found |= {f"{stage_index}: {name}": use for name, use in cached_methods(node.source).items()}
            # Of a plain function, or of a bound method.
            elif (use := cache_use(function, getattr(function, "__self__", None))) is not None:
                found[f"{stage_index}: {title_of(function)}"] = use
        return found

    def remaining(self, options: Options) -> Options:
        """Return the options that remain for the plan."""
        return options if self._options is None else self._options

    @cached_property
    def parts(self) -> SourceParts:
        """The sources."""
        return SourceParts(self.runs.sources)

    def check_portable(self, workers: int, backend: BackendName, start_method: str) -> None:
        """Raise a `TypeError` for a function that worker processes cannot receive."""
        check_functions(self.runs.root, workers, backend, start_method)

    def checked_weights(self, weights: Any) -> Any:
        """Return new weights of the mixture as plain data: a dict by name, or a list."""
        from mpqueue.dataset.mix.mixtures import check_new_weights, mixture_of

        checked, names = check_new_weights(self.runs.root, weights), mixture_of(self.runs.root).names
        return dict(zip(names, checked, strict=True)) if isinstance(names[0], str) else list(checked)


class DatasetItems(_DatasetSource, Items):
    """An indexed dataset as a source.

    Args:
        dataset: The dataset.
        root: The stage that workers compute.
        options: The options that remain for the plan; None to use the frontend's options.
        batch: The batch stage after ``root`` that workers execute; otherwise None.
    """

    runs: IndexedSource

    def __init__(
        self, dataset: Any, root: nodes.StageNode, options: Options | None = None, batch: BatchNode | None = None
    ) -> None:
        kind = IndexedSource if root.facts.merged is None else GroupsSource
        super().__init__(dataset, kind(root, batch), options)
        self._hooks = [hook for hook in (Items(each).epoch_end() for each in self.runs.sources) if hook is not None]

    @property
    def order(self) -> str:  # type: ignore[override]  # a constant in other sources
        """A description of the order of the elements."""
        return self.runs.order()

    def form(self, batching: Batching | None) -> RunnerKind:
        """Return how workers run the source."""
        return RunnerKind.GROUPS if batching is None and self.runs.root.facts.merged else super().form(batching)

    def length_now(self) -> int | None:
        """Return the current number of elements with the weights of the description; None if endless."""
        # A state has this length. Changed weights may change the number of elements of an epoch, but a loader compares
        # the length of a state with its own before it knows the changes in that state.
        return nodes.lengths_of(self._first_root)[id(self._first_root)]

    def follow(self, history: History) -> None:
        """Use the latest weights of the mixture."""
        root = self._root_for(history)
        if root is not self.runs.root:
            self.runs.use(root)

    def check_history(self, history: History) -> None:
        """Check the weights."""
        self._root_for(history)

    def _root_for(self, history: History) -> nodes.StageNode:
        """Return the last stage, with the latest weights of the mixture."""
        root = self._first_root
        for entry in history.weights():
            from mpqueue.dataset.mix.mixtures import with_weights

            root = with_weights(root, entry["epoch"], entry["weights"], entry["at"])
        return root

    def epoch_end(self) -> Any:
        """Return a function that calls ``on_epoch_end`` of all sources, or None if no source defines it."""
        return partial(_call_all, self._hooks) if self._hooks else None

    def samples_before(self, index: int) -> int:
        """Return the number of samples of the mixture that the elements before an index use."""
        from mpqueue.dataset.mix.mixtures import samples_before

        return samples_before(self.runs.root, index)

    def most_empty(self) -> int:
        """Return twice the number of samples of all sources: then each was read about once."""
        return 2 * nodes.num_samples(self.runs.root)

    def length_in(self, epoch: int, seed: int) -> int | None:
        """Return the number of elements in an epoch, which weights of a mixture may change."""
        return self.runs.length_in(epoch, seed) if self.runs.root.facts.varies else self.length()

    @cached_property
    def ids(self) -> "DatasetIds":
        """The ids of the samples of the elements."""
        return DatasetIds(self)

    def check_ids(self, samples: SampleSet) -> None:
        """Raise a `ValueError` for a sample that no source of the dataset has."""
        check_ids(self.runs.root, samples)


class DatasetIds(ItemIds):
    """The ids of the samples that each element of an indexed dataset is made of."""

    are_indices = False

    def __init__(self, source: DatasetItems) -> None:
        super().__init__(source)
        self._runs, self._name = source.runs, source.name

    def of(
        self, indices: Sequence[Any], seed: int, epoch: int, without: frozenset[SampleId] = frozenset()
    ) -> list[SampleIds]:
        """Return the ids of the samples of each index; see `ItemIds.of`."""
        return [tuple(ids) for ids in self._runs.sample_ids(indices, seed, epoch, without)]

    def count(self) -> int | None:
        """Return the number of samples of the only source; None: several sources; their ids are tuples."""
        sources = self._runs.sources
        return Items(sources[0]).length() if len(sources) == 1 else None

    def column(self, name: str) -> Any:
        """Return a column of the only source."""
        sources = self._runs.sources
        if len(sources) > 1:
            raise ValueError(
                f"{name!r} names a column, and {self._name} has {len(sources)} sources: pass a function of the id"
            )
        return Items(sources[0]).ids.column(name)


def _call_all(hooks: Sequence[Callable[[], Any]]) -> None:
    for hook in hooks:
        hook()


class DatasetStream(_DatasetSource, Lanes):
    """A dataset that is a stream, as a source.

    Args:
        dataset: The dataset.
        root: Its last stage.
        options: The options that remain for the plan; None to use the frontend's options.
    """

    runs: DatasetLanes

    def __init__(self, dataset: Any, root: nodes.StageNode, options: Options | None = None) -> None:
        super().__init__(dataset, DatasetLanes(root), options)

    def searched(self) -> list[Any]:
        """Return the objects where the search for shared state begins, which may be deep in the tree."""
        return [self.runs, self.runs.streams]

    def no_length(self) -> str:
        """Return the message for a caller that requests the number of batches; it names the stage."""
        stage = stream_stage(self.runs.root)
        assert stage is not None
        return f"the dataset has no length: {stage.named()} makes it a stream. epoch_batches=n sets a length"

    def dropping(self, options: Options) -> str:
        """Return the stage that drops short batches, for messages; empty if none does."""
        return dropping_stage(self.runs.root)

    def check_ids(self, samples: SampleSet) -> None:
        """Raise a `ValueError` for a sample that no source of the dataset has."""
        check_ids(self.runs.root, samples)

    def identified(self) -> "DatasetStream":
        """Return a source that yields the ids of the samples of each element; see `AnyStream.identified`."""
        from mpqueue.dataset.running.lane_ids import IdLanes

        made = copy.copy(self)
        made.runs = IdLanes(self.runs.root, self.runs.changes)
        return made

    def follow(self, history: History) -> None:
        """Use the changes of a run; lanes must be opened again.

        Raises:
            TypeError, ValueError: See `check_history`.
        """
        self.runs.changes = self._checked(history.changes)

    def check_history(self, history: History) -> None:
        """Check the weights."""
        self._checked(history.changes)

    def _checked(self, changes: Changes) -> Changes:
        if not changes.weights:
            return changes
        from mpqueue.dataset.mix.mixtures import check_new_weights

        return changes._replace(weights=tuple(check_new_weights(self.runs.root, each) for each in changes.weights))


def as_source(dataset: Any, options: Options, needs: str | None) -> Source:
    """Return the source of a dataset, which also holds the options that remain for the plan.

    Args:
        dataset: The dataset.
        options: The options of the frontend.
        needs: See `mpqueue.plan.sources.recognise.recognise`.

    Raises:
        TypeError: The dataset is a stream, but a sampler requests elements by index; or the frontend does not support
            this kind of dataset.
        ValueError: The dataset already yields batches and ``batch_size`` is set, or ``shuffle=True`` for a stream.
    """
    if needs is not None:
        return _needed(dataset, needs)
    _refuse_batches_of_batches(dataset, options)
    if options.sampler is not None or options.batch_sampler is not None:
        _require_index(dataset, "a sampler requests elements by index", TypeError)
        return DatasetItems(dataset, dataset.root)
    described = dataset
    if options.shuffle:
        remedy = "; use its method shuffle(buffer=1000)"
        _require_index(dataset, "shuffle=True shuffles the whole dataset", ValueError, remedy)
        by_blocks = {} if isinstance(options.shuffle, bool | int) else vars(options.shuffle)
        described, options = described.shuffle(**by_blocks), options.replace(shuffle=False)
    if options.batch_size is not None:
        drops, collate = bool(options.drop_last), options.collate
        described = described.batch(options.batch_size, drop_last=drops, collate=collate)
        options = options.replace(batch_size=None, collate=None, drop_last=False)
    return _peel(dataset, described.root, options)


def _needed(dataset: Any, needs: str) -> Source:
    """Return the source of a dataset of batches for a frontend that supports only one kind."""
    root = dataset.root
    if needs == "index":
        require_index(root, "no batches by index, which this function requires", _TAKES_STREAMS)
        return DatasetItems(dataset, root)
    if root.is_indexed:
        raise TypeError(
            "the dataset has batches by index, but a generator source is required: pass the dataset to "
            "OrderedEnqueuer or mpqueue.Loader"
        )
    return DatasetStream(dataset, root)


_TAKES_STREAMS = "Pass a stream to mpqueue.Loader or GeneratorEnqueuer, and its Loader to mpqueue.keras.accelerate"


def _peel(dataset: Any, root: nodes.StageNode, options: Options) -> Source:
    if not root.is_indexed:
        return DatasetStream(dataset, root, options)
    if not isinstance(root, BatchNode):
        return DatasetItems(dataset, root, options)
    collate: Any = StageCollate(root) if callable(root.collate) else root.collate
    drops = bool(root.drop_last or options.drop_last)
    options = options.replace(batch_size=root.size, drop_last=drops, collate=collate)
    return DatasetItems(dataset, root.input, options, root)


def stream_stage(root: nodes.StageNode) -> nodes.Numbered | None:
    """Return the first stage that turns an indexed dataset into a stream, or None if the whole tree is indexed."""
    return None if root.is_indexed else next(stage for stage in root.stages() if not stage.node.is_indexed)


def dropping_stage(root: nodes.StageNode) -> str:
    """Return the name of the first stage that drops short batches, for messages; empty if none does."""
    dropping = (stage for stage in root.stages() if getattr(stage.node, "drop_last", False))
    return next((stage.named() for stage in dropping), "")


def require_index(root: nodes.StageNode, lack: str, remedy: str = "") -> None:
    """Raise a `TypeError` for a stream.

    Args:
        root: The last stage of the dataset.
        lack: The feature that a stream lacks, for the message.
        remedy: The remedy, for the message.
    """
    stage = stream_stage(root)
    if stage is not None:
        advice = f". {remedy}" if remedy else ""
        raise TypeError(f"the dataset has {lack}: {stage.named()} makes it a stream{advice}")


def _require_index(dataset: Any, why: str, kind: type[Exception], remedy: str = "") -> None:
    stage = stream_stage(dataset.root)
    if stage is not None:
        raise kind(f"{why}, but {stage.named()} makes the dataset a stream{remedy}")


def _refuse_batches_of_batches(dataset: Any, options: Options) -> None:
    batching = dataset.root.facts.batching
    if options.are_samples and batching is not None:
        argument = "batch_sampler" if options.batch_size is None else f"batch_size={options.batch_size}"
        raise ValueError(
            f"{argument} takes single samples, but {batching.named()} already makes batches: remove one of the two "
            "(for batches of batches: dataset.batch(n, collate=function))"
        )


def check_functions(root: nodes.StageNode, workers: int, backend: BackendName, start_method: str) -> None:
    """Raise a `TypeError` if a function of a stage cannot be pickled; forked workers inherit all functions."""
    if not workers or not kind_of(backend).copies_source or start_method == "fork":
        return
    from mpqueue.backends.sending.source_send import why_not_sent

    for stage in root.stages():
        for function in stage.node.functions():
            where, why = why_not_sent(function)
            if why:
                raise TypeError(
                    f"{stage.named()} cannot be sent to worker processes: {where} cannot be "
                    f"pickled ({why}). Create it inside the function on first use, or in `worker_init`"
                )
