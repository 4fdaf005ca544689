"""The shuffle buffer of a lane: `shuffle(buffer=...)`.

    fill     read elements until the buffer is full; return none
    swap     each new element replaces a picked one, which is returned
    drain    the input is exhausted: shuffle the remaining elements once, and return them

`mpqueue.seeding.picks` determines which element is picked.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mpqueue.dataset.description.nodes import LinkNode, Traits
from mpqueue.dataset.indexed.readers import IndexedRun, Positions, ReaderMaker
from mpqueue.dataset.indexed.reordering import PickReader
from mpqueue.dataset.lanes.ahead import AheadStage
from mpqueue.dataset.lanes.stages import Block, LaneStage, LinkStage, Token
from mpqueue.dataset.lanes.tokens import as_saved, together
from mpqueue.seeding.permutation import SampleOrder
from mpqueue.seeding.picks import Numbers, Picks, SavedBuffer
from mpqueue.worker import context
from mpqueue.worker.runners.lanes import LaneRun

_FEW = 24  # elements that are swapped one by one; the NumPy calls take about 12 us for any number of elements
_MAX_ORDERS = 8  # permutations that a reader keeps
_MOST_OF_RADIX = 1 << 16  # up to this size NumPy uses a radix sort, which takes a tenth of the time


class FullBuffer:
    """A full shuffle buffer.

    The elements are stored in arrays, and a few NumPy calls swap a whole block. A worker has several lanes, and their
    buffers are not in the CPU cache when they are used. Integer tokens take eight bytes each, without a Python
    object. Lists and a Python loop take 0.2 to 0.4 us per element in 16 lanes, the arrays 0.1 us (blocks of 900).

    Args:
        values: The elements.
        tokens: The token of each element.
    """

    def __init__(self, values: Sequence[Any], tokens: Sequence[Token]) -> None:
        self.values, self.tokens = np.fromiter(values, object, len(values)), _column(tokens)

    def swap(self, values: list[Any], tokens: Sequence[Token], picks: Numbers) -> Block:
        """Put each element into the buffer in place of a picked one, and return the picked ones in order."""
        new = _column(tokens)
        # A single non-int token, as after a stage that makes tuples of tokens, turns the whole column into objects.
        if new.dtype != self.tokens.dtype:
            new, self.tokens = new.astype(object), self.tokens.astype(object)
        if len(values) <= _FEW:
            return self._swap_each(values, new, picks)
        incoming = np.fromiter(values, object, len(values))
        # If the same place is picked twice in a block, the second pick returns the element that the first one put
        # there.
        order = np.argsort(picks.astype(np.uint16) if len(self.values) <= _MOST_OF_RADIX else picks, kind="stable")
        ordered = picks[order]
        (again,) = np.nonzero(ordered[1:] == ordered[:-1])
        later, earlier = order[again + 1], order[again]
        removed, removed_tokens = self.values[picks], self.tokens[picks]
        removed[later], removed_tokens[later] = incoming[earlier], new[earlier]
        self.values[picks], self.tokens[picks] = incoming, new  # with repeated indices, the last assignment wins
        return removed.tolist(), _plain(removed_tokens)

    def _swap_each(self, values: list[Any], new: np.ndarray[Any, Any], picks: Numbers) -> Block:
        held, held_tokens = self.values, self.tokens
        for at, pick in enumerate(picks.tolist()):
            values[at], held[pick] = held[pick], values[at]
            new[at], held_tokens[pick] = held_tokens[pick], new[at]
        return values, _plain(new)


def _column(tokens: Sequence[Token]) -> np.ndarray[Any, Any]:
    """Return a new array of tokens, of int64 if all are integers that fit."""
    if type(tokens) is array:
        return np.array(tokens)
    if type(tokens) is range:
        return np.arange(tokens.start, tokens.stop, tokens.step)
    try:
        return np.fromiter(tokens, np.int64, len(tokens))
    except (OverflowError, TypeError, ValueError):
        return np.fromiter(tokens, object, len(tokens))


def _plain(tokens: np.ndarray[Any, Any]) -> Sequence[Token]:
    """Return an array of tokens as a sequence. For integers it is an `array`, which creates objects on access."""
    return tokens.tolist() if tokens.dtype == object else array("q", tokens.tobytes())


class ShuffleReader(PickReader):
    """A permutation of the whole dataset."""

    node: "ShuffleNode"

    def __init__(self, node: "ShuffleNode", maker: ReaderMaker) -> None:
        super().__init__(node, maker)
        self._orders: dict[int, SampleOrder] = {}  # by seed

    def before(self, positions: Positions, run: IndexedRun) -> Positions:
        """Return the indices of these elements of the permutation in the input."""
        # The keys of a permutation depend only on the seed. A loader uses one seed in all epochs; a stage that several
        # others read has one seed for each of them.
        seed = self.order_seed(run)
        order = self._orders.get(seed)
        if order is None:
            if len(self._orders) >= _MAX_ORDERS:
                del self._orders[next(iter(self._orders))]
            info = context.worker_info_unasked()
            world = 1 if info is None else info.world
            order = self._orders[seed] = SampleOrder(seed, shuffle=True, world=world)
        assert self.length is not None
        return order.at(run.epoch, self.length, positions)


class ShuffleStage(LinkStage):
    """The elements of its input in shuffled order.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: "ShuffleNode", run: LaneRun) -> None:
        super().__init__(source, node, run)
        assert node.buffer is not None  # without a buffer, shuffle is a stage of indexed datasets
        self._size = node.buffer
        self._values: list[Any] = []  # while filling, or while draining from the end
        self._tokens: list[Token] = []
        self._full: FullBuffer | None = None
        self._picks, self._next_pick = Picks(self.order_seed, run.epoch, run.lane), 0
        self._is_draining = False
        self._num_drained = 0  # elements in the buffer when the input ended
        self._entry = source if isinstance(source, AheadStage) else None
        # Whatever the entry has read ahead is picked at once, because a swap of few elements takes about as long as one
        # of hundreds.
        self._picked: Block = [], ()
        self._num_ahead = 0  # the last ones of these have not been returned
        self._keep = run.gate.keep  # when they were picked

    def pull(self, count: int) -> Block:
        """Return the next elements. The first call fills the buffer."""
        if self.run.gate.keep is not self._keep:
            self._keep = self.run.gate.keep
            self._put_back()  # excluded ones among the elements that were read ahead do not enter the buffer
        if not self._is_draining:
            full = self._full or self._filled()
            if full is not None:
                if self._num_ahead or self._pick(full, count):
                    return self._next_picked(count)
                self._begin_to_drain(full)
        # From the end: removing from the front of a list moves all the elements after it.
        values, tokens = self._values[-count:][::-1], self._tokens[-count:][::-1]
        del self._values[-count:], self._tokens[-count:]
        self.num_out += len(tokens)
        return values, tokens

    def _pick(self, full: FullBuffer, count: int) -> bool:
        """Put elements into the buffer in place of picked ones; return False at the end of the input."""
        values, tokens = self._input.pull(count) if self._entry is None else self._entry.pull_waiting(count)
        if not tokens:
            return False
        started = self.clock.start()
        # A pick and its element have the same index, so that the order does not depend on the block size.
        self._picked = full.swap(values, tokens, self._picks.take(self._next_pick, len(tokens), self._size))
        self._next_pick += len(tokens)
        self._num_ahead = len(tokens)
        self.clock.stop(started)
        return True

    def _next_picked(self, count: int) -> Block:
        values, tokens = self._picked
        first = len(values) - self._num_ahead
        end = min(first + count, len(values))
        self._num_ahead = len(values) - end
        if not self._num_ahead:
            self._picked = [], ()  # do not hold elements that were returned
        self.num_in += end - first
        self.num_out += end - first
        return values[first:end], tokens[first:end]

    def is_ahead(self) -> bool:
        """Return whether elements wait in this stage, or in one before it."""
        return self._num_ahead > 0 or super().is_ahead()

    def _put_back(self) -> None:
        """Undo the picks ahead, so that the held elements follow from the number of returned elements."""
        count, self._num_ahead = self._num_ahead, 0
        if count:
            assert self._full is not None
            assert self._entry is not None
            values, tokens = self._picked
            self._next_pick -= count
            # The same swaps from the last to the first one.
            picks = self._picks.take(self._next_pick, count, self._size)[::-1]
            values, tokens = self._full.swap(values[: -count - 1 : -1], tokens[: -count - 1 : -1], picks)
            self._entry.put_back(values[::-1], tokens[::-1])

    def _filled(self) -> FullBuffer | None:
        """Fill the buffer; return None if the input ends before it is full."""
        while len(self._tokens) < self._size:
            # Elements that arrived before an error remain, and the next call continues to fill.
            values, tokens = self._input.pull(self._size - len(self._tokens))
            self._values += values
            self._tokens += tokens
            self.num_in += len(tokens)
            if not tokens:
                self._order(self._values, self._tokens)
                return None
        self._full = full = FullBuffer(self._values, self._tokens)
        self._values, self._tokens = [], []
        return full

    def _begin_to_drain(self, full: FullBuffer) -> None:
        self._order(full.values.tolist(), full.tokens.tolist())
        self._full = None

    def _order(self, values: list[Any], tokens: list[Token]) -> None:
        order = self._picks.order(len(tokens))
        self._values, self._tokens = [values[at] for at in order], [tokens[at] for at in order]
        self._is_draining, self._num_drained = True, len(tokens)

    def get_state(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of the buffer and the index of the next pick."""
        self._put_back()
        tokens = self._tokens if self._full is None else _plain(self._full.tokens)
        size = self._num_drained if self._is_draining else self._size
        saved = SavedBuffer(as_saved(tokens), self._next_pick, self._is_draining, self._picks.key, size)
        states.append(saved._asdict())
        self._input.get_state(states, together(held, tokens))

    def set_state(self, states: Iterator[Any]) -> None:
        """Restore a saved state, and compute the elements of the buffer again."""
        saved = SavedBuffer.of(next(states))
        assert saved is not None
        self._input.set_state(states)
        self._values, self._tokens = self._input.held(saved.held)
        self._next_pick, self._is_draining, self._num_drained = saved.pick, saved.draining, saved.size


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ShuffleNode(LinkNode):
    """The elements in shuffled order.

    Attributes:
        buffer: The number of elements in the shuffle buffer of a lane; None for a permutation of the whole dataset.
    """

    name: ClassVar[str] = "shuffle"
    traits: ClassVar[Traits] = Traits(passes_elements=True, draws_order=True)
    reader: ClassVar[Any] = ShuffleReader
    lane_stage: ClassVar[Any] = ShuffleStage
    buffer: int | None = None

    def own_traits(self) -> Traits:
        """Return the traits: a buffer reads its input in order and makes a stream, a permutation does neither."""
        has_buffer = self.buffer is not None
        return self.traits._replace(keeps_order=has_buffer, makes_stream=has_buffer)
