"""The order of a map-style dataset in a state: its kind and length, and a fingerprint of the indices of its pass.

A state counts batches, so it fits only a loader that draws the same batches. The kind and the length are compared when
a state is loaded. The fingerprint is compared when the next pass has drawn the returned batches again: only then has
the program set the sampler's epoch.

Ranks often load the state of the first rank, and the sampler of each rank selects its share. So the length of a custom
sampler and the fingerprint are compared on the rank that saved them. Accelerate's ranks write one file, so their states
are equal: they have neither a rank nor a fingerprint.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from numpy import ndarray
from torch import Tensor
from torch.utils.data import BatchSampler, SequentialSampler
from torch.utils.data.dataloader import _DatasetKind

from mpqueue.frameworks.torch.order.accelerate import is_shard, samplers_of
from mpqueue.frameworks.torch.order.balance import BalancedBatches
from mpqueue.frameworks.torch.order.ranks import rank_and_world
from mpqueue.frameworks.torch.source.samples import keys_of
from mpqueue.plan.options.checks import known_length
from mpqueue.plan.position.sampler_fingerprint import fingerprint_of
from mpqueue.system.units import count_text

_OF_TORCH = ("torch.utils.data.", "torchdata.")
_GENERATOR = " with a generator"
_DESCRIPTION = re.compile(rf"(?P<kind>.*?)(?: of (?P<length>\d+))?(?P<generator>{_GENERATOR})?")


class DrawnBatches(NamedTuple):
    """The batches that a sampler had returned when a state was saved.

    Attributes:
        num_batches: Their number.
        mark: The fingerprint of their indices; None: unknown.
        rank: The rank that drew them; None: all ranks draw the same.
    """

    num_batches: int = 0
    mark: int | None = None
    rank: int | None = 0


def sampler_of(loader: Any) -> Any:
    """Return the sampler that determines a loader's order: the one of samples, or a custom batch sampler."""
    batches = _batch_sampler_of(loader)
    # For a loader with a custom batch sampler, torch sets `sampler` to a sequential sampler that is not used.
    return loader.sampler if batches is None else batches.sampler if _is_plain(batches) else batches


def batch_size_of(loader: Any) -> int | None:
    """Return the number of samples per batch; None: a custom batch sampler sets it, or the loader does not batch."""
    batches = _batch_sampler_of(loader)
    return int(batches.batch_size) if loader.batch_size is None and _is_plain(batches) else loader.batch_size


def order_of(loader: Any) -> str | None:
    """Return a description of a loader's order: the class of its sampler, and its length if it has one.

    None: an iterable-style dataset has no order. The description is equal on all ranks of torch's own samplers.
    """
    if loader._dataset_kind == _DatasetKind.Iterable:
        return None
    sampler = sampler_of(loader)
    known = known_length(sampler)
    length = "" if known is None else f" of {known}"
    shards = f" in {loader.batch_sampler.num_processes} shards" if is_shard(loader.batch_sampler) else ""
    return type(sampler).__name__ + shards + length + (_GENERATOR if _has_generator(sampler) else "")


def differs(then: str, loader: Any, *, is_same_rank: bool) -> bool:
    """Return whether a description differs from the order of a loader.

    Args:
        then: The description.
        loader: The loader.
        is_same_rank: The rank of this process has saved it.
    """
    here = order_of(loader)
    if here is None or then == here:
        return False
    saved, own = _parts(then), _parts(here)
    sampler = sampler_of(loader)
    if saved["kind"] != own["kind"] or (_is_of_torch(sampler) and saved["generator"] != own["generator"]):
        return True
    if saved["length"] is None or own["length"] is None:
        return False
    if type(sampler) is SequentialSampler:  # the dataset may have grown: the first batches are the same
        return int(saved["length"]) > int(own["length"])
    # Shares of ranks may have different lengths, except with torch's own samplers.
    return saved["length"] != own["length"] and (is_same_rank or _is_of_torch(sampler))


def saved_rank(loader: Any) -> int | None:
    """Return the rank for a state; None: the states of all ranks are equal, because Accelerate shares the batches."""
    return None if any(map(is_shard, samplers_of(loader))) else rank_and_world()[0]


