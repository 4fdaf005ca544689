"""The stage `batch` of a lane.

The last batch stage of a stream collates into the granted slot. Samples with large arrays are read one by one, so that
each is copied to its row while it is in the CPU cache. Small samples are read in one block.

A batch remains open if its input raises, and the next call continues it. Its samples are then copied out of the slot,
because the error is sent to the trainer in the same slot.
"""

from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from mpqueue.dataset.held import as_saved, together
from mpqueue.dataset.nodes import BatchNode
from mpqueue.dataset.stages import Block, LaneStage, LinkStage, Token, tokens_of
from mpqueue.samples.collate import Collation
from mpqueue.samples.leaves import Empty
from mpqueue.worker import context
from mpqueue.worker.lanes import LaneRun


def _extended(tokens: Any, more: Sequence[Token]) -> Any:
    """Append tokens to a list; arrays of tokens remain arrays, which needs no Python object per token."""
    if type(more) is array and not tokens:
        return more[:]
    if type(tokens) is array and type(more) is not array:
        tokens = tokens.tolist()
    tokens.extend(more)
    return tokens


class BatchStage(LinkStage):
    """Batches of the elements of its input.

    Args:
        source, node, run: See `LinkStage`.
        is_last: Whether this is the last stage of the lane.
    """

    node: BatchNode

    def __init__(self, source: LaneStage, node: BatchNode, run: LaneRun, *, is_last: bool = False) -> None:
        super().__init__(source, node, run)
        self._size, self._collate = node.size, node.collate
        # Only a batch that leaves the lane is written to a slot. Other batches are input of later stages.
        self._empty: Empty = context.empty if is_last else np.empty
        self._keeps_records = is_last and run.in_slot
        self._values: list[Any] = []  # elements of a batch that an error interrupted
        self._is_last = is_last
        self._tokens: Any = []  # an `array` of ints, or a list
        self._are_large = True  # whether elements are large; the first one is read alone

    def pull(self, count: int) -> Block:  # noqa: ARG002 - always one batch
        """Return the next batch; its token is the tuple of its elements' tokens."""
        while True:
            collation = self._collation()
            self._fill(collation)
            # Reset the batch before `collate` is called: if it raises, the batch is dropped, and the next batch begins
            # with the
            # following elements.
            tokens, self._tokens = self._tokens, []
            values, self._values = self._values, []
            if not tokens or (self.node.drop_last and len(tokens) < self._size):
                return [], []
            made = self._made(tokens, partial(self._join, collation, values, tokens))
            if made:
                self.num_out += 1
                return made, [() if self._is_last else tuple(tokens)]  # the token of the last stage is not used

    def _collation(self) -> Collation | None:
        if self._collate is not None:
            return None
        return Collation(
            self._size, self._empty, keeps_records=self._keeps_records, refuse_none=self.refuse_none
        )  # fmt: skip

    def _fill(self, collation: Collation | None) -> None:
        """Read elements until the batch is full or the input is exhausted."""
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

    def _add(self, collation: Collation, values: list[Any]) -> None:
        """Add elements. The first one determines whether the following ones are read one by one."""
        collation.add(values[0])
        self._are_large = collation.adder() == collation.add
        if self._are_large:
            for value in values[1:]:
                collation.add(value)
        else:
            collation.add_all(values[1:])

    def _join(self, collation: Collation | None, values: list[Any], tokens: list[Token]) -> Any:
        if collation is not None:
            return collation.finish(tokens)
        assert self._collate is not None
        self.begin(tokens[0])
        return self._collate(values)

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the open batch."""
        inner = [token for batch in held for token in batch]
        states.append({"open": as_saved(self._tokens)})
        self._input.save_to(states, together(inner, self._tokens))

    def load_from(self, states: Iterator[Any]) -> None:
        """Restore a saved state, and compute the elements of the open batch again."""
        state = next(states)
        self._input.load_from(states)
        self._tokens = tokens_of(state["open"])
        self._values = self._input.rebuild(self._tokens) if self._tokens else []

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these batches, built again from their elements."""
        values = self._input.rebuild([token for batch in tokens for token in batch])
        made, first = [], 0
        for batch in tokens:
            part = values[first : first + len(batch)]
            first += len(batch)
            # Not in the slot, which belongs to the next batch.
            collation = (
                None if self._collate is not None else Collation(len(batch), np.empty, refuse_none=self.refuse_none)
            )
            if collation is not None:
                collation.add_all(part)
            made.append(self._join(collation, part, list(batch)))
        return made
