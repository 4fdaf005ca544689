"""The samples of any batch of a loader's latest pass, and that batch again.

The order of a pass follows from its beginning, so no log is needed: the sampler is iterated again. The batches that are
left out follow from a `History`, where an epoch is a pass of the loader.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from torch.utils.data import RandomSampler, SequentialSampler
from torch.utils.data.dataloader import _DatasetKind

from mpqueue.frameworks.torch.checks import has_own_workers
from mpqueue.frameworks.torch.order import state
from mpqueue.frameworks.torch.order.accelerate import is_of_ranks, samplers_of
from mpqueue.frameworks.torch.order.balance import BalancedOrder
from mpqueue.frameworks.torch.order.beginning import Beginning, sampler_again
from mpqueue.frameworks.torch.order.ranks import rank_and_world
from mpqueue.frameworks.torch.source.samples import editor, filled, ids_of, num_positions, without
from mpqueue.frameworks.torch.source.streams import StreamDataset
from mpqueue.frameworks.torch.source.worker import listed_of
from mpqueue.loader.questions import GO_BACK, checked_point
from mpqueue.loader.replay import empty_batch
from mpqueue.plan.ids.batch_info import BatchInfo, LateIds
from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.ids.history import NO_HISTORY, At, History
from mpqueue.plan.ids.sample_ids import SampleSet
from mpqueue.plan.options.checks import known_length
from mpqueue.plan.position.cursors import Edit
from mpqueue.plan.position.sampler_state import DrawsRandomNumbers
from mpqueue.system.units import count_text


class LoaderRun:
    """The passes of a loader, and the samples that they exclude.

    Args:
        history: The exclusions.
        epoch: The number of passes before the next one.
        steps: The number of batches that these passes returned.

    Attributes:
        history: The exclusions.
        latest: The latest pass; None: none since a state was loaded.
        epoch: The index of the latest pass; before the first one -1.
    """

    def __init__(self, history: History = NO_HISTORY, epoch: int = 0, steps: int = 0) -> None:
        self.history, self.epoch, self._steps = history, epoch - 1, steps
        self.latest: state.Pass | None = None

    def begin(self, begun: state.Pass) -> None:
        """Count a pass. A pass that was left before its first batch has the same epoch as the next one."""
        latest, self.latest = self.latest, begun
        if latest is None or latest.is_over or latest.batches.num_returned:
            self.epoch += 1
        self._steps += 0 if latest is None else latest.batches.num_returned

    @property
    def steps(self) -> int:
        """The number of batches that all passes returned."""
        return self._steps + (0 if self.latest is None else self.latest.batches.num_returned)

    def copied(self) -> "LoaderRun":
        """Return the run for a copy of the loader."""
        return LoaderRun(self.history, self.epoch + 1, self.steps)


def saved(loader: Any) -> dict[str, Any]:
    """Return the additional keys of a loader's state; none if no sample is excluded."""
    run: LoaderRun | None = loader._passes
    if run is None or not run.history:
        return {}
    return {"history": run.history.plain(), "number": run.epoch + _is_midway(loader)}


def _is_midway(loader: Any) -> bool:
    """Return whether the next pass of a loader begins in the middle, from a loaded state."""
    resumed: state.State | None = loader.resumed
    return resumed is not None and not (resumed.is_left or resumed.is_new)


def loaded(loader: Any, found: Mapping[str, Any]) -> LoaderRun:
    """Return the run of a loader after it has loaded a state.

    Args:
        loader: The loader, with the point to resume from.
        found: The state.
    """
    run: LoaderRun = loader._passes or LoaderRun()
    # A state within a pass has the index of that pass, and the next pass continues it.
    epoch = found["number"] + (not _is_midway(loader)) if "history" in found else run.epoch + 1
    return LoaderRun(History(found.get("history", ())), epoch, run.steps)


def editor_of(loader: Any, beginning: Beginning) -> Edit | None:
    """Return the function that removes the samples that a loader excludes; None: no sample is excluded.

    Args:
        loader: The loader.
        beginning: The beginning of its pass.
    """
    run: LoaderRun | None = getattr(loader, "_passes", None)
    excluded = None if run is None else run.history.excluded
    if excluded is None:
        return None
    return editor(excluded, _fill(loader, beginning, excluded), is_batched=loader._auto_collation)


