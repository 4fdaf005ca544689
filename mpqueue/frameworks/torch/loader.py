"""`DataLoader`: torch's own, with mpqueue's workers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

from torch.utils import data

from mpqueue.frameworks.torch import state
from mpqueue.frameworks.torch.checks import is_supported, refuse_threads
from mpqueue.frameworks.torch.inline import InlineIterator
from mpqueue.frameworks.torch.iterator import PassIterator
from mpqueue.frameworks.torch.lightning_epochs import is_at_end_of_epoch
from mpqueue.frameworks.torch.ranks import stream_plan
from mpqueue.frameworks.torch.skipping import is_inside_step, keep_state_of_first_rank
from mpqueue.frameworks.torch.streams import StreamDataset, as_torch_dataset
from mpqueue.plan.backend_kinds import IN_PROCESSES
from mpqueue.plan.checks import integer
from mpqueue.plan.options import Options
from mpqueue.plan.rules import check_backend
from mpqueue.telemetry.stats import Statistics

_Batch_co = TypeVar("_Batch_co", covariant=True)


def make_iterator(loader: Any, otherwise: Callable[[], Any]) -> Any:
    """Return an iterator of a loader of torch's.

    Args:
        loader: The loader.
        otherwise: Makes torch's own, for what mpqueue's workers cannot run.
    """
    keep_state_of_first_rank()
    if not isinstance(loader.dataset, StreamDataset):
        # A state of several lanes is gone on with in as many, also without workers: the other iterator knows one.
        if loader.num_workers == 0 and state.lanes_of(loader) == 1:
            return InlineIterator(loader)
        if loader.num_workers and not is_supported(loader):
            return otherwise()
        loader.check_worker_number_rationality()
    return PassIterator(loader)


class DataLoader(data.DataLoader[_Batch_co], Generic[_Batch_co]):  # type: ignore[misc]  # torch is not looked into
    """A `torch.utils.data.DataLoader` whose batches come through mpqueue's shared memory.

    It takes the arguments of torch's, checks them as torch does, and gives the same batches in the same order for the
    same ``torch.manual_seed`` or ``generator``. Only the workers are others. Of a `mpqueue.Dataset` that is a stream it
    gives the same batches with any ``num_workers``, and goes on in its middle with any.

    Example:
        As with torch's own::

            import torch
            import mpqueue

            data = torch.utils.data.TensorDataset(torch.arange(8.0))
            loader = mpqueue.torch.DataLoader(data, batch_size=4, num_workers=2)
            assert [float(batch.sum()) for batch, in loader] == [6, 22]

    Args:
        *args: As of torch's.
        shard: Of a stream: (rank, number of ranks); this loader gives the lanes of its rank. "auto": as
            torch.distributed says, or RANK and WORLD_SIZE. All ranks need a ``generator`` of the same seed.
        lanes: Into so many parts a stream is divided, over all ranks: its order follows from that and the generator,
            and its state is of use to any ``num_workers``, and any number of ranks that divides it. None: 16, or the
            smallest multiple of the number of ranks above it.
        epoch_batches: An epoch is so many batches of a stream that never ends, on each rank, and the next epoch goes on
            behind them: what ends is begun anew. It is the loader's length then. None: an epoch ends with the stream.
        threads: A worker computes the samples of a batch in so many threads: for datasets that wait for disks or
            networks. Map-style ones only. `mpqueue.rng` is each sample's own; torch's generator, which threads share,
            is seeded once for the batch.
        backend: "process", or "ray": the workers are on the nodes of a Ray cluster.
        ray_options: With ``backend="ray"``, a dict of ``num_cpus`` and ``resources`` (of each worker),
            ``scheduling_strategy``, ``runtime_env``, and ``deadline_s`` (so long a node may be silent).
        **options: As of torch's.

    Raises:
        TypeError, ValueError: As of torch's; or `ray_options` is none; or ``threads`` without workers, without batches,
            or of a dataset that has no use for them; or ``shard``, ``lanes`` or ``epoch_batches`` of no stream;
            or ranks without a generator.
        ImportError: The backend is "ray", and there is no Ray.
    """

    num_lanes = 0  # streams of an iterable-style dataset, as a state has said; 0: as many as workers
    resumed: state.State | None = None  # where the next pass goes on, which its iterator takes
    _pass: state.Pass | None = None  # the latest one

    def __init__(
        self,
        *args: Any,
        shard: tuple[int, int] | Literal["auto"] | None = None,
        lanes: int | None = None,
        epoch_batches: int | None = None,
        threads: int = 1,
        backend: Literal["process", "ray"] = "process",
        ray_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if backend not in IN_PROCESSES:
            raise ValueError(f'backend must be "process" or "ray", got {backend!r}')
        check_backend(backend, Options(ray_options=ray_options))
        integer(1, shown="1 (the worker's own) or more")("threads", threads)
        self.backend, self.ray_options, self.threads = backend, ray_options, int(threads)
        if args:
            args = (as_torch_dataset(args[0]), *args[1:])
        elif "dataset" in options:
            options["dataset"] = as_torch_dataset(options["dataset"])
        dataset = args[0] if args else options.get("dataset")
        self.stream_plan = stream_plan(dataset, options.get("generator"), shard, lanes, epoch_batches)
        super().__init__(*args, **options)
        if self.threads > 1:
            refuse_threads(self)

    def __len__(self) -> int:
        """Batches per epoch.

        Raises:
            TypeError: Nobody knows.
        """
        if self.stream_plan is not None and self.stream_plan.epoch_batches is not None:
            return self.stream_plan.epoch_batches
        return int(super().__len__())

    def _get_iterator(self) -> Any:
        return make_iterator(self, super()._get_iterator)

    def note_pass(self, begun: state.Pass) -> None:
        """Note the latest pass; its iterator calls this.

        Args:
            begun: The pass.
        """
        self._pass = begun

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the latest pass, for `load_state_dict` of a loader of the same dataset.

        Returns:
            Plain data. It holds the state of a generator, and no data of the dataset; it may be pickled, and loaded
            into a loader with another number of workers. Where the trainer of
            Lightning asks for it at the last batch of an epoch, it is the place before the next pass.
        """
        if self.resumed is not None:
            # Loaded, and not begun yet: it is still the place.
            return self.resumed.as_dict()
        if self._pass is None:
            return state.new(self).as_dict()
        if is_inside_step() and self._pass.before_step is not None:
            return dict(self._pass.before_step)
        found = self._pass.before_step = self._pass.as_dict(is_left=is_at_end_of_epoch())
        return dict(found)  # Accelerate writes into it

    def load_state_dict(self, saved: dict[str, Any] | Sequence[dict[str, Any]]) -> None:
        """Go on from a state: the next ``for`` loop gives the batches that were to follow.

        The trainer's own random numbers are left as they are.

        Args:
            saved: What `state_dict` gave; an empty dict: the next pass begins anew. Of a stream with ranks: on this
                rank of as many; or a list of what it gave on all ranks at one moment, in any order.

        Raises:
            ValueError: It is no such state; or of another kind of dataset, other stages, other ``lanes`` or other
                ``epoch_batches``; or those of some ranks are missing, or there twice.

        Follows: ``torchdata.stateful_dataloader.StatefulDataLoader``.
        """
        if saved == {}:
            self.resumed = self._pass = None
            return
        all_saved: list[Any] = list(saved) if isinstance(saved, list | tuple) else [saved]
        states = list(map(state.state_of, all_saved))
        for each in all_saved:
            state.check_fit(self, each)
        self.resumed = state.joined(states, getattr(self, "stream_plan", None))
        if self.resumed is None:
            # A state between two passes: the next one begins anew, whatever this loader was at.
            self._pass = None

    def statistics(self) -> Statistics:
        """Return the counters of the latest pass with workers."""
        return Statistics() if self._pass is None else self._pass.statistics()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy of the loader has: all but the pass and the workers of this one, as torch's has."""
        return {**vars(self), "_iterator": None, "_pass": None}