class SamplerWatch:
    """Draws the batches of a pass, and compares their fingerprint with the one in the state that the pass resumes from.

    The state of a sampler may be a position in its iteration, as with torchdata's ``StatefulDistributedSampler``.
    Loaded before the pass, it is the end of the previous one. Then the sampler is iterated once more.

    Args:
        loader: The loader.
        batches: The iterator of its sampler.
        known: The batches before the position in the state; None: the pass begins from the start.
        again: Iterates the sampler once more. None: its state is not such a position.
        from_beginning: Returns an iterator of the sampler after batches that the pass has drawn. None: it is not known
            where the pass began.

    Attributes:
        batches: The iterator.
        num_drawn: Number of batches that `take` has drawn from it.
        mark: The fingerprint of their indices.
    """

    def __init__(
        self,
        loader: Any,
        batches: Iterator[Any],
        known: DrawnBatches | None = None,
        again: Callable[[], Iterator[Any]] | None = None,
        from_beginning: Callable[[DrawnBatches], Iterator[Any]] | None = None,
    ) -> None:
        self.num_drawn = self.mark = 0
        self.batches, self._again, self._from_beginning = batches, again, from_beginning
        self._known, self._rank = known or DrawnBatches(), saved_rank(loader)
        self._is_compared = self._known.mark is not None and self._known.rank == self._rank
        self._is_batched, self._name = loader._auto_collation, type(sampler_of(loader)).__name__

    def take(self) -> Any:
        """Return the next batch of indices.

        Raises:
            StopIteration: The sampler is exhausted.
            ValueError: The batches before the position in the state are others, or fewer.
            Exception: The error of the sampler.
        """
        try:
            index = next(self.batches)
        except StopIteration:
            is_empty = not self.num_drawn and self._again is not None
            if self.num_drawn >= self._known.num_batches and not is_empty:
                raise
            self._iterate_again(f"only {count_text(self.num_drawn, 'batch')}")
            return self.take()
        self.mark = self.after(index, self.mark)
        self.num_drawn += 1
        if self.num_drawn == self._known.num_batches and self._is_compared and self.mark != self._known.mark:
            self._iterate_again(f"other indices (fingerprint {self.mark:08x})")
        return index

    def draw_again(self, num_batches: int, mark: int) -> None:
        """Begin the draw again, after an interrupt: a sampler is often a generator, which an exception ends.

        Args:
            num_batches: Number of batches that the pass has drawn.
            mark: Their fingerprint.

        Raises:
            RuntimeError: The sampler does not return these batches again.
        """
        try:
            if self._from_beginning is None:
                raise ValueError("the beginning of the draw is unknown")
            batches = self._from_beginning(DrawnBatches(num_batches, mark, self._rank))
        except (ValueError, StopIteration) as error:
            raise RuntimeError(
                "an interrupt arrived while this pass was drawing from its sampler, which does not return the same "
                "indices again, so a batch may be lost: begin a new pass, or load the last state"
            ) from error
        self.batches, self.num_drawn, self.mark = batches, num_batches, mark

    def after(self, index: Any, mark: int) -> int:
        """Return the fingerprint after a batch, from the one before it."""
        keys = index.tolist() if isinstance(index, Tensor | ndarray) else index
        return fingerprint_of(keys_of(keys, is_batched=self._is_batched), mark)

    def drawn(self, num_batches: int, mark: int | None) -> DrawnBatches:
        """Return the description of a number of batches with this fingerprint, for a state."""
        return DrawnBatches(num_batches) if self._rank is None else DrawnBatches(num_batches, mark, self._rank)

    def _iterate_again(self, found: str) -> None:
        """Iterate the sampler once more, up to here. The second time, raise the error."""
        if self._again is None:
            self.batches = iter(())  # no batch follows the error
            mark = "" if self._known.mark is None else f" (fingerprint {self._known.mark:08x})"
            raise ValueError(
                f"the state was saved after {count_text(self._known.num_batches, 'batch')}{mark}, and the "
                f"{self._name} of this loader returned {found}: samples of this epoch would be repeated or missing. "
                "Load the state into a loader with the same dataset and sampler, and call set_epoch of the sampler, if "
                "it has one, as in the original run. A sampler that draws random numbers must draw them from torch or "
                "from a generator that is its attribute, or have state_dict() and load_state_dict(state)"
            )
        num_drawn, self.batches, self._again = self.num_drawn, self._again(), None
        self.num_drawn = self.mark = 0
        for _ in range(num_drawn):
            self.take()


def _batch_sampler_of(loader: Any) -> Any:
    batches = loader.batch_sampler
    return batches.batch_sampler if is_shard(batches) else batches


def _is_plain(batches: Any) -> bool:
    """Return whether a batch sampler only groups indices of a sampler: ours, torch's, or torchdata's with a state."""
    kind = type(batches)
    return kind in {BatchSampler, BalancedBatches} or (issubclass(kind, BatchSampler) and _is_of_torch(batches))


def _has_generator(sampler: Any) -> bool:
    """Return whether a sampler of torch draws from its own generator. Others may create one when they begin."""
    return _is_of_torch(sampler) and getattr(sampler, "generator", None) is not None


def _is_of_torch(sampler: Any) -> bool:
    return type(sampler).__module__.startswith(_OF_TORCH)


def _parts(description: str) -> dict[str, str | None]:
    found = _DESCRIPTION.fullmatch(description)
    assert found is not None  # the pattern matches any string of one line
    return found.groupdict()