def _fill(loader: Any, beginning: Beginning, excluded: SampleSet) -> Callable[[], BatchSamples | None]:
    """Return a function that returns the first batch of a pass that is not empty; None: empty batches are dropped.

    If the sampler returns the part of one rank, empty batches are filled: the other ranks do not know them, and must
    get the same number of batches.
    """
    found = weakref.ref(loader)

    @cache
    def fill() -> BatchSamples | None:
        loader = found()
        if loader is None or not any(map(is_of_ranks, samplers_of(loader))):
            return None
        try:
            with sampler_again(loader, beginning) as indices:
                for index in indices:
                    kept = without(listed_of(index, 0, 0), excluded, is_batched=loader._auto_collation)
                    if not kept.is_empty:
                        return kept
        except DrawsRandomNumbers:
            pass  # another order: its first batch would be different after a resume
        return None

    return fill


def last(loader: Any) -> BatchInfo | None:
    """Return the batch that a loader returned last; see `DataLoader.last`."""
    run = loader._passes
    begun = None if run is None or loader.resumed is not None else run.latest
    returned = None if begun is None else begun.batches.returned()
    if begun is None or returned is None:
        return None
    _check_workers(loader, LookupError)
    costs = _costs_of(loader, begun.batches.order, returned.position)
    return _info(loader, begun, returned.position, returned.ids, step=run.steps - 1, **costs)


def explain(loader: Any, epoch: int, batch: int) -> BatchInfo:
    """Return the samples of any batch of the latest pass; see `DataLoader.explain`."""
    begun, batch = _checked(loader, "explain", epoch, batch)
    kept, order = _kept_at(loader, begun, batch)
    ids = ids_of(kept, is_batched=loader._auto_collation)
    return _info(loader, begun, batch, ids, None, **_costs_of(loader, order, batch))


def compute(loader: Any, epoch: int, batch: int) -> Any:
    """Return any batch of the latest pass, computed again; see `DataLoader.compute`."""
    begun, batch = _checked(loader, "compute", epoch, batch)
    kept, _ = _kept_at(loader, begun, batch)
    if kept.is_empty:
        raise empty_batch(loader._passes.epoch, batch)
    return begun.batches.compute(kept)


def exclude(loader: Any, ids: Any) -> None:
    """Leave out samples in the rest of the pass and in later ones; see `DataLoader.exclude`."""
    samples = SampleSet.of(ids)
    _check_index(
        loader,
        "exclude",
        "replace the DataLoader by mpqueue.Loader({dataset}, batch_size={batch_size}), whose batches are NumPy arrays",
    )
    balance = getattr(loader, "balance", None)
    if balance is not None and balance.makes_lists:
        raise ValueError(
            "exclude would leave a micro-batch of Balance(max_cost=...) without samples on one rank only: use exclude "
            "of a mpqueue.Loader, or a DataLoader with a torch.utils.data.Subset without these samples"
        )
    _check_ids(loader, samples)
    run: LoaderRun = loader._passes or LoaderRun()
    begun = run.latest
    if begun is not None:
        at = At(run.epoch, begun.batches.point().position, 1)
    else:
        at = At(run.epoch + 1, loader.resumed.point.position if _is_midway(loader) else 0, 1)
    history = run.history.with_exclusion(at, samples)
    if history is run.history:
        return
    run.history, loader._passes = history, run
    if begun is not None:
        begun.batches.exclude(editor_of(loader, begun.beginning))


def _checked(loader: Any, method: str, epoch: Any, batch: Any) -> tuple[state.Pass, int]:
    """Return the latest pass, and the position of a batch.

    Raises:
        TypeError: A number is not an integer.
        ValueError: It is negative, or the dataset is a stream.
        LookupError: It is another pass.
    """
    epoch, batch = checked_point(epoch, batch)
    _check_index(loader, method, GO_BACK.format("loader"))
    run = loader._passes
    if run is None or run.latest is None or loader.resumed is not None:
        raise LookupError("the loader has not begun a pass: only batches of its latest pass are known")
    if epoch != run.epoch:
        raise LookupError(f"epoch {epoch} is unknown: only batches of the latest pass, {run.epoch}, are known")
    return run.latest, batch


