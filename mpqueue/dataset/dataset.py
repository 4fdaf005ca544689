"""`Dataset`: a description of samples and their transformations, with the names of tf.data and Grain."""

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, NoReturn, Self, TypeVar, overload

from mpqueue.dataset.description import nodes
from mpqueue.dataset.description.arguments import (
    check_at_once,
    check_batch_sizes,
    check_block,
    check_boundaries,
    check_choice,
    check_count,
    check_flag,
    check_fractions,
    check_function,
    check_names,
    check_range,
    check_renames,
)
from mpqueue.dataset.description.binding import Caller, Constructor, JoiningMethod
from mpqueue.dataset.elsewhere import EQUIVALENTS
from mpqueue.dataset.indexed.aside import aside
from mpqueue.dataset.indexed.finding import find
from mpqueue.dataset.indexed.readers import SourceNode
from mpqueue.dataset.lanes.state_codes import code_of
from mpqueue.dataset.mix.weights import check_part_names, check_schedule
from mpqueue.dataset.running.as_source import as_source, require_index, stream_stage
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.dataset.running.local_iteration import LaneRounds, PositionRounds
from mpqueue.dataset.running.source import Readers, compute_aside, compute_indices
from mpqueue.dataset.source_nodes import source_node
from mpqueue.dataset.stage_requirements import cache_of, collate_of, require_finite, require_one_order
from mpqueue.dataset.transformations.batch import BatchNode
from mpqueue.dataset.transformations.bucket import BucketNode
from mpqueue.dataset.transformations.cache import CacheNode
from mpqueue.dataset.transformations.columns import ColumnsNode, Removed, Renamed, Selected
from mpqueue.dataset.transformations.concatenate import ConcatenateNode
from mpqueue.dataset.transformations.enumerate import EnumerateNode
from mpqueue.dataset.transformations.filter import FilterNode
from mpqueue.dataset.transformations.flat_map import FlatMapNode
from mpqueue.dataset.transformations.map import MapNode
from mpqueue.dataset.transformations.mix import MixNode
from mpqueue.dataset.transformations.pack.pack import PackNode
from mpqueue.dataset.transformations.repeat import RepeatNode
from mpqueue.dataset.transformations.scan import ScanNode
from mpqueue.dataset.transformations.shuffle import ShuffleNode
from mpqueue.dataset.transformations.shuffle_blocks import BlockShuffleNode, group_sizes
from mpqueue.dataset.transformations.sort import SortNode
from mpqueue.dataset.transformations.split import SplitNode, bounds_of
from mpqueue.dataset.transformations.take_skip import SkipNode, TakeNode
from mpqueue.dataset.transformations.take_while import TakeWhileNode
from mpqueue.dataset.transformations.window import WindowNode
from mpqueue.dataset.transformations.zip import ZipNode
from mpqueue.memory.serialize import ByValue
from mpqueue.plan.options.batching import Choice
from mpqueue.plan.options.checks import plain
from mpqueue.plan.options.coroutines import is_coroutine_function
from mpqueue.plan.options.options import Options
from mpqueue.plan.sources.batch_types import Batch, Item, Item_co, SourceOf
from mpqueue.plan.sources.sources import Source
from mpqueue.system.user_code.keywords import suggests_keywords, unknown_attribute
from mpqueue.system.user_code.object_walk import name_of

_State = TypeVar("_State")


