"""The stage `batch`.

The last batch stage of a stream collates into the granted slot. Samples with large arrays are read one by one, so that
each is copied to its row while it is in the CPU cache. Small samples are read in one block.

A batch remains open if its input raises, and the next call continues it. Its samples are then copied out of the slot,
because the error is sent to the trainer in the same slot.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from mpqueue.dataset.description.nodes import Collate, LaneOpening, LinkNode, Traits
from mpqueue.dataset.indexed.merged import MergingReader
from mpqueue.dataset.lanes.gates import admitted
from mpqueue.dataset.lanes.merging import OfTuples
from mpqueue.dataset.lanes.stages import Block, LaneStage, Token
from mpqueue.dataset.lanes.tokens import as_saved, together
from mpqueue.dataset.lanes.user_calls import no_element
from mpqueue.plan.options.batching import Choice, collation_of
from mpqueue.samples.collate import Collation
from mpqueue.samples.leaves import Empty
from mpqueue.worker import context
from mpqueue.worker.runners.lanes import LaneRun


def _extended(tokens: Any, more: Sequence[Token]) -> Any:
    """Append tokens to a list; arrays of tokens remain arrays, which needs no Python object per token."""
    if type(more) is array and not tokens:
        return more[:]
    if type(tokens) is array and type(more) is not array:
        tokens = tokens.tolist()
    tokens.extend(more)
    return tokens


class BatchReader(MergingReader):
    """Batches of elements."""

    node: "BatchNode"

    def _first(self, position: int) -> int:
        return position * self.node.size


class BatchStage(OfTuples):
    """Batches of the elements of its input.

    Args:
        source, node, run: See `LinkStage`.
        is_last: Whether this is the last stage of the lane.
    """

    node: "BatchNode"

    def __init__(self, source: LaneStage, node: "BatchNode", run: LaneRun, *, is_last: bool = False) -> None:
        super().__init__(source, node, run)
        self._size = node.size
        self._collate, self._ragged = collation_of(node.collate)
        # Only a batch that leaves the lane is written to a slot. Other batches are input of later stages.
        self._empty: Empty = context.empty if is_last else np.empty
        self._keeps_records = is_last and run.in_slot
        self._refuse_none = partial(no_element, node.input, self.stage_index - 1)
        self._values: list[Any] = []  # elements of a batch that an error cut short
        self._is_last = is_last
        self._tokens: Any = []  # an `array` of ints, or a list
        self._are_large = True  # whether elements are large; the first one is read alone

    def pull(self, count: int) -> Block:
        """Return the next batch; its token is the tuple of its elements' tokens."""
        while True:
            collation = self._collation()
            self._fill(collation)
            # Reset the batch before `collate` is called: if it raises, the batch is dropped, and the next batch begins
            # with the following elements.
            tokens, self._tokens = self._tokens, []
            values, self._values = self._values, []
            if not tokens or (self.node.drop_last and len(tokens) < self._size):
                return [], []
            made = self.calls.made(tokens, partial(self._join, collation, values, tokens))
            if made:
                self.search.end()
                self.num_out += 1
                # Only the ids of the samples are read from the token of the last stage: it needs no copy.
                return made, [tokens if self._is_last else tuple(tokens)]

    def _collation(self) -> Collation | None:
        if self._collate is not None:
            return None
        return Collation(
            self._size,
            self._empty,
            keeps_records=self._keeps_records,
            refuse_none=self._refuse_none,
            ragged=self._ragged,
        )

    def _fill(self, collation: Collation | None) -> None:
        """Read elements until the batch is full or the input is exhausted."""
        if self._tokens:  # an error has cut the batch short
            self._values, self._tokens = admitted(self, self._values, self._tokens)
        if collation is not None:
            collation.add_all(self._values)
            self._values = []
        try:
            while len(self._tokens) < self._size:
                # Large samples one by one: each is copied to its row while it is in the CPU cache.
                is_single = collation is not None and self._are_large
                values, tokens = self._input.pull(1 if is_single else self._size - len(self._tokens))
                if not tokens:
                    break
                self.num_in += len(tokens)
                values, tokens = admitted(self, values, tokens)
                if collation is not None and self.run.skip is not None:
                    values, tokens = self._without_none(values, tokens)
                if not tokens:
                    continue
                self._tokens = _extended(self._tokens, tokens)
                if collation is None:
                    self._values += values
                else:
                    self._add(collation, values)
        except BaseException:
            if collation is not None:
                # The error is sent to the trainer in the slot that contains these samples, so they are copied out of
                # it.
                self._values = collation.take_back()
            raise

    def _without_none(self, values: list[Any], tokens: Sequence[Token]) -> Block:
        """Return the elements that are not None. The others cannot be part of a batch, and are skipped one by one."""
        missing = [at for at, value in enumerate(values) if value is None]
        for at in missing:
            self.calls.handles(self._refuse_none(tokens[at]), tokens[at])
        if not missing:
            return values, tokens
        kept = [at for at in range(len(values)) if at not in missing]
        return [values[at] for at in kept], [tokens[at] for at in kept]

    def _add(self, collation: Collation, values: list[Any]) -> None:
        """Add elements. The first one determines whether the following ones are read one by one."""
        collation.add(values[0])
        self._are_large = collation.adder() == collation.add
        if self._are_large:
            for value in values[1:]:
                collation.add(value)
        else:
            collation.add_all(values[1:])

    def join(self, values: list[Any], tokens: Sequence[Token]) -> Any:
        """Return a batch of elements, which is not in the slot: that belongs to the next batch."""
        collation = None
        if self._collate is None:
            collation = Collation(len(values), np.empty, refuse_none=self._refuse_none, ragged=self._ragged)
            collation.add_all(values)
        return self._join(collation, values, list(tokens))

    def _join(self, collation: Collation | None, values: list[Any], tokens: list[Token]) -> Any:
        if collation is not None:
            return collation.finish(tokens)
        assert self._collate is not None
        self.calls.begin(tokens[0])
        return self._collate(values)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the open batch."""
        inner = [token for batch in held for token in batch]
        states.append({"open": as_saved(self._tokens)})
        self._input.get_state(states, together(inner, self._tokens))

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state, and compute the elements of the open batch again."""
        state = next(states)
        self._input.set_state(states)
        self._values, self._tokens = self._input.held(state["open"])

    def num_by_input(self, tokens: Sequence[Token]) -> Mapping[int, int] | None:
        """Return the indices of the elements in these batches."""
        return self._input.num_by_input(tokens[0] if len(tokens) == 1 else [each for batch in tokens for each in batch])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BatchNode(LinkNode):
    """Batches of ``size`` elements.

    Attributes:
        size: The number of elements in a batch.
        drop_last: Whether to drop a last batch with fewer elements.
        collate: A function that makes a batch from a list of elements, or the choice of ragged fields; None for
            `mpqueue.samples.collate`.
    """

    name: ClassVar[str] = "batch"
    traits: ClassVar[Traits] = Traits(merges=True, makes_batches=True, keeps_prefix=True)
    reader: ClassVar[Any] = BatchReader
    size: int
    drop_last: bool = False
    collate: Collate | Choice | None = None

    def length_by(self, lengths: Sequence[int | None]) -> int | None:
        """Return the number of batches."""
        (length,) = lengths
        if length is None:
            return None
        return length // self.size if self.drop_last else -(-length // self.size)

    def num_read(self, position: int, at: int, lengths: Sequence[int | None]) -> int:
        """Return the number of elements in the batches before an index."""
        return position * self.size

    def order_line(self) -> str:
        """Return the stage without the name of ``collate``."""
        return f"batch({self.size}{', drop_last=True' if self.drop_last else ''})"

    def open(self, opening: LaneOpening, run: LaneRun, *, is_last: bool = False) -> LaneStage:
        """Open this stage and those before it in a lane."""
        return BatchStage(opening.input(self, run), self, run, is_last=is_last)
