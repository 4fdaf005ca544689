"""Batches from a sampler: drawn in the trainer, as they are dealt, and no sooner.

    sampler --indices--> batches of all ranks, the end filled up or dropped --every world-th--> this rank's

Places in the order are counted over all ranks. To fill up the end, as many indices (or batches) are remembered as may
be needed: those of one batch of each rank.
"""

import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import Any

from mpqueue.control.schedule import Listed
from mpqueue.samples.shards import Share

_END: Any = object()


class SamplerDraw:
    """The batches of one epoch, drawn one after the other, with a look at the one that follows.

    Args:
        batches: Each with its unit.
    """

    def __init__(self, batches: Iterator[tuple[int, Listed | None]]) -> None:
        self._batches = batches
        self._following: Any = _END
        self._error: Exception | None = None
        self._look()

    @property
    def has_ended(self) -> bool:
        """True if the last batch was taken."""
        return self._following is _END and self._error is None

    def take(self, limit: int) -> list[tuple[int, Listed | None]]:
        """Return up to so many of the next ones; an error comes at its place, and is the end.

        Raises:
            Exception: What the sampler raised.
        """
        taken: list[tuple[int, Listed | None]] = []
        while len(taken) < limit and self._following is not _END:
            taken.append(self._following)
            self._look()
        if not taken and self._error is not None:
            error, self._error = self._error, None
            raise error
        return taken

    def _look(self) -> None:
        self._following = _END
        try:
            self._following = next(self._batches, _END)
        except Exception as error:
            self._error = error


class SamplerOrder:
    """The order that a sampler gives, anew for each epoch.

    Args:
        sampler: An iterable of indices, or of lists of them.
        batch_size: Indices of a batch; None: an index is a batch of the source, or a list of indices is one.
        are_lists: It is a sampler of batches.
        share: This rank's.

    Attributes:
        states: By epoch, the sampler's own state before it was iterated.
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int | None, share: Share, *, are_lists: bool) -> None:
        self.states: dict[int, Any] = {}
        self._sampler, self._batch_size, self._share = sampler, batch_size, share
        self._are_lists = are_lists

    def draw(self, epoch: int) -> SamplerDraw:
        """Begin an epoch.

        Raises:
            ValueError: There is nothing in it.
            Exception: What the sampler raised.
        """
        self._set_epoch(epoch)
        if epoch in self.states:  # it was begun before: here, or by the loader whose state was loaded
            self._stateful("load_state_dict")(self.states[epoch])
        elif self._stateful("state_dict") is not None:
            self.states = {key: state for key, state in self.states.items() if key == epoch - 1}
            self.states[epoch] = self._stateful("state_dict")()
        first = self._share.first(epoch)
        draw = SamplerDraw(self._own(self._batches(first), first))
        if draw.has_ended:
            raise ValueError(
                f"the {self._name} ({type(self._sampler).__name__}) gave nothing for epoch {epoch}: it is empty, or an "
                "iterator that was used up by the epoch before; pass an iterable that can be iterated anew"
            )
        return draw

    def state_at(self, epoch: int) -> Any:
        """The sampler's own state at the beginning of an epoch; None if it has none."""
        if epoch in self.states:
            return self.states[epoch]
        state_dict = self._stateful("state_dict")
        return None if state_dict is None else state_dict()

    def load(self, epoch: int, state: Any) -> None:
        """Have this epoch begin in this state of the sampler (None: in whatever state it is)."""
        self.states = {} if state is None else {epoch: state}

    @property
    def _name(self) -> str:
        return "batch_sampler" if self._are_lists else "sampler"

    def _stateful(self, method: str) -> Any:
        return getattr(self._sampler, method, None)

    def _set_epoch(self, epoch: int) -> None:
        # A sampler of batches often is a wrapper of one of samples, which has the order.
        for sampler in (self._sampler, getattr(self._sampler, "sampler", None)):
            set_epoch = getattr(sampler, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)
                return

    def _own(self, batches: Iterator[Any], first: int) -> Iterator[tuple[int, Listed | None]]:
        """Every world-th batch, from the batch on with which the ranks begin."""
        rank, world = self._share.shard
        numbered = itertools.islice(enumerate(batches), first, None)
        while len(group := list(itertools.islice(numbered, world))) == world:
            number, batch = group[rank]
            yield (batch, None) if isinstance(batch, int) else (number, batch)

    def _batches(self, first: int) -> Iterator[int] | Iterator[Listed]:
        """The batches over all ranks, which begin with the one of this number."""
        if self._are_lists:
            return _placed(self._filled(map(_list_of, self._sampler), 1, first))
        if self._batch_size is None:
            return self._filled(map(_unit_of, self._sampler), 1, first)
        indices = self._filled(map(_index_of, self._sampler), self._batch_size, first)
        return _placed(self._grouped(indices, self._batch_size))

    def _grouped(self, indices: Iterator[Any], batch_size: int) -> Iterator[list[Any]]:
        while batch := list(itertools.islice(indices, batch_size)):
            if len(batch) == batch_size or not self._share.drops:
                yield batch

    def _filled(self, items: Iterator[Any], batch_size: int, first: int) -> Iterator[Any]:
        """All items, and among several ranks as many again as make equal numbers of full batches."""
        world = self._share.shard.world
        if world == 1 or self._share.drops:
            yield from items
            return
        group, count = world * batch_size, 0
        beginning: list[Any] = []
        for item in items:
            if count < group:
                beginning.append(item)
            count += 1
            yield item
        missing = -(count - first * batch_size) % group
        yield from itertools.islice(itertools.cycle(beginning), missing)


def _placed(batches: Iterator[list[Any]]) -> Iterator[Listed]:
    """Each batch with the place of its first sample."""
    place = 0
    for indices in batches:
        yield Listed(place, indices)
        place += len(indices)


def _index_of(index: Any) -> Any:
    # torch's samplers give tensors at times, and a source is asked for an int.
    return operator.index(index) if hasattr(index, "__index__") else index


def _list_of(batch: Any) -> list[Any]:
    if isinstance(batch, str | bytes) or not isinstance(batch, Iterable):
        raise TypeError(f"a batch_sampler gives lists of indices, this one gave {batch!r}; a sampler gives indices")
    indices = [_index_of(index) for index in batch]
    if not indices:
        raise ValueError("the batch_sampler gave an empty list: a batch needs at least one index")
    return indices


def _unit_of(index: Any) -> int:
    if isinstance(index, bool) or not hasattr(index, "__index__"):
        raise TypeError(
            f"a sampler without batch_size gives the indices of batches, integers, and this one gave {index!r}; "
            "lists of indices come from a batch_sampler"
        )
    return operator.index(index)
