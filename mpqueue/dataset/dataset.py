"""`Dataset`: a description of samples, whose methods have the names of tf.data and Grain."""

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NoReturn, Self

from mpqueue.dataset import nodes
from mpqueue.dataset.arguments import (
    check_batch_sizes,
    check_boundaries,
    check_choice,
    check_count,
    check_file_name,
    check_flag,
    check_folder,
    check_function,
    check_range,
    check_weights,
)
from mpqueue.dataset.as_source import as_source, require_index, stream_stage
from mpqueue.dataset.binding import Caller, Constructor, JoiningMethod
from mpqueue.dataset.caches import Cache, FolderCache, MemoryCache
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.dataset.rounds import LaneRounds, PlaceRounds
from mpqueue.dataset.source import Readers, compute_aside, compute_indices
from mpqueue.memory.serialize import ByValue
from mpqueue.plan.options import Options
from mpqueue.plan.refused import check_call, is_sequence, is_torch_iterable, refuse_lookalikes
from mpqueue.plan.sources import Source
from mpqueue.system.log import warn

# What users of other libraries look for.
_ELSEWHERE = {
    "prefetch": "the engine computes batches ahead: Loader(..., max_queue_size=10) says how many",
    "interleave": "use flat_map, or Dataset.mix of several datasets",
    "padded_batch": "use batch(size, collate=...), or bucket, which puts elements of similar lengths together",
    "unbatch": "use flat_map(lambda batch: ...), which gives the elements of what a function returns",
    "rebatch": "use flat_map and batch",
    "window": "use batch(size, collate=...), or flat_map",
    "with_epoch": "use take(n), or Loader(..., epoch_batches=n)",
    "to_iter_dataset": "it is not needed: stages that make a stream may follow any other",
    "as_numpy_iterator": "iterate over the dataset itself, or over mpqueue.Loader(dataset)",
    "shard": "Loader(..., shard=(rank, number of ranks)) divides any dataset",
    "select": "use take and skip",
    "from_tensor_slices": "use Dataset(source): an array is a source of its rows",
    "from_generator": "use Dataset(function): a generator function is a source",
    "sample_from_datasets": "it is called Dataset.mix here",
}


