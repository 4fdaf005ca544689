"""Draw batches from a sampler in the trainer, while they are dealt and not earlier.

    sampler --indices--> batches of all ranks, the end filled up or dropped --every world-th--> batches of this rank

Positions in the order count the batches of all ranks. To fill up the end, the first indices (or batches) are kept,
enough for one batch of each rank.

If an epoch begins a second time, in this loader or after a state is loaded, it is drawn again from the same random
state. If the sampler returns different indices nevertheless, the user gets a warning.
"""

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from mpqueue.plan.ids.batch_samples import BatchSamples
from mpqueue.plan.options.checks import is_integer
from mpqueue.plan.position.cursors import FROM_BEGINNING, Drawn, DrawnRound, RankStart
from mpqueue.plan.position.ranks import Ranks
from mpqueue.plan.position.sampler_fingerprint import fingerprint_of
from mpqueue.plan.position.sampler_state import DrawsRandomNumbers, Randomness
from mpqueue.system.program_streams import warn_caller
from mpqueue.system.signals.contexts import context_manager
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.exception_texts import raised_ahead

_END: Any = object()


class SamplerDraw:
    """The batches of one epoch, drawn one after the other, one batch ahead."""

    is_once = False  # after an error, the sampler is iterated again

    def __init__(self, batches: Iterator[Drawn]) -> None:
        self._batches = batches
        self._following: Any = _END
        self._error: BaseException | None = None
        self._look()

    @property
    def has_ended(self) -> bool:
        """True if the last batch was taken."""
        return self._following is _END and self._error is None

    @property
    def mark(self) -> int | None:
        """Fingerprint of all indices that were taken; None: unknown."""
        return None if self._following is _END else self._following.mark

    def take(self, limit: int) -> list[Drawn]:
        """Return up to ``limit`` of the next batches. A sampler's error is raised at its position and ends the draw.

        Raises:
            Exception: The error that the sampler raised.
        """
        taken: list[Drawn] = []
        while len(taken) < limit and self._following is not _END:
            taken.append(self._following)
            self._look()
        if not taken and self._error is not None:
            error, self._error = self._error, None
            raise error
        return taken

    def _look(self) -> None:
        # Draw one batch ahead, so that the end is known together with the last batch.
        self._following = _END
        try:
            self._following = next(self._batches, _END)
        except BaseException as error:
            if is_interrupt(error):
                raise
            raised_ahead(error)
            self._error = error


class _Reached(NamedTuple):
    """Number of batches of an epoch that were drawn, over all ranks, and their fingerprint."""

    epoch: int = -1
    num_drawn: int = 0
    mark: int | None = None


# The batches of all ranks in one round: global position of the first of them, fingerprint of all batches before it, the
# batches, and the position and the fingerprint after them. A plain tuple, because each batch passes here.
_Round: TypeAlias = tuple[int, int, DrawnRound, int, int]


