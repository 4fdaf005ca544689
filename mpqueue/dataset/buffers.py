"""A buffer of elements in a lane, of which the next one is picked: `shuffle(buffer=)`.

    fill     elements of the input until the buffer is full; nothing is given
    swap     each element takes the place of one that is picked, and given
    drain    the input has ended: what is left is put in a random order once, and given

Which one is picked follows from `mpqueue.seeding.picks`.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mpqueue.dataset.held import as_saved, together
from mpqueue.dataset.nodes import ShuffleNode
from mpqueue.dataset.stages import Block, LaneStage, LinkStage, Token, tokens_of
from mpqueue.seeding.picks import Numbers, Picks
from mpqueue.worker.lanes import LaneRun

_FEW = 24  # elements that are swapped one by one: NumPy takes some 12 us for any number of them
_MOST_OF_RADIX = 1 << 16  # up to which NumPy sorts numbers by a radix, in a tenth of the time


class FullBuffer:
    """The elements of a buffer that is full.

    They lie in arrays, and a block of them is swapped by some calls of NumPy: a worker has several lanes, whose
    buffers are in no cache when their turn comes. A token that is an int is there as eight bytes and no object. With
    lists and a loop in Python an element took 0.2 to 0.4 us in 16 lanes, and takes 0.1 now (blocks of 900).

    Args:
        values: The elements,
        tokens: and of each its token.
    """

    def __init__(self, values: Sequence[Any], tokens: Sequence[Token]) -> None:
        self.values, self.tokens = np.fromiter(values, object, len(values)), _column(tokens)

    def swap(self, values: list[Any], tokens: Sequence[Token], picks: Numbers) -> Block:
        """Put elements into the buffer, one after the other, each in the place of one that is picked; return those."""
        new = _column(tokens)
        # One token that is no int, as behind a stage that makes tuples of them, makes objects of all.
        if new.dtype != self.tokens.dtype:
            new, self.tokens = new.astype(object), self.tokens.astype(object)
        if len(values) <= _FEW:
            return self._swap_each(values, new, picks)
        came = np.fromiter(values, object, len(values))
        # What is picked twice is at the second time the element that was put there at the first.
        order = np.argsort(picks.astype(np.uint16) if len(self.values) <= _MOST_OF_RADIX else picks, kind="stable")
        ordered = picks[order]
        (again,) = np.nonzero(ordered[1:] == ordered[:-1])
        later, earlier = order[again + 1], order[again]
        left, left_tokens = self.values[picks], self.tokens[picks]
        left[later], left_tokens[later] = came[earlier], new[earlier]
        self.values[picks], self.tokens[picks] = came, new  # of those for one place the last one stays
        return left.tolist(), _plain(left_tokens)

    def _swap_each(self, values: list[Any], new: np.ndarray[Any, Any], picks: Numbers) -> Block:
        held, held_tokens = self.values, self.tokens
        for at, pick in enumerate(picks.tolist()):
            values[at], held[pick] = held[pick], values[at]
            new[at], held_tokens[pick] = held_tokens[pick], new[at]
        return values, _plain(new)


def _column(tokens: Sequence[Token]) -> np.ndarray[Any, Any]:
    """Return tokens as an array of its own: of int64 if they are such."""
    if type(tokens) is array:
        return np.array(tokens)
    try:
        return np.fromiter(tokens, np.int64, len(tokens))
    except (OverflowError, TypeError, ValueError):
        return np.fromiter(tokens, object, len(tokens))


def _plain(tokens: np.ndarray[Any, Any]) -> Sequence[Token]:
    """Return an array of tokens as a sequence of them: of ints, each is made when it is asked for."""
    return tokens.tolist() if tokens.dtype == object else array("q", tokens.tobytes())


class ShuffleStage(LinkStage):
    """The elements of its input in another order.

    Args:
        source, node, run: See `LinkStage`.
    """

    def __init__(self, source: LaneStage, node: ShuffleNode, run: LaneRun) -> None:
        super().__init__(source, node, run)
        assert node.buffer is not None  # a permutation of the whole is of what is indexed
        self._size = node.buffer
        self._values: list[Any] = []  # while the buffer is filled, or drained: from the end on
        self._tokens: list[Token] = []
        self._full: FullBuffer | None = None
        self._picks, self._next_pick = Picks(self.seed, run.epoch, run.lane), 0
        self._is_draining = False
        self._num_drained = 0  # elements that were held when the input ended

    def pull(self, count: int) -> Block:
        """Return the next elements; the first call takes as many from the input as the buffer holds."""
        if not self._is_draining:
            full = self._full or self._filled()
            if full is not None:
                values, tokens = self._input.pull(count)
                if tokens:
                    return self._swap(full, values, tokens)
                self._begin_to_drain(full)
        # From the end: to take from the front of a list moves all that is behind it.
        values, tokens = self._values[-count:][::-1], self._tokens[-count:][::-1]
        del self._values[-count:], self._tokens[-count:]
        self.num_out += len(tokens)
        return values, tokens

    def _filled(self) -> FullBuffer | None:
        """Fill the buffer; None: the input has ended before."""
        while len(self._tokens) < self._size:
            # What came before an error stays: the next call goes on to fill.
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

    def _swap(self, full: FullBuffer, values: list[Any], tokens: Sequence[Token]) -> Block:
        """Put elements into the buffer, and return those that are picked."""
        started = self._clock_in()
        # The number of a pick is that of the element, so that the order knows nothing of blocks.
        block = full.swap(values, tokens, self._picks.take(self._next_pick, len(tokens), self._size))
        self._next_pick += len(tokens)
        self.num_in += len(tokens)
        self.num_out += len(tokens)
        self._clock_out(started)
        return block

    def _begin_to_drain(self, full: FullBuffer) -> None:
        self._order(full.values.tolist(), full.tokens.tolist())
        self._full = None

    def _order(self, values: list[Any], tokens: list[Token]) -> None:
        order = self._picks.order(len(tokens))
        self._values, self._tokens = [values[at] for at in order], [tokens[at] for at in order]
        self._is_draining, self._num_drained = True, len(tokens)

    def save_to(self, states: list[Any], held: Sequence[Token]) -> None:
        """Add the tokens of what is held, and the number of the next pick."""
        tokens = self._tokens if self._full is None else _plain(self._full.tokens)
        states.append({
            "held": as_saved(tokens), "pick": self._next_pick, "draining": self._is_draining,
            "key": self._picks.key, "size": self._num_drained if self._is_draining else self._size,
        })  # fmt: skip
        self._input.save_to(states, together(held, tokens))

    def load_from(self, states: Iterator[Any]) -> None:
        """Go to where this was saved; what was held is computed again."""
        state = next(states)
        self._input.load_from(states)
        self._tokens = tokens_of(state["held"])
        self._values = self._input.rebuild(self._tokens)
        self._next_pick, self._is_draining = state["pick"], state["draining"]
        self._num_drained = state.get("size", self._num_drained)