class Dataset:
    """A description of samples: where they come from, and what is done with them.

    It holds no data and starts nothing. Each method returns a new dataset with one stage more, and leaves this one as
    it is. A `Loader` computes it, and so does everything else that takes a source.

    An *indexed* dataset has ``len``, and each element is computed by its place. A *stream* has neither; it begins where
    the number of elements is not known before they are computed: behind ``filter``, ``flat_map``,
    ``shuffle(buffer=...)``, ``pack``, ``bucket``, and with a source that is a stream itself.

    Random numbers of a stage (`mpqueue.rng`, and in worker processes the global generators) follow from the seed, the
    epoch, the place of the element before that stage, and the number of the stage. Functions may be lambdas and local
    ones: they are sent to worker processes by value.

    ``iter(dataset)`` and ``dataset[i]`` compute in this process, and give what a `Loader` with ``seed=0`` gives in its
    first epoch.

    Example:
        Squares in a shuffled order::

            import mpqueue

            squares = mpqueue.Dataset.range(100).shuffle().map(lambda x: x * x).batch(32)
            with mpqueue.Loader(squares, workers=2, seed=1) as loader:
                assert [len(batch) for batch in loader] == [32, 32, 32, 4]

    Args:
        source: An object with ``__getitem__`` and ``__len__`` (a list, an array, a dataset of torch or Hugging Face;
            its ``__getitems__`` is used where there is one): an indexed dataset. A generator function, or an object
            with ``__iter__`` only: a stream.

    Raises:
        TypeError: The source is none of these.

    Follows: ``tf.data.Dataset``, and ``grain.MapDataset`` and ``grain.IterDataset``, in one class.
    """

    __slots__ = ("_readers", "_root")

    def __init__(self, source: Any) -> None:
        self._set(_source_node(source))

    def _set(self, root: nodes.StageNode) -> None:
        self._root, self._readers = root, Readers(root)

    @classmethod
    def _of(cls, root: nodes.StageNode) -> Self:
        dataset = cls.__new__(cls)
        dataset._set(root)
        return dataset

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), ByValue(self._root))

    @property
    def root(self) -> nodes.StageNode:
        """The last stage, for the library and its tests."""
        return self._root

    def __mpqueue_source__(self, options: Options, needs: str | None) -> Source:
        """Return the source that a frontend runs, see `mpqueue.plan.resolve`."""
        return as_source(self, options, needs)

    # -- Several datasets

    @Constructor
    def range(caller: Caller, *arguments: int) -> "Dataset":  # noqa: N805 - see `mpqueue.dataset.binding`
        """Return a dataset of integers.

        Args:
            *arguments: As of Python's ``range``.

        Raises:
            TypeError: They are no integers; or this is called on a dataset, not on the class.
            ValueError: The step is zero, or there are more than 2**63 - 1 integers.

        Follows: ``tf.data.Dataset.range``.
        """
        made: Dataset = caller.of(nodes.SourceNode(source=check_range(arguments)))
        return made

    @JoiningMethod
    def zip(caller: Caller, *datasets: "Dataset") -> "Dataset":  # noqa: N805
        """Return a dataset of tuples, each of one element of each dataset.

        ``a.zip(b)`` and ``Dataset.zip(a, b)`` are the same. The result is as long as the shortest dataset.

        Args:
            *datasets: The datasets, after the one that this is called on, if any.

        Raises:
            TypeError: One argument is not a dataset.
            ValueError: There is no dataset.

        Follows: ``tf.data.Dataset.zip``.
        """
        made: Dataset = caller.of(nodes.ZipNode.reading(_roots("zip", (*caller.own, *datasets))))
        return made

    @JoiningMethod
    def concatenate(caller: Caller, *datasets: "Dataset") -> "Dataset":  # noqa: N805
        """Return a dataset of the elements of the first dataset, then of the second one, and so on.

        ``a.concatenate(b)`` and ``Dataset.concatenate(a, b)`` are the same.

        Args:
            *datasets: The datasets, after the one that this is called on, if any.

        Raises:
            TypeError: One argument is not a dataset.
            ValueError: There is no dataset.

        Follows: ``tf.data.Dataset.concatenate``.
        """
        made: Dataset = caller.of(nodes.ConcatenateNode.reading(_roots("concatenate", (*caller.own, *datasets))))
        return made

    @JoiningMethod
    def mix(
        caller: Caller,  # noqa: N805
        datasets: "Iterable[Dataset]",
        weights: Sequence[float] | None = None,
        stop: Literal["first", "all", "never"] = "first",
    ) -> "Dataset":
        """Return a dataset with the elements of several datasets, in the proportions of their weights.

        ``a.mix([b, c])`` and ``Dataset.mix([a, b, c])`` are the same.

        Elements are mixed in blocks of some hundred. In each block each dataset has its share, to the nearest element,
        and later blocks make up for the rest. The order within a block follows from the seed.

        Args:
            datasets: The datasets, after the one that this is called on, if any.
            weights: One weight for each dataset, of any sum. The first one is that of the dataset that this is called
                on. If None, all weights are equal.
            stop: "first": the mix ends with the first dataset that is used up. "all": datasets that are used up start
                again, until each was seen whole. "never": the mix has no end. A stream is used up when it is asked for
                one more element and has none. So a mix that reads a stream continues, in each lane, to the next pick
                of the stream that ends it.

        Raises:
            TypeError: One of ``datasets`` is not a dataset, or a weight is not a number.
            ValueError: There is no dataset; a weight is negative, or all are zero; ``stop`` is unknown; or a
                dataset is empty.

        Follows: ``tf.data.Dataset.sample_from_datasets`` and ``grain.MapDataset.mix``; shares are kept, not
            drawn.
        """
        if isinstance(datasets, Dataset):
            raise TypeError("mix: datasets must be a list of datasets, got one dataset")
        roots = _roots("mix", (*caller.own, *datasets))
        check_choice("mix", "stop", stop, ("first", "all", "never"))
        node = nodes.MixNode.reading(roots, weights=check_weights(weights, len(roots)), stop=stop)
        for number, root in enumerate(roots):
            # A list may have grown since its length was looked at first.
            if node.weights[number] and root.is_indexed and 0 == root.length_when_described() == root.length():
                raise ValueError(f"mix: dataset {number} is empty: leave it out, or give it the weight 0")
        made: Dataset = caller.of(node)
        return made

    # -- Stages

    def map(self, function: Callable[[Any], Any], *, threads: int = 1) -> Self:
        """Return a dataset of what a function makes of each element.

        Args:
            function: Called with an element; what it returns takes its place.
            threads: In how many threads a worker calls it, in order: more than one are for functions that wait for
                disks or networks. `mpqueue.rng` is each sample's own there; the global random generators are not set.

        Raises:
            TypeError: It is no function of one argument. While elements are computed: it returned None.
            ValueError: ``threads`` is less than one.

        Follows: ``tf.data.Dataset.map``.
        """
        check_function("map", "the function", function, "an element")
        return self._then(nodes.MapNode, function=function, threads=check_count("map", "threads", threads))

    def filter(self, keep: Callable[[Any], bool], *, threads: int = 1) -> Self:
        """Return a stream of the elements for which a function returns True.

        Args:
            keep: Called with an element; returns a bool.
            threads: In how many threads a worker calls it, in order; as of a map.

        Raises:
            TypeError: It is no function of one argument. While elements are computed: it returned no bool.
            ValueError: ``threads`` is less than one.

        Follows: ``tf.data.Dataset.filter``.
        """
        check_function("filter", "the function", keep, "an element")
        return self._then(nodes.FilterNode, function=keep, threads=check_count("filter", "threads", threads))

    def flat_map(self, function: Callable[[Any], Iterable[Any]]) -> Self:
        """Return a stream of the elements of what a function makes of each element.

        Args:
            function: Called with an element; returns an iterable, which may be empty.

        Raises:
            TypeError: It is no function of one argument. While elements are computed: it returned no iterable.

        Follows: ``tf.data.Dataset.flat_map``.
        """
        check_function("flat_map", "the function", function, "an element")
        return self._then(nodes.FlatMapNode, function=function)

    def shuffle(self, buffer: int | None = None) -> Self:
        """Return a dataset of the same elements in another order, which differs from epoch to epoch.

        Args:
            buffer: None: a permutation of the whole, of an indexed dataset only; it needs no memory. Otherwise a
                stream: so many elements are held in memory (by each lane), of which the next one is picked.

        Raises:
            TypeError: ``buffer`` is no integer.
            ValueError: ``buffer`` is less than one; or it is None, and this dataset is a stream, or has no end.

        Follows: ``tf.data.Dataset.shuffle`` with a buffer, ``grain.MapDataset.shuffle`` without one.
        """
        if buffer is not None:
            return self._then(nodes.ShuffleNode, buffer=check_count("shuffle", "buffer", buffer))
        stage = stream_stage(self._root)
        if stage is not None:
            raise ValueError(
                f"shuffle() permutes a whole indexed dataset, and {stage.named()} makes this one a stream: pass "
                "shuffle(buffer=1000), or put shuffle() before that stage"
            )
        if self._root.length_when_described() is None and self._root.length() is None:
            raise ValueError("shuffle() permutes a whole dataset, and this one has no end: put it before repeat()")
        return self._then(nodes.ShuffleNode)

    def batch(self, size: int, *, drop_last: bool = False, collate: Callable[[list[Any]], Any] | None = None) -> Self:
        """Return a dataset of batches.

        Args:
            size: Elements of a batch.
            drop_last: A last batch with fewer is left out; of a stream: those of all lanes.
            collate: Makes a batch of a list of elements; None: numbers and arrays are stacked, and dicts, tuples,
                lists, named tuples and dataclasses joined by field, as by `Loader`.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: ``size`` is less than one; or the elements are batches already, and there is no ``collate``.

        Follows: ``tf.data.Dataset.batch``; but a batch of batches is to be asked for by a ``collate`` of one's own.
        """
        return self._then(
            nodes.BatchNode, size=check_count("batch", "size", size),
            drop_last=check_flag("batch", "drop_last", drop_last), collate=self._collate_of("batch", collate),
        )  # fmt: skip

    def bucket(
        self,
        length: Callable[[Any], int],
        boundaries: Sequence[int],
        batch_sizes: Sequence[int] | None = None,
        *,
        max_tokens: int | None = None,
        drop_last: bool = False,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> Self:
        """Return a stream of batches of elements that have similar lengths.

        Args:
            length: Called with an element; returns its length.
            boundaries: Ascending lengths: the first bucket has elements below the first one, the last bucket those not
                below the last one.
            batch_sizes: One for each bucket, one more than boundaries.
            max_tokens: In place of ``batch_sizes``: those of a bucket are ``max_tokens // boundary``, with the boundary
                above it. The last bucket has none: there the greatest length in a batch counts. A longer element is
                an error in its place.
            drop_last: Batches that are short at the end are left out.
            collate: Makes a batch of a list of elements; None: arrays and lists of numbers are padded with zeros to the
                longest, and then as by `batch`.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: Boundaries that do not ascend; another number of ``batch_sizes``; both of them and
                ``max_tokens``, or neither; or the elements are batches already, and there is no ``collate``.

        Follows: ``tf.data.Dataset.bucket_by_sequence_length``.
        """
        check_function("bucket", "length", length, "an element")
        limits = check_boundaries(boundaries)
        return self._then(
            nodes.BucketNode, length_of=length, boundaries=limits,
            batch_sizes=check_batch_sizes(batch_sizes, max_tokens, len(limits)),
            max_tokens=None if max_tokens is None else check_count("bucket", "max_tokens", max_tokens),
            drop_last=check_flag("bucket", "drop_last", drop_last), collate=self._collate_of("bucket", collate),
        )  # fmt: skip

    def pack(
        self,
        length: int,
        *,
        strategy: Literal["best_fit", "concatenate"] = "best_fit",
        bins: int = 64,
        long: Literal["cut", "error", "drop"] = "cut",
    ) -> Self:
        """Return a stream of rows of one length, filled with elements that are sequences.

        Elements are arrays or lists of numbers, or dicts of these, all of one length; there may be more axes behind the
        first. A row is a dict of arrays: the fields, of a bare array ``tokens``, ``segment_ids`` (int32, from 1 on in
        each row) and ``positions`` (int32, from 0 on in each segment). What is left of a row is 0 in each of them.
        Elements without any item are left out. Each lane has rows of its own.

        Args:
            length: Of a row.
            strategy: "best_fit": an element goes whole into the open row that it fills best. "concatenate": the
                elements are one running text, which is cut into rows.
            bins: Rows that are open at a time, by each lane: more leave less padding, and need more memory.
            long: An element that is longer than a row is cut into whole rows and a rest, which is packed as any other
                ("cut"); is an error in its place ("error"); or is left out and counted ("drop").

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: ``length`` or ``bins`` is less than one; ``strategy`` or ``long`` is unknown; or a stage before
                makes batches, whose samples would become one sequence.

        Follows: ``grain.experimental.BestFitPackIterDataset`` and ``ConcatThenSplitIterDataset``.
        """
        check_choice("pack", "strategy", strategy, ("best_fit", "concatenate"))
        check_choice("pack", "long", long, ("cut", "error", "drop"))
        batching = self._root.facts.batched
        if batching is not None:
            raise ValueError(
                f"pack takes single samples, and {batching.named()} makes batches of them: "
                "the samples of a batch would become one sequence, without a boundary. Pack first: "
                f"pack({length}).batch(...). To pack the samples of a batch, take it apart before: flat_map(function)"
            )
        return self._then(
            nodes.PackNode, row_length=check_count("pack", "length", length), strategy=strategy,
            bins=check_count("pack", "bins", bins), long=long,
        )  # fmt: skip

    def repeat(self, times: int | None = None) -> Self:
        """Return a dataset of the same elements again and again.

        Each pass is an epoch of its own for the stages before: they draw other numbers, and `shuffle` gives another
        order.

        Args:
            times: How often; None: without end.

        Raises:
            TypeError: ``times`` is no integer.
            ValueError: It is negative.

        Follows: ``tf.data.Dataset.repeat``.
        """
        return self._then(nodes.RepeatNode, times=None if times is None else check_count("repeat", "times", times, 0))

    def take(self, count: int) -> Self:
        """Return a dataset of the first elements.

        Args:
            count: How many at most.

        Raises:
            TypeError: It is no integer.
            ValueError: It is negative.

        Follows: ``tf.data.Dataset.take``.
        """
        return self._then(nodes.TakeNode, count=check_count("take", "count", count, 0))

    def skip(self, count: int) -> Self:
        """Return a dataset without the first elements.

        Args:
            count: How many are left out.

        Raises:
            TypeError: It is no integer.
            ValueError: It is negative.

        Follows: ``tf.data.Dataset.skip``.
        """
        return self._then(nodes.SkipNode, count=check_count("skip", "count", count, 0))

    def enumerate(self) -> Self:
        """Return a dataset of pairs of a number, from 0 on, and the element.

        Follows: ``tf.data.Dataset.enumerate``.
        """
        return self._then(nodes.EnumerateNode)

    def cache(
        self, folder: str | os.PathLike[str] | None = None, *, name: str | None = None, max_bytes: int | None = None
    ) -> Self:
        """Return a dataset of the same elements, each of which is computed once, and kept.

        They are shared by all processes of a host: workers, and with a folder also ranks and later runs. What is before
        is computed as ``iter`` computes it, with seed 0 in epoch 0: its order and its random numbers are the same in
        each epoch, kept or not. So `shuffle` and augmentation belong behind it.

        Elements are kept as pickles; their arrays are read-only, and not copied when they are read.

        Args:
            folder: A folder of a local disk, which is made if it is not there; it keeps the elements of any number of
                datasets apart. None: memory, as long as this dataset is there or one that was made of it.
            name: Of the elements in the folder; None: it follows from the sources, and from the code of the functions
                before this stage.
            max_bytes: How many are kept at most; None: as far as there is room, of memory half of what is free.
                What is not kept is computed each time, and there is a warning.

        Raises:
            TypeError: An argument has the wrong type; or no name can be made of a source or a function.
            ValueError: ``max_bytes`` is less than one; the name is none of a file; or there is a name and no folder.
            OSError: The folder cannot be made, or cannot be written.

        Follows: ``tf.data.Dataset.cache``; but any part of it may be there, and any number of processes may use it.
        """
        return self._then(nodes.CacheNode, cache=_cache_of(self._root, folder, name, max_bytes))

    def _then(self, kind: type[nodes.LinkNode], **arguments: Any) -> Self:
        return self._of(kind.reading([self._root], **arguments))

    def _collate_of(self, stage: str, collate: Any) -> Any:
        """Return the ``collate`` of a stage that makes batches.

        Raises:
            TypeError: It is no function of one argument.
            ValueError: There is none, and the elements are batches already.
        """
        if collate is not None:
            check_function(stage, "collate", collate, "a list of elements")
            return collate
        # Two batch stages are mostly a mistake, which shows in the model only, as an axis too many.
        batching = self._root.facts.batching
        if batching is not None:
            raise ValueError(
                f"{stage} makes batches of samples, and the elements are batches already, by "
                f"{batching.named().rstrip(',')}: leave out one of them. flat_map(function) takes batches apart; for "
                f"batches of batches say how they are joined: {stage}(..., collate=function)"
            )
        return None

    # -- Elements

    def __len__(self) -> int:
        """The number of elements of an indexed dataset.

        Raises:
            TypeError: It is a stream, or has no end.
        """
        require_index(self._root, "no length", remedy="mpqueue.Loader and mpqueue.torch.DataLoader take streams")
        length = self._readers.length()
        if length is None:
            raise TypeError("the dataset has no end, and so no length: take(n) gives its first n elements")
        return length

    def __getitem__(self, index: int) -> Any:
        """The element at a place of an indexed dataset, computed here and now.

        Args:
            index: The place; a negative one counts from the end.

        Raises:
            TypeError: The dataset is a stream; or the index is no integer.
            IndexError: There is no such place.
            Exception: What a function of a stage raised.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The elements at several places, computed together: as torch's loader asks for the samples of a batch.

        Args:
            indices: The places.

        Raises:
            TypeError, IndexError, Exception: As of `__getitem__`.
        """
        require_index(self._root, "no items by index")
        return compute_indices(self._readers, indices)

    def __iter__(self) -> Iterator[Any]:
        """Compute the elements of the first epoch here, one after the other, as a `Loader` with ``seed=0`` gives them.

        Raises:
            Exception: What a function of a stage raised; the next element is the one behind it.
        """
        if stream_stage(self._root) is not None:
            return LaneRounds(DatasetLanes(self._root))
        return PlaceRounds(lambda place: compute_aside(self._readers, [place])[0], self._readers.length())

    def __getattr__(self, name: str) -> NoReturn:
        remedy = _ELSEWHERE.get(name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}" + (f": {remedy}" if remedy else ""),
            name=name, obj=self,
        )  # fmt: skip

    def __repr__(self) -> str:
        """The stages, each in a line."""
        lines = [
            f"{(1 + visit.level) * '  '}{visit.line(lambda node: node.line())}" for visit in nodes.visits(self._root)
        ]
        stage = stream_stage(self._root)
        return "\n".join([f"<{type(self).__name__}, {'indexed' if stage is None else 'a stream'}", *lines]) + ">"


