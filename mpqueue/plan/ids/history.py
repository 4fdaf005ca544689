"""The history of a run: its seeks, exclusions and changes of weights, in order.

An entry records where the call was made, as (epoch, batch) of a rank, and the number of ranks. Which samples are
excluded at a position, and where a mixture got other weights, follows from the history alone. An immutable value.

A seek to a position before an exclusion moves the exclusion there: batches that are returned later never have its
samples.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from mpqueue.plan.ids.sample_ids import SampleSet, joined

SEEK, EXCLUDE, WEIGHTS = "seek", "exclude", "weights"


class At(NamedTuple):
    """A position in a run.

    Attributes:
        epoch: The epoch.
        batch: The position of the batch among the batches of a rank.
        world_size: The number of ranks.
    """

    epoch: int
    batch: int
    world_size: int

    def on(self, world_size: int) -> tuple[int, int]:
        """Return the epoch and the batch if the ranks continue there with another number of ranks."""
        # Rounded up, as in `RankStart.first`: ranks that resume at this position return the batch at that position
        # first.
        batches = self.batch * self.world_size
        return self.epoch, -(-batches // world_size)


class Exclusion(NamedTuple):
    """Samples that are excluded from a position on."""

    at: At
    samples: SampleSet


class Changes(NamedTuple):
    """The changes of a stream, each kind in order. The names are those in the states of lanes.

    Attributes:
        excluded: The samples of each exclusion.
        weights: The weights of each change of weights, as plain data.
    """

    excluded: tuple[SampleSet, ...] = ()
    weights: tuple[Any, ...] = ()


NO_CHANGES = Changes()


class History:
    """The entries of a run, and the exclusions that follow from them.

    Args:
        entries: The entries, as plain data.

    Raises:
        ValueError: An entry is not one that `state_dict` saved.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]] = ()) -> None:
        self._entries = tuple(dict(entry) for entry in entries)
        self._exclusions = _exclusions_of(self._entries)

    @classmethod
    def earliest(cls, histories: Sequence[Self]) -> Self | None:
        """Return the history of ranks with the earliest position of each call; None if they made different calls."""
        calls = list(itertools.zip_longest(*(history._entries for history in histories), fillvalue={}))
        if any(_without_position(call) != _without_position(same[0]) for same in calls for call in same):
            return None
        return cls(min(same, key=lambda call: (call["epoch"], call["batch"])) for same in calls)

    @property
    def excluded(self) -> SampleSet | None:
        """All excluded samples; None: none."""
        return joined(each.samples for each in self._exclusions)

    @property
    def changes(self) -> Changes:
        """All changes of a stream."""
        return Changes(
            tuple(each.samples for each in self._exclusions), tuple(entry["weights"] for entry in self.weights())
        )

    def excluded_at(self, epoch: int, batch: int, world_size: int) -> SampleSet | None:
        """Return the samples that are excluded at a position; None: none."""
        return joined(each.samples for each in self._exclusions if each.at.on(world_size) <= (epoch, batch))

    def latest_exclusion(self, world_size: int) -> tuple[int, int]:
        """Return the epoch and the batch of the latest exclusion."""
        return max(each.at.on(world_size) for each in self._exclusions)

    def before(self, epoch: int, batch: int, world_size: int) -> Self:
        """Return the history without the changes after a position. Changes that name their first sample remain."""
        position = epoch, batch
        kept = [
            entry
            for entry in self._entries
            if entry["kind"] == SEEK
            or "at" in entry
            or At(entry["epoch"], entry["batch"], entry["world_size"]).on(world_size) <= position
        ]
        return self if len(kept) == len(self._entries) else type(self)(kept)

    def with_seek(self, at: At, epoch: int, batch: int) -> Self:
        """Return the history with a seek from one place to another."""
        return self._with(at, SEEK, to=[epoch, batch])

    def with_exclusion(self, at: At, samples: SampleSet) -> Self:
        """Return the history with an exclusion; the same one if all of the samples are excluded."""
        excluded = self.excluded
        if not samples or (excluded is not None and excluded.contains_all(samples)):
            return self
        return self._with(at, EXCLUDE, ids=samples.plain())

    def with_weights(self, at: At, weights: Any, sample: int | None) -> Self:
        """Return the history with new weights of a mixture.

        Args:
            at: The position where `Loader.set_weights` was called.
            weights: The weights, as plain data.
            sample: The index of the first sample in the epoch of that position; None: of a stream; its virtual shards
                have separate positions.
        """
        return self._with(at, WEIGHTS, weights=weights, **({} if sample is None else {"at": sample}))

    def _with(self, position: At, kind: str, **values: Any) -> Self:
        epoch, batch, world_size = position
        entry = {"kind": kind, "epoch": epoch, "batch": batch, "world_size": world_size, **values}
        return type(self)((*self._entries, entry))

    def plain(self) -> list[dict[str, Any]]:
        """Return the entries as plain data."""
        return [dict(entry) for entry in self._entries]

    def weights(self) -> list[dict[str, Any]]:
        """Return the entries that changed weights."""
        return [entry for entry in self._entries if entry["kind"] == WEIGHTS]

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __eq__(self, other: object) -> bool:
        return self._entries == other._entries if isinstance(other, History) else NotImplemented

    def __hash__(self) -> int:
        return hash(len(self._entries))


def _without_position(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in {"epoch", "batch"}}


def _exclusions_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Exclusion, ...]:
    found: list[Exclusion] = []
    for entry in entries:
        at = At(entry["epoch"], entry["batch"], entry["world_size"])
        # In the order of the calls: a seek moves only the exclusions that were made before it.
        if entry["kind"] == EXCLUDE:
            found.append(Exclusion(at, SampleSet.of(entry["ids"])))
        elif entry["kind"] == SEEK:
            epoch, batch = entry["to"]
            target = At(epoch, batch, at.world_size)
            found = [_moved(each, target) for each in found]
    return tuple(found)


def _moved(exclusion: Exclusion, target: At) -> Exclusion:
    is_later = exclusion.at.on(target.world_size) > (target.epoch, target.batch)
    return exclusion._replace(at=target) if is_later else exclusion


NO_HISTORY = History()
