"""The stage `bucket` of a lane: batches of samples of similar lengths.

Each sample goes into the bucket of its length. A bucket with enough samples becomes a batch. At the end, the remaining
buckets follow in order. The token of a batch is the tuple of its samples' tokens. A batch is collated only when it is
returned, so the stage holds samples, not batches.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import index
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mpqueue.dataset.description.nodes import Collate, Function, LaneOpening, LinkNode, Traits
from mpqueue.dataset.lanes.applied import Applied
from mpqueue.dataset.lanes.gates import admitted
from mpqueue.dataset.lanes.merging import OfTuples
from mpqueue.dataset.lanes.stages import Block, LaneStage, Token, token_of
from mpqueue.dataset.lanes.user_calls import no_element
from mpqueue.plan.options.batching import Choice, collation_of
from mpqueue.samples.leaves import Empty
from mpqueue.samples.padding import PaddedCollation
from mpqueue.telemetry.stage_rows import StageRow
from mpqueue.worker import context
from mpqueue.worker.runners.lanes import LaneRun


class _Held(NamedTuple):
    """A sample in a bucket."""

    value: Any
    token: Token
    length: int


class BucketStage(OfTuples, Applied):
    """Batches of samples of similar lengths.

    Args:
        source, node, run: See `LinkStage`.
        is_last: Whether this is the last stage of the lane.
    """

    node: "BucketNode"

    def __init__(self, source: LaneStage, node: "BucketNode", run: LaneRun, *, is_last: bool = False) -> None:
        super().__init__(source, node, run)
        self._boundaries, self._max_tokens = node.boundaries, node.max_tokens
        self._sizes = _sizes(node)
        # Only a batch that leaves the lane is written to a slot. Other batches are input of later stages.
        self._empty: Empty = context.empty if is_last else np.empty
        self._keeps_records = is_last and run.in_slot
        self._refuse_none = partial(no_element, node.input, self.stage_index - 1)
        self._buckets: list[list[_Held]] = [[] for _ in range(len(node.boundaries) + 1)]
        self._ready: list[list[_Held]] = []  # full buckets that are not collated yet
        self._positions = self._padding = self._num_dropped = 0

    def pull(self, count: int) -> Block:
        """Return the next batch; its token is the tuple of its samples' tokens."""
        while self._fill():
            bucket = self._ready.pop(0)
            bucket, tokens = admitted(self, bucket, [held.token for held in bucket])
            if not tokens:
                continue
            # Collate only now, so that a snapshot holds samples and no batch.
            made = self.calls.made(tokens, partial(self.join, [held.value for held in bucket], tokens, self._empty))
            if not made:
                continue
            positions = max(held.length for held in bucket) * len(bucket)
            self._positions += positions
            self._padding += positions - sum(held.length for held in bucket)
            self.num_out += 1
            return made, [tuple(tokens)]
        return [], []

    def _fill(self) -> bool:
        """Read samples until a bucket is full; return False at the end of the input."""
        while not self._ready:
            # Do not read past the sample that fills a bucket: an error there belongs to a later batch.
            values, tokens = self._take(self._missing())
            if not tokens:
                self._empty_buckets()
                break
            values, tokens = admitted(self, values, tokens)
            started = self.clock.start()
            self._each(self._put, values, tokens)
            self.clock.stop(started)
        return bool(self._ready)

    def _put(self, value: Any, token: Token) -> None:
        """Put a sample into its bucket."""
        sample = _Held(value, token, self._length_of(value))
        index = bisect_right(self._boundaries, sample.length)
        size = self._sizes[index]
        if size is None:
            assert self._max_tokens is not None
            longest = max([sample.length, *[held.length for held in self._buckets[index]]])
            size = self._max_tokens // max(1, longest)
            if len(self._buckets[index]) >= size:  # this sample is too long to fit with the others
                self._close(index)
                size = self._max_tokens // max(1, sample.length)
        self._buckets[index].append(sample)
        if len(self._buckets[index]) >= size:
            self._close(index)

    def _close(self, index: int) -> None:
        self._ready.append(self._buckets[index])
        self._buckets[index] = []

    def _missing(self) -> int:
        """Return the number of samples that can be read without passing the one that fills a bucket."""
        missing = zip(self._sizes, self._buckets, strict=True)
        return min(1 if size is None else size - len(bucket) for size, bucket in missing)

    def _length_of(self, value: Any) -> int:
        result = self.node.length_of(value)
        try:
            length = index(result)
        except TypeError:
            raise TypeError(
                f"{self.line}: length must return the length of a sample as an int, got "
                f"{type(result).__name__}: {result!r}"
            ) from None
        if length < 0:
            raise ValueError(f"{self.line}: the length of a sample must be 0 or more, got {length}")
        if self._max_tokens is not None and length > self._max_tokens:
            raise ValueError(
                f"{self.line}: the length of a sample must be at most max_tokens={self._max_tokens}, got {length}: "
                "remove such samples with filter, or cut them with map"
            )
        return length

    def _empty_buckets(self) -> None:
        """Close the remaining buckets at the end, or drop them with ``drop_last``."""
        left = [bucket for bucket in self._buckets if bucket]
        self._buckets = [[] for _ in self._buckets]
        if self.node.drop_last:
            self._num_dropped += sum(map(len, left))
        else:
            self._ready += left

    def join(self, values: list[Any], tokens: Sequence[Token], empty: Empty = np.empty) -> Any:
        """Return a batch of samples."""
        self.calls.begin(tokens[0])
        collate, ragged = collation_of(self.node.collate)
        if collate is not None:
            return collate(values)
        collation = PaddedCollation(
            len(values), empty, keeps_records=self._keeps_records, refuse_none=self._refuse_none, ragged=ragged
        )
        collation.add_all(values)
        return collation.finish(tokens)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of all samples that are held."""
        buckets, ready = [
            [[sample.token for sample in bucket] for bucket in some] for some in (self._buckets, self._ready)
        ]
        inside = [*chain(*held), *chain(*buckets), *chain(*ready)]
        self._save_with(states, inside, {"buckets": buckets, "ready": ready})

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state."""
        state = self._load_own(states)
        saved = [[token_of(token) for token in bucket] for bucket in [*state["buckets"], *state["ready"]]]
        values = self.parts_again(saved)
        # A snapshot has no lengths: they follow from the samples, which are computed again.
        filled = [
            [_Held(value, token, self._length_of(value)) for value, token in zip(samples, tokens, strict=True)]
            for samples, tokens in zip(values, saved, strict=True)
        ]
        self._buckets, self._ready = filled[: len(self._buckets)], filled[len(self._buckets) :]

    def count_to(self, rows: list[StageRow]) -> None:
        """Add the rows of the inputs and of this stage, and two rows about padding and dropped samples."""
        super().count_to(rows)
        rows += [
            (f"{self.row_name}: places padded", self._positions, self._padding, 0, 0),
            (f"{self.row_name}: samples left out", self.num_in, self._num_dropped, 0, 0),
        ]