def _rebuilt(kind: type[Dataset], root: nodes.StageNode) -> Dataset:
    return kind._of(root)


def _roots(stage: str, datasets: tuple[Any, ...]) -> tuple[nodes.StageNode, ...]:
    if not datasets:
        raise ValueError(f"{stage} needs at least one dataset, got none")
    for dataset in datasets:
        if isinstance(dataset, list | tuple) and dataset and all(isinstance(each, Dataset) for each in dataset):
            raise TypeError(
                f"{stage} takes datasets one by one, got a {type(dataset).__name__} of them: {stage}(*them)"
            )
        if not isinstance(dataset, Dataset):
            raise TypeError(f"{stage} takes datasets, got {type(dataset).__name__}: wrap it, mpqueue.Dataset(source)")
    return tuple(dataset.root for dataset in datasets)


def _cache_of(root: nodes.StageNode, folder: Any, name: Any, max_bytes: Any) -> Cache:
    """Return where the elements of a stage are kept."""
    most = None if max_bytes is None else check_count("cache", "max_bytes", max_bytes)
    _warn_of_one_order(root)
    if folder is None:
        if name is not None:
            raise ValueError(
                f"cache: name={name!r} names elements in a folder, and there is none: cache(folder, name=...)"
            )
        return MemoryCache(most)
    path = check_folder("cache", folder)
    if name is not None:
        return FolderCache(path, check_file_name("cache", "name", name), most)
    from mpqueue.dataset.fingerprint import fingerprint_of  # 10 ms for what it imports

    try:
        key = fingerprint_of(root)
    except Exception as error:
        raise TypeError(
            f"cache: no name can be made of what is before it ({type(error).__name__}: {error}): say one yourself, "
            "cache(folder, name=...), and another one whenever the samples or functions change"
        ) from error
    return FolderCache(path, key, most)


