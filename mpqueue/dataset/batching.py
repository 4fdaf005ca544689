"""So many elements of a lane as one: `batch`.

The last batch stage of a stream collates into the granted slot. Samples with large arrays are taken one by one, so that
each is written at its row while it is in the processor's cache; small ones in one block. A batch that an error comes
into stays open, and goes on with the next call: what lies in the slot is copied out of it, because the error goes to
the trainer in that slot.
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
    """Add tokens to a list of them; as long as all come in arrays it is one, without an object for each."""
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
        is_last: What it gives is what the lane gives, one by one.
    """

    node: BatchNode

    def __init__(self, source: LaneStage, node: BatchNode, run: LaneRun, *, is_last: bool = False) -> None:
        super().__init__(source, node, run)
        self._size, self._collate = node.size, node.collate
        # Only a batch that leaves the lane lies in a slot: another one is for the stages behind.
        self._empty: Empty = context.empty if is_last else np.empty
        self._keeps_records = is_last and run.in_slot
        self._values: list[Any] = []  # of a batch that an error came into
        self._is_last = is_last
        self._tokens: Any = []  # an `array` of ints, or a list
        self._are_large = True  # the elements; the first one is taken alone

    def pull(self, count: int) -> Block:  # noqa: ARG002 - one at a time, which is no less than asked for
        """Return the next batch, whose token is the tuple of its elements' tokens."""
        while True:
            collation = self._collation()
            self._fill(collation)
            # Before it is made: where `collate` raises, the batch is given up, and the next one begins with what
            # follows.
            tokens, self._tokens = self._tokens, []
            values, self._values = self._values, []
            if not tokens or (self.node.drop_last and len(tokens) < self._size):
                return [], []
            made = self._made(tokens, partial(self._join, collation, values, tokens))
            if made:
                self.num_out += 1
                return made, [() if self._is_last else tuple(tokens)]  # nobody asks for that of the last stage

    def _collation(self) -> Collation | None:
        if self._collate is not None:
            return None
        return Collation(
            self._size, self._empty, keeps_records=self._keeps_records, refuse_none=self.refuse_none
        )  # fmt: skip

    def _fill(self, collation: Collation | None) -> None:
        """Take elements until the batch is full, or the input has ended."""
        if collation is not None:
            collation.add_all(self._values)
            self._values = []
        try:
            while len(self._tokens) < self._size:
                # Large samples one by one: each is written at its row while it lies in the processor's cache.
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
                # The error goes to the trainer in the slot in which these lie: they are copied out of it.
                self._values = collation.take_back()
            raise

    def _add(self, collation: Collation, values: list[Any]) -> None:
        """Add elements; by the first one it is known whether those behind it are to come one by one."""
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
        """Add the tokens of the batch that is open."""
        inner = [token for batch in held for token in batch]
        states.append({"open": as_saved(self._tokens)})
        self._input.save_to(states, together(inner, self._tokens))

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved; the elements of the open batch are computed again."""
        state = next(states)
        self._input.load_from(states)
        self._tokens = tokens_of(state["open"])
        self._values = self._input.rebuild(self._tokens) if self._tokens else []

    def rebuild(self, tokens: Sequence[Token]) -> list[Any]:
        """Return these batches, made again of their elements."""
        values = self._input.rebuild([token for batch in tokens for token in batch])
        made, first = [], 0
        for batch in tokens:
            part = values[first : first + len(batch)]
            first += len(batch)
            # Not in the slot, which is that of the batch to come.
            collation = (
                None if self._collate is not None else Collation(len(batch), np.empty, refuse_none=self.refuse_none)
            )
            if collation is not None:
                collation.add_all(part)
            made.append(self._join(collation, part, list(batch)))
        return made