def _check_index(loader: Any, method: str, remedy: str) -> None:
    """Raise a `ValueError` for a dataset without indices of samples, or one that torch's own workers run.

    Args:
        loader: The loader.
        method: The method that requires indices.
        remedy: What to do instead, with the fields ``dataset`` and ``batch_size``.
    """
    dataset = loader.dataset
    if loader._dataset_kind == _DatasetKind.Iterable:
        is_ours = isinstance(dataset, StreamDataset)
        name = "a mpqueue.Dataset without an index" if is_ours else f"the iterable-style {type(dataset).__name__}"
        raise ValueError(
            f"{method} requires a map-style dataset, got {name}: "
            + remedy.format(dataset="dataset" if is_ours else "mpqueue.Dataset(dataset)", batch_size=loader.batch_size)
        )
    _check_workers(loader, ValueError)


def _check_workers(loader: Any, error: type[Exception]) -> None:
    """Raise an error for a loader that has torch's own workers."""
    name = type(loader.dataset).__name__
    if has_own_workers(loader):
        raise error(f"the samples of a batch are unknown, because torch's own workers run {name}: pass num_workers=0")


def _check_ids(loader: Any, samples: SampleSet) -> None:
    """Raise a `ValueError` for an id that a sampler of torch never returns; other samplers may return any keys."""
    *_, innermost = samplers_of(loader)
    if not isinstance(innermost, RandomSampler | SequentialSampler):
        return
    length = known_length(innermost.data_source)
    if length is None:
        return
    for each in samples.ends():
        if not isinstance(each, int) or each >= length:
            raise ValueError(
                f"ids must be indices of the dataset, which has {count_text(length, 'sample')}, got {each!r}"
            )


def _kept_at(loader: Any, begun: state.Pass, batch: int) -> tuple[BatchSamples, Any]:
    """Return a batch of a pass, without the samples that are excluded there, and the iterator of the sampler.

    Raises:
        LookupError: The pass has no such batch, or the sampler returns another order now.
    """
    samplers = list(samplers_of(loader))
    once = [type(each).__name__ for each in samplers if isinstance(each, Iterator)]
    if once:
        raise LookupError(f"the sampler ({once[0]}) is an iterator, which cannot be iterated again")
    batches, is_batched, returned = begun.batches, loader._auto_collation, begun.batches.returned()
    known = -1 if returned is None else returned.position
    drawn, positions, position = {}, batches.first, -1
    try:
        with sampler_again(loader, begun.beginning) as indices:
            # Also up to the batch that was returned last: only there is it seen whether the sampler still returns the
            # same order.
            for position, index in enumerate(islice(indices, max(batch, known) + 1)):
                if position in (batch, known):
                    drawn[position] = listed_of(index, batches.epoch, positions)
                positions += num_positions(index, is_batched=is_batched)
        kept = {at: _without_excluded(loader, begun, each, at) for at, each in drawn.items()}
        # Out of order, later exclusions do not concern the batch that was returned.
        ways = [ids_of(each[known], is_batched=is_batched) for each in (drawn, kept) if known in each]
        if returned is not None and ways and returned.ids() not in ways:
            raise DrawsRandomNumbers
    except DrawsRandomNumbers:
        raise LookupError(
            f"the sampler ({type(samplers[-1]).__name__}) returns another order when it is iterated again, so batches "
            "of this pass are unknown: its random numbers must come from torch, or from a generator that it holds"
        ) from None
    if batch not in kept:
        raise LookupError(
            f"epoch {loader._passes.epoch} has no batch {batch}: its sampler returned "
            f"{count_text(position + 1, 'batch')}"
        )
    return kept[batch], indices


def _without_excluded(loader: Any, begun: state.Pass, drawn: BatchSamples, batch: int) -> BatchSamples:
    excluded = loader._passes.history.excluded_at(loader._passes.epoch, batch, 1)
    if excluded is None:
        return drawn
    kept = without(drawn, excluded, is_batched=loader._auto_collation)
    return filled(kept, _fill(loader, begun.beginning, excluded))


def _costs_of(loader: Any, order: Any, batch: int) -> dict[str, float]:
    """Return the costs of a batch of the latest pass, and of its step; empty without a balance."""
    if not isinstance(order, BalancedOrder):
        return {}
    run: LoaderRun = loader._passes
    return order.costs_of(batch, lambda position: run.history.excluded_at(run.epoch, position, 1))


def _info(loader: Any, begun: state.Pass, batch: int, samples: LateIds, step: int | None, **costs: Any) -> BatchInfo:
    (rank, world), seed, epoch = rank_and_world(), begun.beginning.base_seed, loader._passes.epoch
    return BatchInfo(epoch, batch, step=step, rank=rank, world_size=world, seed=seed, samples=samples, **costs)