def _warn_of_one_order(root: nodes.StageNode) -> None:
    """Warn where a cache keeps the order of a shuffle, unless that chooses elements."""
    node = root
    # Behind another cache the order is kept already, and was warned of there.
    while isinstance(node, nodes.LinkNode) and not isinstance(node, nodes.TakeNode | nodes.SkipNode | nodes.CacheNode):
        if isinstance(node, nodes.ShuffleNode):
            stage = nodes.Numbered(node.number, node)
            warn(
                f"cache() is behind {stage.named()} so all epochs have its order of the first one: put it before",
                "Streams", "Caches",
            )  # fmt: skip
            return
        node = node.input


def _source_node(source: Any) -> nodes.StageNode:
    """Return the stage of a source.

    Raises:
        TypeError: It is none.
    """
    if isinstance(source, Dataset):
        raise TypeError("the source is a Dataset already: call its methods")
    if is_torch_iterable(source):
        return nodes.StreamNode(source=source)
    refuse_lookalikes(source, "sample")
    if is_sequence(source):
        return nodes.SourceNode(source=source)
    if hasattr(source, "__next__"):
        raise TypeError(
            f"the source is an iterator ({type(source).__name__}), which can be read once and from its beginning only: "
            "pass the generator function itself, a callable without arguments that returns a new iterator"
        )
    if inspect.isclass(source):
        raise TypeError(f"the source is the class {source.__name__}: pass an instance of it, {source.__name__}(...)")
    if callable(source):
        check_call(source)
        return nodes.StreamNode(source=source)
    if hasattr(type(source), "__iter__"):
        return nodes.StreamNode(source=source)
    raise TypeError(
        f"a source needs __getitem__ and __len__, or is a generator function, or has __iter__; got {source!r}"
    )