@suggests_keywords
class Dataset(Generic[Item_co]):
    """A description of samples and their transformations.

    A dataset holds no data and starts no process. Each method returns a new dataset with an additional stage, and does
    not change this one. Pass it to a `Loader`, or to any other object that takes a source.

    An *indexed* dataset has a length, and each element can be computed from its index. A *stream* has neither. The
    result of ``filter``, ``flat_map``, ``shuffle(buffer=...)``, ``pack`` and ``bucket`` is a stream, because its number
    of elements is unknown before they are computed. So is a dataset whose source is a stream.

    Random numbers of a stage (`mpqueue.rng`, and in worker processes the global generators) depend on the seed, the
    epoch, the element's position before that stage, and the index of the stage. Functions can be lambdas and local
    functions: they are sent to worker processes by value.

    ``iter(dataset)`` and ``dataset[i]`` compute elements in this process. They are the elements of the first epoch of a
    `Loader` with ``seed=0``.

    Example:
        Squares in a shuffled order::

            import mpqueue

            squares = mpqueue.Dataset.range(100).shuffle().map(lambda x: x * x).batch(32)
            with mpqueue.Loader(squares, workers=2, seed=1) as loader:
                assert [len(batch) for batch in loader] == [32, 32, 32, 4]

    Args:
        source: For an indexed dataset, an object with ``__getitem__`` and ``__len__`` (a list, an array, a dataset of
            torch or Hugging Face); its ``__getitems__`` is used if present. For a stream, a generator function or an
            object that has only ``__iter__``.

    Raises:
        TypeError: The source has an unsupported type.

    Follows: ``tf.data.Dataset``, and ``grain.MapDataset`` and ``grain.IterDataset``, in one class.
    """

    __slots__ = ("_readers", "_root")

    @overload
    def __init__(self: "Dataset[Item]", source: SourceOf[Item]) -> None: ...
    @overload
    def __init__(self: "Dataset[Any]", source: Any) -> None: ...
    def __init__(self, source: Any) -> None:
        if isinstance(source, Dataset):
            raise TypeError("the source is already a Dataset: call its methods")
        self._set(source_node(source))

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
        """The last stage. Internal."""
        return self._root

    def __mpqueue_source__(self, options: Options, needs: str | None) -> Source:
        """Return the source for a frontend; see `mpqueue.plan.order.resolve`."""
        return as_source(self, options, needs)

    # -- Several datasets

    @Constructor
    def range(caller: Caller, *arguments: int) -> "Dataset[int]":  # noqa: N805 - see `mpqueue.dataset.description.binding`
        """Return a dataset of integers.

        Args:
            *arguments: The arguments of Python's ``range``.

        Raises:
            TypeError: An argument is not an integer, or this is called on a dataset instead of the class.
            ValueError: The step is zero, or there are more than 2**63 - 1 integers.

        Follows: ``tf.data.Dataset.range``.
        """
        made: Dataset[int] = caller.of(SourceNode(source=check_range(arguments)))
        return made

    @JoiningMethod
    def zip(caller: Caller, *datasets: "Dataset[Any]") -> "Dataset[Any]":  # noqa: N805
        """Return a dataset of tuples with one element of each dataset.

        ``a.zip(b)`` and ``Dataset.zip(a, b)`` are the same. The result is as long as the shortest dataset.

        Args:
            *datasets: The datasets, after the one that this is called on, if any.

        Raises:
            TypeError: One argument is not a dataset.
            ValueError: There is no dataset.

        Follows: ``tf.data.Dataset.zip``.
        """
        made: Dataset[Any] = caller.of(ZipNode.reading(_roots("zip", (*caller.own, *datasets))))
        return made

    @JoiningMethod
    def concatenate(caller: Caller, *datasets: "Dataset[Any]") -> "Dataset[Any]":  # noqa: N805
        """Return a dataset with the elements of the first dataset, then of the second, and so on.

        ``a.concatenate(b)`` and ``Dataset.concatenate(a, b)`` are the same.

        Args:
            *datasets: The datasets, after the one that this is called on, if any.

        Raises:
            TypeError: One argument is not a dataset.
            ValueError: There is no dataset.

        Follows: ``tf.data.Dataset.concatenate``.
        """
        made: Dataset[Any] = caller.of(ConcatenateNode.reading(_roots("concatenate", (*caller.own, *datasets))))
        return made

    @JoiningMethod
    def mix(
        caller: Caller,  # noqa: N805
        datasets: "Iterable[Dataset[Any]] | Mapping[str, Dataset[Any]]",
        weights: Mapping[str, float] | Sequence[float] | Sequence[tuple[int, Any]] | None = None,
        stop: Literal["first", "all", "never"] = "first",
    ) -> "Dataset[Any]":
        """Return a dataset with the elements of several datasets, in exact proportions; also ``a.mix([b, c])``.

        Example:
            Three of four elements are from the web::

                import mpqueue

                web, code = mpqueue.Dataset.range(100), mpqueue.Dataset.range(1000, 1100)
                mixed = mpqueue.Dataset.mix({"web": web, "code": code}, weights={"web": 3, "code": 1})
                assert len(mixed) == 133  # it ends when the 100 elements of "web" are used

        Args:
            datasets: The other datasets, or all of them; or a dict from names to all of them.
            weights: A weight for each, as a list or dict; or a schedule, ``[(0, weights), (1_000_000, weights), ...]``.
            stop: End at "first" exhausted dataset, when "all" were read completely, or "never".

        Raises:
            TypeError: A dataset, name, weight or sample number has the wrong type.
            ValueError: Weights or the schedule are invalid, or a dataset is missing or empty.
        """
        if isinstance(datasets, Dataset):
            raise TypeError("mix: datasets must be a list of datasets, got one dataset")
        names: tuple[str, ...] = ()
        if isinstance(datasets, Mapping):
            if caller.own:
                raise TypeError(
                    "mix: a dict names all datasets, but the dataset that mix is called on has no name: call mix on "
                    f"the class, {caller.kind.__name__}.mix({{...}})"
                )
            names, datasets = check_part_names(datasets), datasets.values()
        roots = _roots("mix", (*caller.own, *datasets))
        stop = check_choice("mix", "stop", stop, ("first", "all", "never"))
        schedule = check_schedule(weights, names or range(len(roots)))
        node = MixNode.reading(roots, weights=schedule[0][1], later=schedule[1:], stop=stop, names=names)
        for index, root in enumerate(roots):
            # A list may have grown since its length was first read.
            is_read = any(each[index] for _, each in schedule)
            if is_read and root.is_indexed and 0 == nodes.length_when_described(root) == root.length():
                name = node.part_name(index)
                raise ValueError(f"mix: dataset {name!r} is empty: leave it out, or set its weight to 0")
        made: Dataset[Any] = caller.of(node)
        return made

    # -- Stages

    @overload
    def map(
        self,
        function: Callable[[Item_co], Awaitable[Item]],
        *,
        concurrency: int | None = None,
        with_id: Literal[False] = False,
    ) -> "Dataset[Item]": ...
    @overload
    def map(
        self,
        function: Callable[[Item_co, Any], Awaitable[Item]],
        *,
        concurrency: int | None = None,
        with_id: Literal[True],
    ) -> "Dataset[Item]": ...
    @overload
    def map(
        self, function: Callable[[Item_co], Item], *, threads: int = 1, with_id: Literal[False] = False
    ) -> "Dataset[Item]": ...
    @overload
    def map(
        self, function: Callable[[Item_co, Any], Item], *, threads: int = 1, with_id: Literal[True]
    ) -> "Dataset[Item]": ...
    def map(
        self,
        function: Callable[[Any], Any] | Callable[[Any, Any], Any],
        *,
        threads: int = 1,
        concurrency: int | None = None,
        with_id: bool = False,
    ) -> "Dataset[Any]":
        """Return a dataset of the results of a function for each element.

        Args:
            function: A function of one element; with ``with_id``, of an element and the id of its sample.
            threads: Number of threads in each worker that call the function; the order does not change. Use several
                for functions that wait for disks or networks. With several threads, `mpqueue.rng` is seeded for each
                sample, and the global random generators are not.
            concurrency: The same for a coroutine function: number of elements that each worker computes at once, in its
                event loop. If None, 64.
            with_id: Call ``function(element, id)``. The id is the one that `get` takes. After `flat_map`, it names the
                sample that the item belongs to.

        Raises:
            TypeError: ``function`` does not accept these arguments. When elements are computed: it returned None.
            ValueError: ``threads`` or ``concurrency`` is less than 1, or the function needs the other one; or
                ``with_id`` is True, and a previous stage merges several samples
                (`batch`, `bucket`, `pack`, `zip`).

        Follows: ``tf.data.Dataset.map``.
        """
        takes_id = check_flag("map", "with_id", with_id)
        expected = ("an element", "the id of its sample") if takes_id else ("an element",)
        check_function("map", "the function", function, *expected, may_await=True)
        merged = self._root.facts.merged
        if takes_id and merged is not None:
            raise ValueError(
                f"map: with_id=True needs elements that are made of one sample each, and {merged.named()} merges "
                "several: put the map before that stage"
            )
        at_once = check_at_once("map", function, threads, concurrency)
        return self._changed(MapNode, function=function, with_id=takes_id, **at_once)

    def filter(
        self, keep: Callable[[Item_co], bool | Awaitable[bool]], *, threads: int = 1, concurrency: int | None = None
    ) -> Self:
        """Return a stream of the elements for which a function returns True.

        Args:
            keep: A function of one element that returns a bool.
            threads: Number of threads in each worker that call the function; see `map`.
            concurrency: The same for a coroutine function; see `map`.

        Raises:
            TypeError: ``keep`` does not accept one argument. When elements are computed: it did not return a bool.
            ValueError: ``threads`` or ``concurrency`` is less than 1, or the function needs the other one.

        Follows: ``tf.data.Dataset.filter``.
        """
        check_function("filter", "the function", keep, "an element", may_await=True)
        return self._then(FilterNode, function=keep, **check_at_once("filter", keep, threads, concurrency))

    def flat_map(self, function: Callable[[Item_co], Iterable[Item] | AsyncIterable[Item]]) -> "Dataset[Item]":
        """Return a stream of the items of the iterables that a function returns for each element.

        Args:
            function: A function of one element that returns an iterable, which may be empty; or an asynchronous
                generator function.

        Raises:
            TypeError: ``function`` does not accept one argument. When elements are computed: it did not return an
                iterable.

        Follows: ``tf.data.Dataset.flat_map``.
        """
        check_function("flat_map", "the function", function, "an element", may_await=True)
        if is_coroutine_function(function):
            raise TypeError(
                "flat_map: the function must return an iterable, or be an asynchronous generator function, and "
                f"{name_of(function)} is a coroutine function: use map(function).flat_map(list)"
            )
        return self._changed(FlatMapNode, function=function)

    def scan(self, initial: _State, function: Callable[[_State, Item_co], tuple[_State, Item]]) -> "Dataset[Item]":
        """Return a stream of results that depend on a state, such as a running sum.

        Each virtual shard has a separate state, which begins with ``initial`` in each epoch. A resume continues with
        the exact state. A stage after this one that holds elements (`shuffle`, `batch`, `pack`) stores the state once
        for each of them, so keep the state small.

        Args:
            initial: The state before the first element: None, numbers, strings, bytes, arrays, and tuples, lists and
                dicts of these.
            function: A function of the state and an element, which returns a tuple of the next state and the result.

        Raises:
            TypeError: ``function`` does not accept two arguments, or ``initial`` is not plain data. When elements are
                computed: the function did not return such a tuple, or its state is not plain data. The state then
                remains as it was before the element.

        Follows: ``tf.data.Dataset.scan``; here, each virtual shard has its own state.
        """
        check_function("scan", "the function", function, "a state", "an element")
        try:
            code_of(initial)
        except TypeError as error:
            raise TypeError(f"scan: initial must be plain data: {error}") from None
        return self._changed(ScanNode, initial=initial, function=function)

    def take_while(self, function: Callable[[Item_co], bool]) -> Self:
        """Return a stream of the elements before the first one for which a function returns False.

        Each virtual shard ends separately, at its own first such element.

        Args:
            function: A function of one element that returns a bool.

        Raises:
            TypeError: ``function`` does not accept one argument. When elements are computed: it did not return a bool.

        Follows: ``tf.data.Dataset.take_while``; here, each virtual shard ends separately.
        """
        check_function("take_while", "the function", function, "an element")
        return self._then(TakeWhileNode, function=function)

    def rename_columns(self, columns: Mapping[str, str]) -> Self:
        """Return a dataset of samples with other names for some columns.

        Samples are dicts, or batches of them.

        Args:
            columns: A dict of the old names and the new names.

        Raises:
            TypeError: ``columns`` is not a dict of strings. When elements are computed: a sample is not a dict.
            ValueError: ``columns`` is empty, or has a new name twice. When elements are computed: a sample already has
                a column with a new name.
            KeyError: When elements are computed: a sample does not have a column. The message names its columns.

        Follows: ``rename_columns`` of Hugging Face's ``datasets.Dataset``.
        """
        old, new = check_renames(columns)
        return self._then(ColumnsNode, function=Renamed(old, new))

    def select_columns(self, names: str | Iterable[str]) -> Self:
        """Return a dataset of samples with some of their columns, in this order.

        Args:
            names: The names of the columns to keep, or one name.

        Raises:
            TypeError: A name is not a string. When elements are computed: a sample is not a dict.
            ValueError: No name is given, or a name appears twice.
            KeyError: When elements are computed: a sample does not have a column. The message names its columns.

        Follows: ``select_columns`` of Hugging Face's ``datasets.Dataset``.
        """
        return self._then(ColumnsNode, function=Selected(check_names("select_columns", names)))

    def remove_columns(self, names: str | Iterable[str]) -> Self:
        """Return a dataset of samples without some of their columns.

        Args:
            names: The names of the columns to remove, or one name.

        Raises:
            TypeError: A name is not a string. When elements are computed: a sample is not a dict.
            ValueError: No name is given, or a name appears twice.
            KeyError: When elements are computed: a sample does not have a column. The message names its columns.

        Follows: ``remove_columns`` of Hugging Face's ``datasets.Dataset``.
        """
        return self._then(ColumnsNode, function=Removed(check_names("remove_columns", names)))

    def split(self, fractions: Sequence[float], seed: int = 0) -> tuple[Self, ...]:
        """Return disjoint random parts of an indexed dataset, such as for training and validation.

        The part of a sample depends only on the seed and the index of the sample. So it does not change when samples
        are appended. The sizes of the parts are therefore random, too: with 10,000 samples, a part of 0.1 has 1,000
        samples, give or take 30. Each part is indexed, and has its samples in order.

        Counting the samples of a part takes about 10 ms per million samples, once in each process.

        Args:
            fractions: The fraction of each part. Samples above their sum are left out.
            seed: The seed of the parts. It does not depend on the seed of a `Loader`.

        Raises:
            TypeError: A fraction is not a number, or ``seed`` is not an integer.
            ValueError: No fraction is given, a fraction is not positive, or their sum is above 1; this dataset is
                a stream or endless; or a previous stage changes the order in each epoch (`shuffle`, `mix`), so that
                the parts would overlap in the course of a training.

        Follows: ``torch.utils.data.random_split`` with fractions; here, appended samples do not change the parts.
        """
        ranges = bounds_of(check_fractions(fractions))
        number = check_count("split", "seed", seed, None)
        require_finite(self._root, "split")
        require_one_order(self._root, "split")
        return tuple([self._then(SplitNode, low=low, high=high, seed=number) for low, high in ranges])

    def sort(self, key: Callable[[Item_co], Any]) -> Self:
        """Return an indexed dataset of the same elements, in ascending order of a key. Equal keys keep their order.

        The key of each element is computed once, at the first use, in this process: when a `Loader` or another object
        takes the dataset, or when an element is requested. That takes the time to compute all elements. If samples are
        appended later, all keys are computed again. Elements for the keys are computed as by ``dataset[i]``.

        Args:
            key: A function of one element that returns a number, a string, or a tuple of these.

        Raises:
            TypeError: ``key`` does not accept one argument. At the first use: keys cannot be compared with each other.
            ValueError: This dataset is a stream or endless; or a previous stage changes the order in each epoch
                (`shuffle`, `mix`).
            Exception: At the first use: ``key`` or a previous stage raised it.

        Follows: ``sort`` of Hugging Face's ``datasets.Dataset``, with a function as in Python's ``sorted``.
        """
        check_function("sort", "the key", key, "an element")
        require_finite(self._root, "sort")
        require_one_order(self._root, "sort")
        return self._then(SortNode, function=key)

    def shuffle(
        self, buffer: int | None = None, *, block: int | Literal["group"] | None = None, blocks: int | None = None
    ) -> Self:
        """Return a dataset of the same elements in a random order, which differs between epochs.

        A full shuffle reads each sample from another position. By blocks of neighbours, a file is read block by block,
        and the dataset keeps its length and its index. A source with ``get_blocks(blocks)``, a list of ranges, also
        reads whole blocks. It returns their samples one after another, as an array, another object that is indexed by a
        list of positions, or a dict of these with a column for each key of a sample.

        Args:
            buffer: If None, the whole dataset is permuted, without using memory; it must be indexed. Otherwise the
                result is a stream: each virtual shard holds this number of elements in memory, and picks the next
                element from them.
            block: Number of neighbours in a block: the blocks are permuted, and then the elements of each group of
                ``blocks`` consecutive blocks. "group": the row groups of a source of `mpqueue.files`, directly before.
            blocks: Number of blocks in a group. If None, 16.

        Raises:
            TypeError: A number is not an integer.
            ValueError: A number is less than 1; or both ``buffer`` and ``block`` are given; or ``blocks`` is given
                without ``block``; or ``buffer`` is None, and
                this dataset is a stream or endless; or ``block`` is "group", and the source has no row groups,
                or the sum of their sizes is not its length.

        Follows: ``tf.data.Dataset.shuffle`` with a buffer, ``grain.MapDataset.shuffle`` without one. Blocks are as
            in ``BlockShuffling`` of scDataset.
        """
        if block is not None:
            if buffer is not None:
                raise ValueError(f"shuffle: buffer={buffer} and block={block} exclude each other: pass one")
            chosen = check_block("shuffle", block)
            blocks = 16 if blocks is None else check_count("shuffle", "blocks", blocks)
            require_finite(self._root, "shuffle", "pass shuffle(buffer=1000), or ")
            if chosen == "group":
                group_sizes(self.root)
            return self._then(BlockShuffleNode, block=chosen, blocks=blocks)
        if blocks is not None:
            raise ValueError(f"shuffle: blocks={blocks!r} is the number of blocks in a group: pass block=n, too")
        if buffer is not None:
            return self._then(ShuffleNode, buffer=check_count("shuffle", "buffer", buffer))
        require_finite(self._root, "shuffle", "pass shuffle(buffer=1000), or ")
        return self._then(ShuffleNode)

    @overload
    def batch(self, size: int, *, drop_last: bool = False, collate: Choice | None = None) -> "Dataset[Any]": ...
    @overload
    def batch(
        self, size: int, *, drop_last: bool = False, collate: Callable[[list[Item_co]], Batch]
    ) -> "Dataset[Batch]": ...
    def batch(
        self, size: int, *, drop_last: bool = False, collate: Callable[[list[Any]], Any] | Choice | None = None
    ) -> "Dataset[Any]":
        """Return a dataset of batches.

        Args:
            size: Number of elements per batch.
            drop_last: Drop a last batch with fewer elements; in a stream, the last batch of each virtual shard.
            collate: A function that makes a batch from a list of elements. If None, numbers and arrays are stacked, and
                dicts, tuples, lists, named tuples and dataclasses are combined by field, as in `Loader`. "ragged", or a
                mapping such as ``{"tokens": "ragged"}``: arrays of different lengths are joined to a `mpqueue.Ragged`,
                as in `Loader`.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: ``size`` is less than 1; or the elements are already batches, and ``collate`` is not a function;
                or it is another string.

        Follows: ``tf.data.Dataset.batch``, except that batches of batches need a ``collate``.
        """
        size, drop_last = check_count("batch", "size", size), check_flag("batch", "drop_last", drop_last)
        collate = collate_of(self._root, "batch", collate)
        return self._changed(BatchNode, size=size, drop_last=drop_last, collate=collate)

    @overload
    def bucket(
        self,
        length: Callable[[Item_co], int],
        boundaries: Sequence[int],
        batch_sizes: Sequence[int] | None = None,
        *,
        max_tokens: int | None = None,
        drop_last: bool = False,
        collate: Choice | None = None,
    ) -> "Dataset[Any]": ...
    @overload
    def bucket(
        self,
        length: Callable[[Item_co], int],
        boundaries: Sequence[int],
        batch_sizes: Sequence[int] | None = None,
        *,
        max_tokens: int | None = None,
        drop_last: bool = False,
        collate: Callable[[list[Item_co]], Batch],
    ) -> "Dataset[Batch]": ...
    def bucket(
        self,
        length: Callable[[Any], int],
        boundaries: Sequence[int],
        batch_sizes: Sequence[int] | None = None,
        *,
        max_tokens: int | None = None,
        drop_last: bool = False,
        collate: Callable[[list[Any]], Any] | Choice | None = None,
    ) -> "Dataset[Any]":
        """Return a stream of batches of elements that have similar lengths.

        Args:
            length: A function of one element that returns its length.
            boundaries: Ascending lengths. The first bucket has elements below the first boundary, the last bucket
                elements not below the last boundary.
            batch_sizes: A batch size for each bucket; one more than boundaries.
            max_tokens: Replaces ``batch_sizes``: the batch size of a bucket is ``max_tokens // boundary``, with its
                upper boundary. For the last bucket, the greatest length in a batch counts. A longer element raises an
                error.
            drop_last: Drop incomplete batches at the end.
            collate: A function that makes a batch from a list of elements. If None, arrays and lists of numbers are
                padded with zeros to the longest, and then combined as in `batch`. "ragged", or a mapping such as
                ``{"tokens": "ragged"}``: arrays are joined to a `mpqueue.Ragged` instead of padded.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: Boundaries do not ascend; the number of ``batch_sizes`` is wrong; ``batch_sizes`` and
                ``max_tokens`` are both given, or neither; or the elements are already batches, and ``collate`` is not
                a function.

        Follows: ``tf.data.Dataset.bucket_by_sequence_length``.
        """
        check_function("bucket", "length", length, "an element")
        limits = check_boundaries(boundaries)
        return self._changed(
            BucketNode,
            length_of=length,
            boundaries=limits,
            batch_sizes=check_batch_sizes(batch_sizes, max_tokens, len(limits)),
            max_tokens=None if max_tokens is None else check_count("bucket", "max_tokens", max_tokens),
            drop_last=check_flag("bucket", "drop_last", drop_last),
            collate=collate_of(self._root, "bucket", collate),
        )

    def pack(
        self,
        length: int,
        *,
        strategy: Literal["best_fit", "concatenate"] = "best_fit",
        bins: int | None = None,
        long: Literal["cut", "error", "drop"] = "cut",
        whole: Iterable[Any] = (),
    ) -> "Dataset[dict[str, Any]]":
        """Return a stream of rows of one length, filled with elements that are sequences.

        Elements are arrays or lists of numbers, or dicts of these, all with one length; more axes after the first are
        allowed. A row is a dict of arrays: the fields (``tokens`` for plain arrays), ``segment_ids`` (int32, from 1 in
        each row) and ``positions`` (int32, from 0 in each segment). Padding is 0 in all of them. Empty elements are
        left out. Each virtual shard has its own rows.

        Args:
            length: Length of a row.
            strategy: "best_fit": an element goes whole into the open row that it fills best. "concatenate": the
                concatenation of all elements is cut into rows.
            bins: Number of open rows per virtual shard. More rows reduce padding and need more memory. If None, 64.
            long: Treatment of an element that is longer than a row. "cut": it is cut into whole rows and a rest, which
                is packed like other elements. "error": it raises an error. "drop": it is dropped and counted.
            whole: Names of fields that describe an element as a whole, such as its image or its name. A row has their
                values in the order of its segments: arrays and numbers as a `mpqueue.Ragged`, other objects as a list.
                `batch` joins them in the order of all segments of the batch. An element that is cut has its values in
                each segment.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: ``length`` or ``bins`` is less than 1; ``strategy`` or ``long`` is unknown; ``whole`` or
                ``bins`` is used with ``strategy="concatenate"``, which cuts elements, and has one open row; or a
                previous stage makes batches, whose samples would become one sequence.

        Follows: ``grain.experimental.BestFitPackIterDataset`` and ``ConcatThenSplitIterDataset``.
        """
        strategy = check_choice("pack", "strategy", strategy, ("best_fit", "concatenate"))
        long = check_choice("pack", "long", long, ("cut", "error", "drop"))
        if isinstance(whole, str | bytes) or not isinstance(whole, Iterable):
            raise TypeError(f"pack: whole must be names of fields, such as ('image', 'name'), got {whole!r}")
        names = tuple(map(plain, whole))
        if names and strategy == "concatenate":
            raise ValueError(
                f"pack: whole={names} describes documents as a whole, and strategy='concatenate' cuts documents: use "
                "strategy='best_fit'"
            )
        if bins is not None and strategy == "concatenate":
            raise ValueError(
                f"pack: bins={bins!r} is the number of open rows, and strategy='concatenate' has one: leave out bins, "
                "or use strategy='best_fit'"
            )
        batching = self._root.facts.batched
        if batching is not None:
            raise ValueError(
                f"pack takes single samples, and {batching.named()} makes batches of them: "
                "the samples of a batch would become one sequence, without a boundary. Pack first: "
                f"pack({length}).batch(...). To pack the samples of a batch, split it first: flat_map(function)"
            )
        row_length = check_count("pack", "length", length)
        bins = check_count("pack", "bins", 64 if bins is None else bins)
        return self._changed(PackNode, row_length=row_length, strategy=strategy, bins=bins, long=long, whole=names)

    def repeat(self, times: int | None = None) -> Self:
        """Return a dataset that repeats the elements.

        Each repetition is a separate epoch for the previous stages: they draw other random numbers, and `shuffle`
        returns another order.

        Args:
            times: Number of repetitions. If None, the dataset is endless.

        Raises:
            TypeError: ``times`` is not an integer.
            ValueError: It is negative.

        Follows: ``tf.data.Dataset.repeat``.
        """
        return self._then(RepeatNode, times=None if times is None else check_count("repeat", "times", times, 0))

    def take(self, count: int) -> Self:
        """Return a dataset of the first elements.

        Args:
            count: Maximum number of elements.

        Raises:
            TypeError: ``count`` is not an integer.
            ValueError: It is negative.

        Follows: ``tf.data.Dataset.take``.
        """
        return self._then(TakeNode, count=check_count("take", "count", count, 0))

    def skip(self, count: int) -> Self:
        """Return a dataset without the first elements.

        Args:
            count: Number of elements to skip.

        Raises:
            TypeError: ``count`` is not an integer.
            ValueError: It is negative.

        Follows: ``tf.data.Dataset.skip``.
        """
        return self._then(SkipNode, count=check_count("skip", "count", count, 0))

    def window(self, size: int, stride: int | None = None, *, drop_last: bool = False) -> "Dataset[list[Item_co]]":
        """Return a dataset of lists of neighbouring elements, which may overlap.

        If the dataset is a stream, a window has elements of one virtual shard only.

        Args:
            size: The number of elements in a window.
            stride: The number of elements between the beginnings of two windows, at most ``size``; None means
                ``size``, so that no element is in two windows.
            drop_last: Whether to drop the windows at the end that have fewer elements.

        Returns:
            A dataset with an index if this one has an index, otherwise a stream.

        Raises:
            TypeError: ``size`` or ``stride`` is not an integer.
            ValueError: ``size`` or ``stride`` is below 1, or ``stride`` is above ``size``.

        Follows: ``tf.data.Dataset.window``, whose ``shift`` is ``stride`` here, with lists for datasets.
        """
        size = check_count("window", "size", size, 1)
        stride = size if stride is None else check_count("window", "stride", stride, 1)
        if stride > size:
            raise ValueError(
                f"window: stride must be at most size={size}, because a larger one would leave out elements, got "
                f"{stride}: use map and filter to leave out elements"
            )
        return self._changed(
            WindowNode, size=size, stride=stride, drop_last=check_flag("window", "drop_last", drop_last)
        )

    def enumerate(self) -> "Dataset[tuple[int, Item_co]]":
        """Return a dataset of pairs of an index, from 0, and the element.

        Follows: ``tf.data.Dataset.enumerate``.
        """
        return self._changed(EnumerateNode)

    def cache(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        max_bytes: int | str | None = None,
    ) -> Self:
        """Return a dataset of the same elements, each of which is computed once and then cached.

        All processes of a host share the cache: workers, and with a folder also ranks and later runs. The previous
        stages are computed as by ``iter``, with seed 0 in epoch 0. Their order and random numbers are the same in each
        epoch, cached or not. So put `shuffle` and augmentation after it.

        Elements are stored as pickles. Their arrays are read-only, and not copied when they are read.

        Args:
            folder: A folder of a local disk, which is created if needed. Several datasets can share it. If None,
                elements are cached in memory, while this dataset or a dataset made from it exists.
            name: Name of the elements in the folder. If None, it is derived from the sources, and from the code of the
                functions before this stage.
            max_bytes: Maximum size of all caches in the folder, in bytes or as a part of its file system, such as
                ``"20%"``. The smallest one of all running processes holds. Elements of other caches make room for new
                ones, the least recently opened cache first, unless a running process uses that cache. Elements that do
                not fit are computed each time, with a warning. If None, the free space limits the folder. In memory, it
                is the maximum size of this cache in bytes, by default half of the free memory.

        Raises:
            TypeError: An argument has the wrong type; or no name can be derived from a source or a function.
            ValueError: ``max_bytes`` is less than 1 or another string, or is a percentage without a folder; ``name`` is
                not a valid file name; or there is a name and no folder.
            OSError: The folder cannot be created or written.

        Follows: ``tf.data.Dataset.cache``; in addition, a cache can be incomplete, and several processes can use it.
        """
        return self._then(CacheNode, cache=cache_of(self._root, folder, name, max_bytes))

    def _then(self, kind: type[nodes.LinkNode], **arguments: Any) -> Self:
        return self._of(kind.reading([self._root], **arguments))

    def _changed(self, kind: type[nodes.LinkNode], **arguments: Any) -> "Dataset[Any]":
        """Return the result of `_then` for a stage that changes the type of the elements."""
        return self._then(kind, **arguments)

    # -- Samples

    def get(self, sample_id: Any) -> Any:
        """Return a sample of the source by its id, before any stage.

        Use it to look at the samples of a batch. The id of a sample is its index in the source. If the dataset reads
        several datasets (`mix`, `zip`, `concatenate`), the index of the part, or its name, precedes it: ``(1, 17)``,
        or ``(0, 1, 17)`` for a part that itself has parts.

        Args:
            sample_id: The id, as `map` with ``with_id`` passes it. A list is accepted in place of a tuple.

        Raises:
            TypeError: The id does not have this form: an integer is a bool, a float or a string, for example.
            ValueError: The part does not exist.
            LookupError: The source has no such sample, or is a stream, which has no samples by id.
            Exception: The source raised it.
        """
        found = find(self._root, sample_id)
        with aside() as run:
            return found.read(run)

    def locate(self, sample_id: Any) -> Any:
        """Return the location of a sample in a file.

        The source must have a method ``locate(index)``, as the sources of `mpqueue.files` have.

        Args:
            sample_id: The id, as `get` takes it.

        Returns:
            A `mpqueue.files.Location`: ``path``, ``row``, and ``start`` and ``stop`` in bytes if known.

        Raises:
            TypeError: The id does not have the form of this dataset's ids.
            ValueError: The part does not exist.
            LookupError: The source has no such sample, is a stream, or has no method ``locate``.
        """
        found = find(self._root, sample_id)
        method = getattr(found.node.source, "locate", None)
        if not callable(method):
            raise LookupError(  # noqa: TRY004 - the id has the right type, but its sample has no location
                f"the source ({found.node.line()}) has no method locate(index): only samples of files have a location, "
                "as those of mpqueue.files"
            )
        return method(found.position)

    # -- Elements

    def __len__(self) -> int:
        """Return the number of elements of an indexed dataset.

        Raises:
            TypeError: The dataset is a stream or endless.
        """
        require_index(self._root, "no length", remedy="mpqueue.Loader and mpqueue.torch.DataLoader take streams")
        length = self._readers.length()
        if length is None:
            raise TypeError(
                "the dataset is endless and has no length: take(n) sets one, and epoch_batches=n that of a Loader of a "
                "stream"
            )
        return length

    def __getitem__(self, index: int) -> Item_co:
        """Compute an element of an indexed dataset in this process.

        Args:
            index: Index of the element; a negative index counts from the end.

        Raises:
            TypeError: The dataset is a stream, or the index is not an integer.
            IndexError: The index is out of range.
            Exception: A function of a stage raised it.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item_co]:
        """Compute several elements together, as torch's loader requests the samples of a batch.

        Args:
            indices: Indices of the elements.

        Raises:
            TypeError, IndexError, Exception: See `__getitem__`.
        """
        require_index(self._root, "no items by index")
        return compute_indices(self._readers, indices)

    def __iter__(self) -> Iterator[Item_co]:
        """Compute the elements of the first epoch in this process, as a `Loader` with ``seed=0`` returns them.

        Raises:
            Exception: A function of a stage raised it; the next element is the one after it.
        """
        if stream_stage(self._root) is not None:
            return LaneRounds(DatasetLanes(self._root))
        return PositionRounds(lambda position: compute_aside(self._readers, [position])[0], self._readers.length())

    def __getattr__(self, name: str) -> NoReturn:
        raise unknown_attribute(self, name, EQUIVALENTS.get(name))

    def __repr__(self) -> str:
        """Show each stage in a line."""
        lines = [f"{(1 + visit.level) * '  '}{visit.line(visit.node.line())}" for visit in nodes.visits(self._root)]
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