class Draws:
    """The draws of a run from a sampler, which is iterated again in each epoch.

    Args:
        sampler: An iterable of indices, or of lists of indices.
        batch_size: Number of indices per batch; None: each index, or each list, is a batch.
        ranks: The batches of this rank.
        source: The source of the indices. Its random generators are not the sampler's.
        are_lists: The sampler returns lists of indices.
    """

    def __init__(
        self, sampler: Iterable[Any], batch_size: int | None, ranks: Ranks, source: Any, *, are_lists: bool
    ) -> None:
        self._sampler, self._batch_size, self._ranks = sampler, batch_size, ranks
        self._are_lists = are_lists
        self._randomness = Randomness(sampler, source)
        self._beginnings: dict[int, dict[str, Any]] = {}  # by epoch: the random state before its order was drawn
        self._reached = _Reached()
        self._epoch_set: int | None = None  # the last epoch that the sampler's `set_epoch` received

    def draw(self, epoch: int, base: RankStart = FROM_BEGINNING) -> SamplerDraw:
        """Begin an epoch at a base.

        Raises:
            ValueError: The epoch has no batches.
            Exception: The error that the sampler raised.
        """
        draw = self._begin(epoch, base)
        if draw.has_ended and self._ranks.drops and not self._are_lists:
            raise ValueError(
                f"the {self._name} ({type(self._sampler).__name__}) returned no full batch for epoch {epoch}, and "
                f"drop_last=True drops a short batch: a batch needs {self._batch_size or 1} indices, on each of "
                f"{self._ranks.shard.world} ranks. Return more indices, lower batch_size, or leave out drop_last. An "
                "iterator is exhausted after one epoch: pass an iterable that can be iterated repeatedly"
            )
        if draw.has_ended:
            raise ValueError(
                f"the {self._name} ({type(self._sampler).__name__}) returned no indices for epoch {epoch}: it is "
                "empty, or an iterator that is exhausted. Pass an iterable that can be iterated repeatedly"
            )
        return draw

    def is_over(self, epoch: int, base: RankStart) -> bool:
        """Return True if a loaded epoch has no batch left; this iterates the sampler."""
        return self._begin(epoch, base).has_ended

    def _begin(self, epoch: int, base: RankStart) -> SamplerDraw:
        # First, because it may seed generators of the sampler: their states are recorded or restored below.
        self._set_epoch(epoch)
        self._epoch_set = epoch
        recorded = self._beginnings.get(epoch)
        if recorded is not None:  # the epoch began before: in this loader, or before its state was saved
            with self._randomness.restored(recorded):
                return self._draw_from(epoch, base)
        with self._randomness.recorded() as recorded:
            # Keep the previous epoch, too: its last batches may be in flight, and a state may be saved among them.
            before = self._beginnings.get(epoch - 1)
            self._beginnings = {epoch: recorded} if before is None else {epoch - 1: before, epoch: recorded}
            return self._draw_from(epoch, base)

    def _draw_from(self, epoch: int, base: RankStart) -> SamplerDraw:
        return SamplerDraw(self._own(self._batches(base, self._sampler), epoch, base))

    def is_new(self, epoch: int) -> bool:
        """Return whether an epoch is later than all drawn epochs."""
        return epoch > max(self._beginnings, default=-1)

    def batch_at(self, epoch: int, base: RankStart, position: int, ranks: Ranks) -> Drawn:
        """Return a batch of a rank, from another iteration of the sampler, which leaves its random state as it is.

        Args:
            epoch: The epoch: the present one, the one before, or any epoch of a sampler without random numbers.
            base: Where these ranks began the epoch.
            position: Position of the batch among the batches dealt for ``ranks``.
            ranks: The batches of the rank.

        Raises:
            LookupError: The sampler would return other indices, or the epoch has no such batch.
        """
        wanted, at = ranks.in_round(position)
        found: DrawnRound | None = None
        known = self._reached if self._reached.epoch == epoch else _Reached()

        def lose(_position: int) -> None:
            raise self._lost(epoch, "it returned other indices when it was iterated again")

        with self._aside(epoch) as sampler:
            rounds = self._rounds(self._batches(base, sampler), base, known, lose)
            for index, (global_position, _, drawn, *_) in enumerate(rounds, base.first):
                found = drawn if index == wanted else found
                # Later batches show whether the sampler returned the same indices as in the run.
                if found is not None and global_position >= known.num_drawn:
                    break
        if found is None:
            raise LookupError(f"epoch {epoch} has no such batch: the {self._name} returned fewer batches")
        return Drawn(*found.batches[at], others=found)

    def _lost(self, epoch: int, why: str) -> LookupError:
        return LookupError(
            f"the indices of epoch {epoch} are unknown: the {self._name} is a {type(self._sampler).__name__}, and {why}"
        )

    @context_manager
    def _aside(self, epoch: int) -> Iterator[Any]:
        """Yield the sampler in the random state before an epoch, and restore its present state afterwards."""
        recorded = self._beginnings.get(epoch)
        try:
            with self._randomness.aside(recorded) as sampler:
                self._set_epoch(epoch, sampler)
                yield sampler
        except DrawsRandomNumbers:
            raise self._lost(
                epoch, "it draws random numbers, and its state is kept for the present epoch and the one before"
            ) from None
        finally:
            if self._epoch_set is not None:
                self._set_epoch(self._epoch_set)

    def state_at(self, epoch: int, global_position: int, mark: int | None) -> dict[str, Any]:
        """Return the sampler's part of a saved state, before a batch.

        Args:
            epoch: The epoch.
            global_position: Position of the batch.
            mark: Fingerprint of the batches before it; None: unknown.
        """
        recorded = dict(self._beginnings[epoch] if epoch in self._beginnings else self._randomness.now())
        state = {"sampler": recorded.pop("sampler")} if "sampler" in recorded else {}
        if recorded:
            state["random"] = recorded
        # The cursor knows no fingerprint before it has drawn the epoch. A loaded state brought one for its own
        # position.
        if mark is None and self._reached[:2] == (epoch, global_position):
            mark = self._reached.mark
        if global_position and mark is not None:
            state["drawn"] = mark
        return state

    def load(self, epoch: int, global_position: int, state: dict[str, Any]) -> None:
        """Continue an epoch from a state that was saved before batch ``global_position`` of the global order."""
        recorded = dict(state.get("random", {}))
        if state.get("sampler") is not None:
            recorded["sampler"] = state["sampler"]
        self._beginnings = {epoch: recorded} if recorded else {}
        mark = state.get("drawn")
        self._reached = _Reached(epoch, global_position, None if mark is None else operator.index(mark))

    @property
    def _name(self) -> str:
        return "batch_sampler" if self._are_lists else "sampler"

    def _set_epoch(self, epoch: int, of: Any = None) -> None:
        sampler = self._sampler if of is None else of
        # A batch sampler often wraps a sampler, and only the inner one has an order.
        for each in (sampler, getattr(sampler, "sampler", None)):
            set_epoch = getattr(each, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)
                return

    def _own(self, batches: Iterator[int | BatchSamples], epoch: int, base: RankStart) -> Iterator[Drawn]:
        """Yield the batches that are dealt here, from the position where the ranks begin."""
        known = self._reached if self._reached.epoch == epoch else _Reached()
        for global_position, mark, drawn, next_position, next_mark in self._rounds(
            batches, base, known, lambda global_position: self._warn_of_another_order(epoch, global_position)
        ):
            for index, listed in self._ranks.pick(drawn.batches):
                yield Drawn(index, listed, mark, drawn)
            if (epoch, global_position) >= self._reached[:2]:
                self._reached = _Reached(epoch, next_position, next_mark)

    def _rounds(
        self, batches: Iterator[int | BatchSamples], base: RankStart, known: _Reached, differ: Callable[[int], None]
    ) -> Iterator[_Round]:
        """Yield the rounds of ranks that begin at a base; call ``differ`` if the batches before ``known`` differ."""
        world, mark = self._ranks.shard.world, 0
        first: tuple[tuple[int, BatchSamples | None], ...] = ()
        batches_of_all: list[tuple[int, BatchSamples | None]] = []
        begins = 0, 0
        # The skipped batches are drawn, too: the fingerprint of a position includes all batches before it.
        for global_position, batch in enumerate(batches):
            if global_position == known.num_drawn and known.mark not in {None, mark}:
                differ(global_position)
            each = (global_position, batch) if isinstance(batch, BatchSamples) else (batch, None)
            if global_position < world:
                first = (*first, each)
            if global_position >= base.position:
                begins = begins if batches_of_all else (global_position, mark)
                batches_of_all.append(each)
            mark = fingerprint_of(_keys_of(batch), mark)
            # Whole rounds only: with `drop_last`, the rest is dropped, and otherwise `_filled` leaves no rest.
            if len(batches_of_all) == world:
                yield *begins, DrawnRound(tuple(batches_of_all), first), global_position + 1, mark
                batches_of_all = []

    def _warn_of_another_order(self, epoch: int, num_batches: int) -> None:
        warn_caller(
            f"the {self._name} ({type(self._sampler).__name__}) returned different indices for the first {num_batches} "
            f"batches of epoch {epoch} than the first time: some batches of this epoch may be repeated or missing. "
            "Implement state_dict() and load_state_dict(state), or draw the order from a generator that is an "
            "attribute of the sampler",
            UserWarning,
        )

    def _batches(self, base: RankStart, sampler: Iterable[Any]) -> Iterator[Any]:
        """Return the batches of all ranks of a sampler; they are filled up for ranks that begin at a base."""
        if self._are_lists:
            return _placed(self._filled(map(_list_of, sampler), 1, base))
        if self._batch_size is None:
            return self._filled(map(_index_in, sampler), 1, base)
        indices = self._filled(map(_index_of, sampler), self._batch_size, base)
        return _placed(self._grouped(indices, self._batch_size))

    def _grouped(self, indices: Iterator[Any], batch_size: int) -> Iterator[list[Any]]:
        while batch := list(itertools.islice(indices, batch_size)):
            if len(batch) == batch_size or not self._ranks.drops:
                yield batch

    def _filled(self, items: Iterator[Any], batch_size: int, base: RankStart) -> Iterator[Any]:
        """Yield all items; with several ranks, add items from the beginning until all ranks have equally many."""
        world = self._ranks.shard.world
        if world == 1 or self._ranks.drops:
            yield from items
            return
        group, count = world * batch_size, 0
        beginning: list[Any] = []
        for item in items:
            if count < group:
                beginning.append(item)
            count += 1
            yield item
        # Counted from the base: the batches before it were rounds of a different number of ranks.
        num_turns = self._ranks.num_turns(-(-count // batch_size), base)
        end = base.nth(num_turns * world - 1) + 1 if num_turns > base.first else 0
        yield from itertools.islice(itertools.cycle(beginning), max(0, end * batch_size - count))


def _keys_of(batch: int | BatchSamples) -> Sequence[Any]:
    return batch.indices if isinstance(batch, BatchSamples) else (batch,)


def _placed(batches: Iterator[list[Any]]) -> Iterator[BatchSamples]:
    """Yield each batch with the position of its first sample."""
    position = 0
    for indices in batches:
        yield BatchSamples(position, indices)
        position += len(indices)


def _index_of(index: Any) -> Any:
    # Samplers of torch sometimes return tensors, and a source expects an int.
    return operator.index(index) if hasattr(index, "__index__") else index


def _list_of(batch: Any) -> list[Any]:
    if isinstance(batch, str | bytes) or not isinstance(batch, Iterable):
        raise TypeError(f"a batch_sampler must return lists of indices, got {batch!r}; a sampler returns indices")
    indices = [_index_of(index) for index in batch]
    if not indices:
        raise ValueError("a batch_sampler must return lists of at least one index, got an empty list")
    return indices


def _index_in(index: Any) -> int:
    if not is_integer(index):
        raise TypeError(
            f"without batch_size, a sampler must return the indices of batches, which are integers; got {index!r}. "
            "Pass lists of indices as batch_sampler"
        )
    return operator.index(index)