def _sizes(node: "BucketNode") -> Sequence[int | None]:
    """Return the batch size of each bucket, or None where it depends on the longest sample in the bucket."""
    if node.batch_sizes is not None:
        return node.batch_sizes
    assert node.max_tokens is not None
    return [*[max(1, node.max_tokens // above) for above in node.boundaries], None]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BucketNode(LinkNode):
    """Batches of elements of similar lengths.

    Attributes:
        length_of: A function that returns the length of an element.
        boundaries: Ascending lengths. Bucket n has lengths below boundary n and not below boundary n - 1.
        batch_sizes: A batch size for each bucket, one more than boundaries; None if ``max_tokens`` determines them.
        max_tokens: The limit of the number of elements in a batch times the greatest length among them.
        drop_last: Whether to drop incomplete batches at the end of the stream.
        collate: A function that makes a batch from a list of elements, or the choice of ragged fields; None for
            `mpqueue.samples.padding`.
    """

    name: ClassVar[str] = "bucket"
    traits: ClassVar[Traits] = Traits(makes_stream=True, merges=True, makes_batches=True)
    length_of: Function
    boundaries: tuple[int, ...]
    batch_sizes: tuple[int, ...] | None = None
    max_tokens: int | None = None
    drop_last: bool = False
    collate: Collate | Choice | None = None

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> LaneStage:
        """Open this stage and those before it in a lane."""
        return BucketStage(opening.input(self, run), self, run, is_last=is_last)
