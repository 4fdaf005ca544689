"""`DataLoader`: torch's DataLoader with mpqueue's workers."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, overload

from torch.utils import data
from torch.utils.data.dataloader import _DatasetKind

from mpqueue.frameworks.torch.checks import has_own_workers, reject_concurrency, reject_threads
from mpqueue.frameworks.torch.inline import InlineIterator
from mpqueue.frameworks.torch.inline_streams import InlineStreamIterator, LeftPass, left_pass
from mpqueue.frameworks.torch.iterator import PassIterator
from mpqueue.frameworks.torch.lightning_epochs import is_at_end_of_epoch
from mpqueue.frameworks.torch.order import between_passes, questions, state
from mpqueue.frameworks.torch.order.accelerate import is_inside_step, keep_state_of_first_rank
from mpqueue.frameworks.torch.order.balance import BalancedBatches, balance_batches, with_balance
from mpqueue.frameworks.torch.order.ranks import stream_order
from mpqueue.frameworks.torch.source.streams import StreamDataset, as_torch_dataset
from mpqueue.frameworks.torch.tensors.ragged import ragged_collate
from mpqueue.plan.options.backend_kinds import COPYING
from mpqueue.plan.options.balance import Balance, check_balance
from mpqueue.plan.options.checks import integer
from mpqueue.plan.options.options import Options
from mpqueue.plan.order.rules import check_backend
from mpqueue.plan.sources.batch_types import Batch, Batch_co, Indexed, Item, MaybeNone
from mpqueue.system.user_code.keywords import unknown_keyword
from mpqueue.telemetry.stats import Statistics

if TYPE_CHECKING:
    from mpqueue.plan.ids.batch_info import BatchInfo


# Arguments in addition to torch's.
_FIXED = frozenset({"shard", "lanes", "epoch_batches", "threads", "concurrency", "balance", "backend", "ray_options"})


def make_iterator(loader: Any, otherwise: Callable[[], Any]) -> Any:
    """Return an iterator for a loader of torch.

    Args:
        loader: The loader.
        otherwise: Makes torch's own iterator, for a dataset that mpqueue's workers cannot run.
    """
    keep_state_of_first_rank(loader)
    if not isinstance(loader.dataset, StreamDataset):
        # A state of several lanes needs the same number of lanes, also without workers. The inline iterators have one.
        if loader.num_workers == 0 and between_passes.lanes_of(loader) == 1:
            is_stream = loader._dataset_kind == _DatasetKind.Iterable
            return (InlineStreamIterator if is_stream else InlineIterator)(loader)
        if has_own_workers(loader):
            return between_passes.begin_unknown(loader, otherwise)
        loader.check_worker_number_rationality()
    return PassIterator(loader)


class DataLoader(data.DataLoader[Any], Generic[Batch_co]):  # type: ignore[misc]  # torch is not type-checked
    """A `torch.utils.data.DataLoader` that returns batches through mpqueue's shared memory.

    It has the arguments and checks of torch's DataLoader, and returns the same batches in the same order for the same
    ``torch.manual_seed`` or ``generator``. Only the workers differ. A `mpqueue.Dataset` that is a stream returns the
    same batches with any ``num_workers``, and can be resumed within an epoch with any ``num_workers``.

    Example:
        As with torch's DataLoader::

            import torch
            import mpqueue

            data = torch.utils.data.TensorDataset(torch.arange(8.0))
            loader = mpqueue.torch.DataLoader(data, batch_size=4, num_workers=2)
            assert [float(batch.sum()) for batch, in loader] == [6, 22]

    Args:
        dataset: A dataset of torch, or a `mpqueue.Dataset`.
        *args: Arguments of torch's DataLoader.
        shard: For a stream: (rank, number of ranks); this loader returns the lanes of its rank. "auto": as
            torch.distributed reports them, or RANK and WORLD_SIZE. All ranks need a ``generator`` with the same seed.
        lanes: Number of virtual shards of a stream, over all ranks. The order depends only on the generator and this
            number, so a state can be resumed with any ``num_workers``, and with any number of ranks that divides it. If
            None, 16 (or the smallest multiple of the number of ranks above 16).
        epoch_batches: Number of batches per epoch and rank for a stream, which is then the length of the loader. The
            stream repeats as needed, and the next epoch continues where this one stopped. If None, an epoch ends when
            the stream ends.
        threads: Number of threads in which a worker computes the samples of a batch, for map-style datasets that wait
            for disks or networks. `mpqueue.rng` is separate for each sample; torch's generator, which threads share, is
            seeded once per batch.
        concurrency: Number of samples that each worker computes at once, for a map-style dataset with ``async def
            __getitem__`` or ``async def __getitems__``. If None, 64.
        balance: A `mpqueue.Balance`: how the samples of each step are divided among all ranks, so that all ranks have
            equal work. For batches of a map-style dataset. Several ranks need a ``sampler`` that is torch's
            `DistributedSampler`. The ids of the samples are the indices of the dataset.
        backend: "process", or "ray": the workers run on the nodes of a Ray cluster.
        ray_options: With ``backend="ray"``, a dict with ``num_cpus`` and ``resources`` (of each worker),
            ``scheduling_strategy``, ``runtime_env``, and ``deadline_s`` (how long a node may be silent).
        **options: Keyword arguments of torch's DataLoader. ``collate_fn`` may also be "ragged": tensors, arrays and
            lists of numbers become a `mpqueue.Ragged` of two tensors, and sparse rows a CSR tensor. A mapping such as
            ``{"tokens": "ragged"}`` does so for some fields.

    Raises:
        TypeError, ValueError: As torch's DataLoader; or `ray_options` is invalid; or
            ``threads`` is used without workers, without batches, or with an unsuitable dataset; or ``concurrency`` with
            a dataset that is not asynchronous; or ``collate_fn`` is another string, or "ragged" without batches; or
            ``shard``, ``lanes`` or ``epoch_batches`` is used without a stream; or ranks lack a generator; or
            ``balance`` is not a `Balance`, does not fit the dataset, or is used with an iterable-style dataset, without
            batches, with a ``batch_sampler``, without an order, or with a sampler of one rank that is not torch's.
        ImportError: The backend is "ray", and Ray is not installed.
    """

    num_lanes = 0  # streams of an iterable-style dataset, from a loaded state; 0: one per worker
    resumed: state.State | None = None  # where the next pass resumes; taken by its iterator
    is_unknown = False  # torch's own workers have started a pass, and its position is unknown
    _passes: questions.LoaderRun | None = None  # the passes, and the samples that they exclude
    _pass: state.Pass | None = None  # the latest pass
    _left_pass: LeftPass | None = None  # the pass of the loader that this one is a copy of

    if TYPE_CHECKING:  # torch's own annotation has the type of a sample, and its iterator returns any type

        def __iter__(self) -> Iterator[Batch_co]: ...

    @overload
    def __init__(
        self: "DataLoader[Batch]",
        dataset: Indexed[Item],
        *args: Any,
        collate_fn: Callable[[list[Item]], Batch],
        shard: tuple[int, int] | Literal["auto"] | None = None,
        lanes: int | None = None,
        epoch_batches: int | None = None,
        threads: int = 1,
        concurrency: int | None = None,
        balance: Balance | None = None,
        backend: Literal["process", "ray"] = "process",
        ray_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None: ...
    @overload
    def __init__(
        self: "DataLoader[Item]",
        dataset: Indexed[Item],
        batch_size: None,
        *args: Any,
        shard: tuple[int, int] | Literal["auto"] | None = None,
        lanes: int | None = None,
        epoch_batches: int | None = None,
        threads: int = 1,
        concurrency: int | None = None,
        balance: Balance | None = None,
        backend: Literal["process", "ray"] = "process",
        ray_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None: ...
    @overload
    def __init__(
        self: "DataLoader[Any]",
        dataset: Any,
        *args: Any,
        shard: tuple[int, int] | Literal["auto"] | None = None,
        lanes: int | None = None,
        epoch_batches: int | None = None,
        threads: int = 1,
        concurrency: int | None = None,
        balance: Balance | None = None,
        backend: Literal["process", "ray"] = "process",
        ray_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None: ...
    def __init__(
        self,
        dataset: Any,
        *args: Any,
        shard: tuple[int, int] | Literal["auto"] | None = None,
        lanes: int | None = None,
        epoch_batches: int | None = None,
        threads: int = 1,
        concurrency: int | None = None,
        balance: Balance | None = None,
        backend: Literal["process", "ray"] = "process",
        ray_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        given = options.get("batch_sampler")
        if isinstance(given, BalancedBatches):  # Lightning makes a loader again, with another sampler
            args, balance = args[1:], given.balance if balance is None else balance
            options |= {"batch_sampler": None, **{n: getattr(given, n) for n in ("sampler", "batch_size", "drop_last")}}
        # In a class with several bases, the next one may have more arguments than torch's DataLoader.
        known = inspect.signature(super().__init__).parameters
        if not any(each.kind is each.VAR_KEYWORD for each in known.values()):
            for name in options:
                if name not in known:
                    raise unknown_keyword("DataLoader", name, {*known, *inspect.signature(DataLoader).parameters})
        if backend not in COPYING:
            raise ValueError(f'backend must be "process" or "ray", got {backend!r}')
        check_backend(backend, Options(ray_options=ray_options))
        if balance is not None:
            check_balance(balance)
        integer(1)("threads", threads)
        integer(1, or_none=True)("concurrency", concurrency)
        self.backend, self.ray_options, self.threads, self.concurrency = backend, ray_options, int(threads), concurrency
        self.balance = balance
        dataset = as_torch_dataset(dataset)
        self.stream_order = stream_order(dataset, options.get("generator"), shard, lanes, epoch_batches)
        super().__init__(dataset, *args, **options)
        collate_fn: Any = self.collate_fn  # type: ignore[has-type]
        if isinstance(collate_fn, str | Mapping):
            self.collate_fn = ragged_collate(self)
        if self.threads > 1:
            reject_threads(self)
        if concurrency is not None:
            reject_concurrency(self)
        if balance is not None:
            balance_batches(self, balance)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and vars(self).get("_DataLoader__initialized"):  # as torch does for its own arguments
            raise ValueError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized: make another "
                f"DataLoader with {name}={value!r}"
            )
        super().__setattr__(name, value)

    def __len__(self) -> int:
        """Return the number of batches per epoch.

        Raises:
            TypeError: The number is unknown.
        """
        if self.stream_order is not None and self.stream_order.epoch_batches is not None:
            return self.stream_order.epoch_batches
        return int(super().__len__())

    def _get_iterator(self) -> Any:
        return make_iterator(self, super()._get_iterator)

    def note_pass(self, begun: state.Pass) -> None:
        """Store the latest pass; called by its iterator.

        Args:
            begun: The pass.
        """
        if self._passes is None:
            self._passes = questions.LoaderRun()
        self._passes.begin(begun)
        self._pass, self._left_pass = begun, None

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the latest pass, for `load_state_dict` of a loader of the same dataset.

        Returns:
            Plain data. It contains the state of a generator, but no data of the dataset. It can be pickled, and loaded
            into a loader with another number of workers. If Lightning's trainer requests it at the last batch of an
            epoch, it is the position before the next pass. Torch's own workers, which run data pipes, report no
            position: `load_state_dict` warns that the pass begins from its start.
        """
        if self.resumed is not None:
            # Loaded, without a pass since then: the position is unchanged.
            return self.resumed.as_dict() | questions.saved(self)
        if self._pass is None:
            return between_passes.new(self).as_dict() | questions.saved(self)
        begun = self._pass
        if begun.before_step is not None and not begun.is_over and is_inside_step(self, begun.batches.num_returned):
            return dict(begun.before_step)
        found = begun.before_step = begun.as_dict(is_left=is_at_end_of_epoch()) | questions.saved(self)
        return dict(found)  # a copy, because Accelerate modifies it

    def load_state_dict(self, saved: dict[str, Any] | Sequence[dict[str, Any]]) -> None:
        """Resume from a state: the next ``for`` loop returns the batches after its position.

        The trainer's own random numbers do not change.

        Args:
            saved: A state from `state_dict`; an empty dict: the next pass begins from the start. For a stream with
                ranks: the state of this rank, if the number of ranks is unchanged; or a list of the states of all ranks
                at one moment, in any order.

        Raises:
            ValueError: It is not such a state; or it was saved for another kind of dataset, other stages, ``lanes`` or
                ``epoch_batches``, or within a pass with a different order, batch size or balance; or the states of some
                ranks are missing or repeated; or the dataset has ``state_dict`` but not ``load_state_dict``; or it was
                saved within a pass, and torch's own workers run this loader. The next ``for``
                raises it if the sampler returns other indices than before, or a stream ends before the position.
            StateDamaged: The state has changed since it was saved, and can no longer be read.

        Follows: ``torchdata.stateful_dataloader.StatefulDataLoader``.
        """
        if saved == {}:
            left = left_pass(self)
            if left is not None:
                left.release()
            self.resumed = self._pass = self._left_pass = self._passes = None
            self.is_unknown = False
            return
        all_saved: list[Any] = list(saved) if isinstance(saved, list | tuple) else [saved]
        states = list(map(state.state_of, all_saved))
        for read, each in zip(states, all_saved, strict=True):
            state.check_fit(self, read, each)
        self.resumed = state.joined(states, getattr(self, "stream_order", None))
        self._passes = questions.loaded(self, all_saved[0])
        self.is_unknown = False
        if has_own_workers(self):
            self._iterator = None  # torch's persistent workers

    @property
    def last(self) -> "BatchInfo | MaybeNone":
        """The position and the samples of the batch that the latest pass returned last.

        ``epoch`` is the index of the pass, and ``step`` the number of batches that this loader returned before. None
        before the first batch of a pass, and after `load_state_dict`. The samples are the sampler's keys, or the ids of
        a `mpqueue.Dataset`, or pairs ``(worker, index)`` of an iterable-style dataset. They are computed on first
        access, so a loop that does not read them has no cost. A stream is then run again, from its nearest snapshot.
        An iterable-style dataset is iterated again only for the last batch of a worker: the trainer does not know its
        size.

        Raises:
            LookupError: Torch's own workers run the dataset. At the first access of the samples: the dataset returns
                other elements when it is iterated again.
        """
        return questions.last(self)

    def explain(self, epoch: int, batch: int) -> "BatchInfo":
        """Return which samples are in a batch of the latest pass, before or after it was returned.

        The sampler is iterated again from the beginning of the pass. It, the loop and all random generators continue
        where they are.

        Args:
            epoch: The index of the pass.
            batch: Position of the batch in the pass, from 0.

        Raises:
            TypeError: An argument is not an integer.
            ValueError: An argument is negative, or the dataset is a stream.
            LookupError: It is another pass, or the pass has no such batch; or the sampler is an iterator, or returns
                another order when it is iterated again.
        """
        return questions.explain(self, epoch, batch)

    def compute(self, epoch: int, batch: int) -> Any:
        """Return a batch of the latest pass, computed again by this thread: with workers the same one, bit for bit.

        The dataset and ``collate_fn`` draw the same random numbers as in a worker; ``worker_init_fn`` is not called.
        With ``num_workers=0``, they draw from the trainer's own generators, so only the samples are the same. The loop
        and all random generators continue where they are.

        Args:
            epoch: The index of the pass.
            batch: Position of the batch in the pass, from 0.

        Raises:
            TypeError: An argument is not an integer.
            ValueError: An argument is negative, or the dataset is a stream.
            LookupError: It is another pass, or the pass has no such batch; or the sampler is an iterator, or returns
                another order when it is iterated again; or all samples of the batch are excluded.
            Exception: The exception of the dataset.
        """
        return questions.compute(self, epoch, batch)

    def exclude(self, ids: "Iterable[Any] | Mapping[Any, Any]") -> None:
        """Leave out samples in the rest of this pass and in all later ones.

        Batches that are returned later do not have these samples, whatever was computed ahead. The other samples remain
        in their batches, with their random numbers, and empty batches are dropped. If a sampler divides the samples
        among ranks, such as torch's `DistributedSampler`, all ranks return the same number of batches: an empty batch
        gets the samples of the first batch of the pass that is not empty. With ranks, call this on all ranks after the
        same step. States contain the excluded samples; a loaded state replaces them.

        Args:
            ids: The sampler's keys, as `BatchInfo.samples` has them: an iterable, a ``range``, or an array of integers.

        Raises:
            TypeError: ``ids`` is a single id or a string, or an id has another type.
            ValueError: An id is negative, or the dataset has no such sample; or the dataset is a stream, or there is a
                balance with ``max_cost``.
        """
        questions.exclude(self, ids)

    def statistics(self) -> Statistics:
        """Return the counters of the latest pass with workers; ``balance`` also without workers."""
        if self._pass is None:
            return Statistics()
        batches = self._pass.batches
        return with_balance(batches.statistics(), batches.order)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy of the loader, without its pass and workers, as torch's DataLoader does."""
        passes = None if self._passes is None else self._passes.copied()
        return {**vars(self), "_iterator": None, "_pass": None, "_left_pass": left_pass(self), "_passes": passes}
